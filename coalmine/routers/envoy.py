"""Moves one model's users between its slots in Envoy, without a control plane.

A split is written to the files that Envoy watches (`xds`); what Envoy serves by is read from its
admin interface, so an edit by hand, or an update that it refused, is seen as it is.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coalmine.errors import RouteConflict, RouterUnavailable
from coalmine.rollout.ports import TrafficSplit
from coalmine.routers.xds import ROUTES, XdsFiles, cluster_name, model_routes, version_of
from coalmine.slots import Slot

USERS = "users"  # the listener's prefix in Envoy's statistics
TAKEN_UP_WITHIN_S = 5.0  # it takes some 5 ms
ADMIN_TIMEOUT_S = 2.0


class EnvoyRouter:
    """The router of `model`.

    config_folder: where the environment's Envoy watches its files.
    admin_address: `host:port` of that Envoy's admin interface.
    timeout_s: after which a request to the model is answered 504.
    """

    def __init__(self, model: str, config_folder: Path, admin_address: str, timeout_s: float) -> None:
        self._model = model
        self._files = XdsFiles(config_folder)
        self._admin = admin_address
        self._timeout_s = timeout_s

    def declare(self, ports: Mapping[Slot, int]) -> None:
        """Where the servers of both slots listen on this machine, running or not. Idempotent.

        Comes before the first split.

        Raises:
            RouterUnavailable: safe to retry.
        """
        refused = self._updates_refused("cluster_manager.cds")
        self._files.set_clusters(self._model, ports)
        self._await_taken_up("cluster_manager.cds", self._files.clusters_path, refused)

    def set_split(self, split: TrafficSplit) -> None:
        """As the port says; when it returns, Envoy routes by `split`."""
        if not self._files.has_clusters(self._model):
            raise RouterUnavailable(
                f"Envoy has not been told where the servers of {self._model} listen. Run the delivery again: "
                "it declares them first."
            )
        subscription = f"http.{USERS}.rds.{ROUTES}"
        refused = self._updates_refused(subscription)
        self._files.set_split(self._model, split, self._timeout_s)
        self._await_taken_up(subscription, self._files.routes_path, refused)

    def observed_split(self) -> TrafficSplit | None:
        """As the port says.

        Raises:
            RouteConflict: the route was changed by another hand into what is no split of the two slots.
        """
        dump = json.loads(self._get("/config_dump?resource=dynamic_route_configs"))
        routes = [route for config in dump.get("configs", []) for route in _routes(config)]
        ours = [route for route in routes if route.get("name") == self._model]
        return self._split(ours[0]) if ours else None

    def _split(self, route: dict[str, Any]) -> TrafficSplit:
        clusters = route["route"].get("weighted_clusters", {}).get("clusters", [])
        weights = {cluster["name"]: cluster.get("weight", 0) for cluster in clusters}
        split = {slot: weights.get(cluster_name(self._model, slot), 0) for slot in Slot}
        if sum(split.values()) != 100 or sum(weights.values()) != 100:
            raise RouteConflict(
                f"The route of {self._model} in {self._files.routes_path} was changed by another hand: "
                f"it sends {weights or route['route']}, which is no split between blue and green. "
                "Take the change back, or run the delivery again to overwrite it."
            )
        return TrafficSplit(split)

    def _updates_refused(self, subscription: str) -> str:
        return self._stat(f"{subscription}.update_rejected")

    def _await_taken_up(self, subscription: str, path: Path, refused_before: str) -> None:
        """Until Envoy has the file as it is now: another model's later change holds ours as well."""
        deadline = time.monotonic() + TAKEN_UP_WITHIN_S
        while self._stat(f"{subscription}.version_text").strip('"') != version_of(path):
            if self._updates_refused(subscription) != refused_before:
                raise RouterUnavailable(
                    f"Envoy refused the update in {self._files.folder} and serves as before. Its log "
                    "says why: .coalmine/local/logs/envoy.log"
                )
            if time.monotonic() > deadline:
                raise RouterUnavailable(
                    f"Envoy at {self._admin} did not take up {self._files.folder} within "
                    f"{TAKEN_UP_WITHIN_S:g} s: the machine may be overloaded, or that is another Envoy. "
                    "Run again; if it stays so: coalmine down, then coalmine up."
                )
            time.sleep(0.005)

    def _stat(self, name: str) -> str:
        """The value of one of Envoy's statistics, "" where it has none."""
        said = self._get(f"/stats?filter=^{name}$")
        return said.partition(":")[2].strip()

    def _get(self, path: str) -> str:
        connection = http.client.HTTPConnection(self._admin, timeout=ADMIN_TIMEOUT_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise RouterUnavailable(
                f"Envoy does not answer on {self._admin} ({error}). Start the local stack: coalmine up"
            ) from error
        finally:
            connection.close()
        if response.status != 200:
            raise RouterUnavailable(
                f"Envoy's admin interface answers {response.status} to {path}: {body[:200]}"
            )
        return body


def _routes(config: dict[str, Any]) -> list[dict[str, Any]]:
    route_configuration = config.get("route_config", {})
    return model_routes([route_configuration]) if route_configuration.get("virtual_hosts") else []
