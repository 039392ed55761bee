"""Envoy's configuration as files: the routes and clusters of every model of one environment.

    <folder>/clusters.json   both slots of every model, with their endpoints
    <folder>/routes.json     which of a model's requests go to which slot, as `routes` has it

Envoy watches the folder and takes a file up when it is replaced; each replacement has a version
of its own, so that one can tell what Envoy has taken up. Changes are made under a lock: models
share the files. What Envoy made of them is `envoy`'s to find out.
"""

from __future__ import annotations

import fcntl
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson

from coalmine.durable import replace_bytes
from coalmine.errors import MachineUnready, RouteConflict, RouterUnavailable
from coalmine.rollout.ports import TrafficSplit
from coalmine.routers.routes import cluster_name, cookies_given, is_of, model_of, routes_of
from coalmine.slots import Slot

Json = dict[str, Any]
T = TypeVar("T")

ROUTES = "models"  # the name of the one route configuration
# Everything is on this machine, but while a server ends the kernel may ask a connection to try again in
# a second (`coalmine.serving.host`).
CONNECT_TIMEOUT_S = 2
# Below the keep-alive of a model server (30 s), and below the second that it still serves after SIGTERM: a
# request sent on a connection that the server is just closing would fail, and count against the release.
IDLE_TIMEOUT_S = 0.5

_API = "type.googleapis.com/envoy"


@dataclass(frozen=True)
class Versioned:
    """The resources of a file, and the version by which Envoy reports that it has them."""

    version: str
    resources: list[Json]


class XdsFiles:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clusters_path = folder / "clusters.json"
        self.routes_path = folder / "routes.json"

    def prepare(self) -> None:
        """Envoy starts only when both files are there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if not self.clusters_path.exists():
                _write(self.clusters_path, [])
            if not self.routes_path.exists():
                _write(self.routes_path, [_route_configuration([])])

    def set_clusters(self, model: str, ports: Mapping[Slot, int]) -> None:
        """The endpoints of `model`'s slots on loopback.

        Raises:
            RouterUnavailable: the file cannot be written.
            RouteConflict: the file was edited by hand and cannot be read.
        """
        ours = {cluster_name(model, slot): _cluster(cluster_name(model, slot), ports[slot]) for slot in Slot}

        def change(resources: list[Json]) -> list[Json]:
            others = [cluster for cluster in resources if cluster["name"] not in ours]
            return sorted([*others, *ours.values()], key=lambda cluster: str(cluster["name"]))

        self._change(self.clusters_path, change)

    def has_clusters(self, model: str) -> bool:
        names = [cluster["name"] for cluster in _read(self.clusters_path).resources]
        return all(cluster_name(model, slot) in names for slot in Slot)

    def set_split(self, model: str, split: TrafficSplit, timeout_s: float) -> None:
        """`model`'s routes. Raises as `set_clusters` does, and `Unsupported` as `routes_of`."""

        def change(resources: list[Json]) -> list[Json]:
            present = _models_routes(resources)
            given = cookies_given([route for route in present if is_of(route, model)])
            others = [route for route in present if not is_of(route, model)]
            ours = routes_of(model, split, timeout_s, given)
            return [_route_configuration(sorted([*others, *ours], key=model_of))]

        self._change(self.routes_path, change)

    def _change(self, path: Path, change: Callable[[list[Json]], list[Json]]) -> None:
        try:
            with self._locked():
                present = _read(path)
                wanted = change(present.resources)
                if wanted != present.resources:
                    _write(path, wanted)
        except MachineUnready as error:
            raise RouterUnavailable(str(error)) from error
        except FileNotFoundError as error:
            raise RouterUnavailable(
                f"There is no {error.filename}: start the local stack: coalmine up"
            ) from error
        except (KeyError, TypeError, IndexError) as error:
            raise _unreadable(path) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def version_of(path: Path) -> str:
    """The version by which Envoy reports that it has the file."""
    return _read(path).version


def _models_routes(resources: list[Json]) -> list[Json]:
    """All routes but the two that are Envoy's own answers."""
    routes = resources[0]["virtual_hosts"][0]["routes"]
    return [route for route in routes if route not in (_HEALTHZ, _NOT_FOUND)]


def _route_configuration(routes: list[Json]) -> Json:
    return {
        "@type": f"{_API}.config.route.v3.RouteConfiguration",
        "name": ROUTES,
        # Without it a route to a cluster that nobody declared would be taken up.
        "validate_clusters": True,
        "virtual_hosts": [{"name": ROUTES, "domains": ["*"], "routes": [_HEALTHZ, *routes, _NOT_FOUND]}],
    }


_HEALTHZ: Json = {
    "name": "(healthz)",
    "match": {"path": "/healthz"},
    "direct_response": {"status": 200, "body": {"inline_string": "ok\n"}},
}
_NOT_FOUND: Json = {
    "name": "(not found)",
    "match": {"prefix": "/"},
    "direct_response": {"status": 404, "body": {"inline_string": "no model is served under this path"}},
}


def _cluster(name: str, port: int) -> Json:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    http = {
        "@type": f"{_API}.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"idle_timeout": f"{IDLE_TIMEOUT_S}s"},
        "explicit_http_config": {"http_protocol_options": {}},
    }
    return {
        "@type": f"{_API}.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": f"{CONNECT_TIMEOUT_S}s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }


def _read(path: Path) -> Versioned:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Versioned(str(content["version_info"]), list(content["resources"]))
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(path) from error


def _write(path: Path, resources: list[Json]) -> None:
    version = secrets.token_hex(8)
    # Envoy looks at what is moved into the folder, not at what is being written there.
    # By orjson: Python's own indenting takes half a second with a hundred models, and orjson milliseconds.
    content = {"version_info": version, "resources": resources}
    replace_bytes(path, orjson.dumps(content, option=orjson.OPT_INDENT_2))


def _unreadable(path: Path) -> RouteConflict:
    return RouteConflict(
        f"{path} is written by coalmine and cannot be read: another hand was there. Delete it and run "
        "`coalmine down`, then `coalmine up`: the routes are written anew from the slots."
    )
