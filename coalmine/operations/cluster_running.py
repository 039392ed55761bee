"""What runs of an environment on a cluster: one list of each kind, and one query, for all its models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from coalmine.cluster.client import Cluster, ClusterRefuses, ClusterUnavailable, Json
from coalmine.cluster.kinds import AUTOSCALER, CONFIG_MAP, DEPLOYMENT, POD, Kind
from coalmine.drift.facts import Difference, RouteFacts, Running, RunningModels, Server, SlotFacts
from coalmine.drift.findings import Aspect
from coalmine.errors import RouteConflict, Unavailable
from coalmine.reconcilers.drifted import lacks
from coalmine.reconcilers.pods import DIGEST, digest_of
from coalmine.routers import hands
from coalmine.routers.cluster_route import route_name
from coalmine.routers.technology import Technology
from coalmine.slots import Slot, Slots
from coalmine.spec import ModelSpec
from coalmine.telemetry.pods import NAME, SLOT
from coalmine.wiring import Adapters

AT_ONCE = 8  # models that are looked at at the same time: a route that is not accepted yet is waited for
COMPARED = (DEPLOYMENT, CONFIG_MAP)
_LEFT_TO_KUSTOMIZE = "config.kubernetes.io/"


@dataclass(frozen=True)
class Seen:
    """What was read for all models at once. digests: what servers say that they serve, by pod. wanted: the
    objects that Git has, by model; None where they could not be built. scaled: Deployments that an autoscaler
    owns the replicas of."""

    cluster: Cluster
    technology: Technology
    digests: Mapping[str, str]
    wanted: Mapping[str, Sequence[Json]] | None
    scaled: frozenset[str]


def autoscaled(cluster: Cluster) -> frozenset[str]:
    """
    Raises:
        ClusterUnavailable, ClusterRefuses: as `Cluster`.
    """
    targets = (each["spec"]["scaleTargetRef"] for each in cluster.list(AUTOSCALER))
    return frozenset(each["name"] for each in targets if each["kind"] == DEPLOYMENT.kind)


def by_model(objects: Sequence[Json]) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for each in objects:
        if model := (each["metadata"].get("labels") or {}).get(NAME):
            found.setdefault(model, []).append(each)
    return found


def running(seen: Seen, models: Sequence[tuple[ModelSpec, Slots, Adapters]]) -> RunningModels:
    with ThreadPoolExecutor(AT_ONCE, "watch") as pool:
        found = list(pool.map(lambda each: _running(seen, *each), models))
    return RunningModels({spec.name: of for (spec, _, _), of in zip(models, found, strict=True)})


def _running(seen: Seen, spec: ModelSpec, slots: Slots, chosen: Adapters) -> Running:
    unread: dict[Aspect, str] = {}
    of_slots: dict[Slot, SlotFacts] = {}
    route = None
    try:
        of_slots = {slot: _slot(seen, spec.name, slots, slot, chosen) for slot in Slot}
    except (Unavailable, ClusterRefuses) as error:
        unread[Aspect.SERVERS] = str(error)
    if slots.releases:
        try:
            route = _route(seen, spec.name, chosen)
        except (Unavailable, ClusterRefuses) as error:
            unread[Aspect.ROUTE] = str(error)
    return Running(of_slots, route, unread)


# --- the route ---------------------------------------------------------------------------


def _route(seen: Seen, model: str, chosen: Adapters) -> RouteFacts:
    technology = seen.technology
    body = seen.cluster.get(technology.kind, route_name(model))
    if body is None:
        where = f"in namespace {seen.cluster.namespace}"
        return RouteFacts(missing=f"no {technology.kind.kind} {route_name(model)} {where}")
    is_held = hands.memory_of(body).split is not None
    try:
        return RouteFacts(chosen.router.observed_split(), is_held=is_held)
    except RouteConflict as error:
        owned = hands.other_controller(body, technology.rules_in) is not None
        return RouteFacts(foreign=str(error), is_owned=owned, is_held=is_held)


# --- a slot ------------------------------------------------------------------------------


def _slot(seen: Seen, model: str, slots: Slots, slot: Slot, chosen: Adapters) -> SlotFacts:
    name = f"{model}-{slot}"
    deployment = seen.cluster.get(DEPLOYMENT, name)
    if deployment is None:
        return SlotFacts()
    servers = [Server(f"the Deployment {name}", digest_of(deployment)), *_pods(seen, model, slot)]
    status = chosen.reconciler.status(slot)
    if slot not in slots.releases or seen.wanted is None:
        return SlotFacts(status, tuple(servers))
    differences = list(_differences(seen, model, name))
    return SlotFacts(
        status,
        tuple(servers),
        configuration=tuple(each for each in differences if not _is_image(each) and not _is_replicas(each)),
        image=tuple(each for each in differences if _is_image(each)),
        replicas=next((each for each in differences if _is_replicas(each)), None),
    )


def _pods(seen: Seen, model: str, slot: Slot) -> Iterator[Server]:
    """Those that take requests. One that says nothing is taken at the word of its template."""
    for pod in seen.cluster.list(POD, {NAME: model, SLOT: slot.value}):
        conditions = {each["type"]: each["status"] for each in pod.get("status", {}).get("conditions", [])}
        if conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]:
            name = pod["metadata"]["name"]
            yield Server(name, seen.digests.get(name) or pod["metadata"].get("annotations", {}).get(DIGEST))


def _differences(seen: Seen, model: str, name: str) -> Iterator[Difference]:
    assert seen.wanted is not None
    for wanted in seen.wanted.get(model, ()):
        kind = next((each for each in COMPARED if each.kind == wanted["kind"]), None)
        if kind is None or wanted["metadata"]["name"] != name:
            continue
        live = seen.cluster.get(kind, name)
        if live is None:
            yield Difference(f"the {kind.kind} {name}", "as Git has it", "none")
            continue
        for path, asked, there in _confirmed(seen, kind, wanted, live):
            yield Difference(f"the {kind.kind} {name}: {path}", asked, there)


def _confirmed(seen: Seen, kind: Kind, wanted: Json, live: Json) -> list[tuple[str, str, str]]:
    """What differs of what Git asks for, and would not if it were applied anew: the API server has spellings
    of its own. Whoever may not ask it is left with the first."""
    found = _lacks(seen, wanted, live)
    if found:
        with suppress(ClusterRefuses, ClusterUnavailable):
            applied = seen.cluster.apply(wanted, kind.plural, force=True, dry_run=True)
            same = {path for path, _, _ in _lacks(seen, wanted, applied)}
            return [each for each in found if each[0] not in same]
    return found


def _lacks(seen: Seen, wanted: Json, live: Json) -> list[tuple[str, str, str]]:
    return [
        each
        for each in lacks(wanted, live)
        if _LEFT_TO_KUSTOMIZE not in each[0]
        and not (each[0] == "spec.replicas" and wanted["metadata"]["name"] in seen.scaled)
    ]


def _is_image(difference: Difference) -> bool:
    return difference.what.endswith(".image")


def _is_replicas(difference: Difference) -> bool:
    return difference.what.endswith(": spec.replicas")
