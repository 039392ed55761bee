"""Moves one model's users between its slots in Envoy, without a control plane.

A split is written to the files that Envoy watches (`xds`); what Envoy serves by is read from its
admin interface, so an edit by hand, or an update that it refused, is seen as it is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from coalmine.endpoint import Answer, Endpoint, Unreachable
from coalmine.errors import RouteConflict, RouterUnavailable
from coalmine.rollout.ports import Routing, TrafficSplit
from coalmine.routers.routes import ForeignRoute, split_of
from coalmine.routers.xds import ROUTES, XdsFiles, version_of
from coalmine.slots import Slot

USERS = "users"  # the listener's prefix in Envoy's statistics
SUBSCRIPTION = f"http.{USERS}.rds.{ROUTES}"
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
        self._admin = Endpoint(admin_address, ADMIN_TIMEOUT_S)
        self._timeout_s = timeout_s
        self._taken_up: tuple[int, bytes] | None = None  # what `_split` is as of
        self._split: TrafficSplit | None = None

    def supports(self) -> frozenset[Routing]:
        return frozenset(Routing)

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
        refused = self._updates_refused(SUBSCRIPTION)
        self._files.set_split(self._model, split, self._timeout_s)
        self._await_taken_up(SUBSCRIPTION, self._files.routes_path, refused)

    def observed_split(self) -> TrafficSplit | None:
        """As the port says. Envoy is asked for its routes only when it has taken up others: with a
        hundred models they are two hundred kB."""
        answer = self._get(f"/stats?filter=^{SUBSCRIPTION}.(update_success|version_text)$")
        taken_up = (answer.connection, answer.body)
        if taken_up != self._taken_up:
            self._split = self._split_in(self._dumped_routes())
            self._taken_up = taken_up
        return self._split

    def give_back(self) -> None:
        """Nobody else writes this route: what was set stays."""

    def _split_in(self, routes: list[dict[str, Any]]) -> TrafficSplit | None:
        try:
            return split_of(self._model, routes)
        except ForeignRoute as error:
            raise RouteConflict(
                f"The route of {self._model} in {self._files.routes_path} was changed by another hand: "
                f"{error}. Take the change back, or run the delivery again to overwrite it."
            ) from error

    def _dumped_routes(self) -> list[dict[str, Any]]:
        try:
            dump = orjson.loads(self._get("/config_dump?resource=dynamic_route_configs").body)
            configs = [each.get("route_config", {}) for each in dump.get("configs", [])]
        except (ValueError, AttributeError) as error:
            raise RouterUnavailable(
                f"What answers on {self._admin.address} does not say its routes: is that Envoy?"
            ) from error
        hosts = [host for config in configs for host in config.get("virtual_hosts", [])]
        return [route for host in hosts for route in host.get("routes", [])]

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
                    f"Envoy at {self._admin.address} did not take up {self._files.folder} within "
                    f"{TAKEN_UP_WITHIN_S:g} s: the machine may be overloaded, or that is another Envoy. "
                    "Run again; if it stays so: coalmine down, then coalmine up."
                )
            time.sleep(0.005)

    def _stat(self, name: str) -> str:
        """The value of one of Envoy's statistics, "" where it has none."""
        said = self._get(f"/stats?filter=^{name}$").body.decode()
        return said.partition(":")[2].strip()

    def _get(self, path: str) -> Answer:
        try:
            answer = self._admin.get(path)
        except Unreachable as error:
            raise RouterUnavailable(
                f"Envoy does not answer on {self._admin.address} ({error}). "
                "Start the local stack: coalmine up"
            ) from error
        if answer.status != 200:
            raise RouterUnavailable(
                f"Envoy's admin interface answers {answer.status} to {path}: {answer.body[:200]!r}"
            )
        return answer
