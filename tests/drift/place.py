"""An environment as a look sees it: at rest, and with one thing in it that is not as Git says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from coalmine.drift.facts import (
    CloneFacts,
    Difference,
    EnvironmentFacts,
    FluxFacts,
    ModelFacts,
    Moment,
    Recorded,
    Rollback,
    RolloutFacts,
    RouteFacts,
    Running,
    Server,
    SlotFacts,
)
from coalmine.drift.findings import Aspect, Kind
from coalmine.rollout.ports import Match, SlotHealth, SlotStatus, TrafficSplit, UserKey
from coalmine.slots import Slot, SlotRelease, Slots

MODEL, ENVIRONMENT = "late-payment", "production"
OLD, NEW, NEXT = (
    SlotRelease(version=version, commit=version, model_digest=version[2] * 64)
    for version in ("1.0.0", "1.1.0", "1.2.0")
)
AT_REST = Slots(
    environment=ENVIRONMENT, model=MODEL, stable=Slot.GREEN, releases={Slot.BLUE: OLD, Slot.GREEN: NEW}
)
READY = SlotStatus(SlotHealth.READY)
DRIVEN = RolloutFacts("20261127-1.2.0", "1.2.0", is_driven=True)


def serving(slots: Slots) -> dict[Slot, SlotFacts]:
    """What runs where all is as `slots` says."""
    return {
        slot: SlotFacts(READY, (Server(f"{slots.model}-{slot}", slots.releases[slot].model_digest),))
        if slot in slots.releases
        else SlotFacts()
        for slot in Slot
    }


def at_rest(slots: Slots = AT_REST) -> ModelFacts:
    assert slots.stable is not None
    route = RouteFacts(TrafficSplit.all_to(slots.stable))
    return ModelFacts(slots.model, Moment(slots), Running(serving(slots), route))


def rolling_out(weight_percent: int = 25) -> ModelFacts:
    """1.2.0 has so many of the users, and its runner is alive."""
    slots = AT_REST.with_candidate(NEXT)
    route = RouteFacts(TrafficSplit.canary(Slot.BLUE, weight_percent), is_held=True)
    return ModelFacts(MODEL, Moment(slots, DRIVEN), Running(serving(slots), route))


def environment(*models: ModelFacts, at_s: float = 1_000_000.0, **changes: Any) -> EnvironmentFacts:
    return replace(EnvironmentFacts(ENVIRONMENT, at_s, models or (at_rest(),)), **changes)


# --- one thing that is not as Git says ---------------------------------------------------


@dataclass(frozen=True)
class Divergence:
    kind: Kind
    facts: EnvironmentFacts
    says: str  # words of the finding
    types: str  # what its remedy has one type


def _slot(slot: Slot = Slot.GREEN, **changes: Any) -> ModelFacts:
    facts = at_rest()
    changed = replace(facts.running.slots[slot], **changes)
    return replace(facts, running=replace(facts.running, slots={**facts.running.slots, slot: changed}))


def _route(route: RouteFacts) -> ModelFacts:
    facts = at_rest()
    return replace(facts, running=replace(facts.running, route=route))


def _recorded(**changes: Any) -> ModelFacts:
    return replace(at_rest(), recorded=Recorded(**changes))


def _moment(change: Callable[[Moment], Moment], facts: ModelFacts | None = None) -> ModelFacts:
    facts = facts or at_rest()
    return replace(facts, moment=change(facts.moment))


def _empty_blue() -> ModelFacts:
    emptied = AT_REST.model_copy(update={"releases": {Slot.GREEN: NEW}})
    return replace(at_rest(emptied), running=at_rest().running)


CHOSEN = Match(UserKey("header", "x-group"), "beta")
DIVERGENCES: dict[str, Divergence] = {
    "the clone lags behind": Divergence(
        Kind.CLONE_BEHIND,
        environment(clone=CloneFacts("origin/main", behind=2)),
        "2 commits there",
        "git pull",
    ),
    "the clone went another way": Divergence(
        Kind.CLONE_DIVERGED,
        environment(clone=CloneFacts("origin/main", ahead=1, behind=2)),
        "1 commit here alone",
        "git pull",
    ),
    "a record that nobody pushed": Divergence(
        Kind.NOT_PUSHED, environment(clone=CloneFacts("origin/main", ahead=1)), "nobody else has", "git push"
    ),
    "slots edited by hand": Divergence(
        Kind.RECORD_UNREADABLE,
        environment(
            replace(
                at_rest(), moment=Moment(None), recorded=Recorded("slots.yaml cannot be read: no. git log")
            )
        ),
        "cannot be read",
        "git log",
    ),
    "a slot with another digest than its release": Divergence(
        Kind.RECORD_DIFFERS,
        environment(_recorded(differs={Slot.GREEN: Difference("1.1.0 with digest", "abc", "def")})),
        "def",
        f"coalmine verify {MODEL}",
    ),
    "a tag without a manifest": Divergence(
        Kind.TAG_WITHOUT_MANIFEST,
        environment(_recorded(untagged={f"{MODEL}@v9.9.9": "no manifest at commit abc"})),
        "no manifest",
        "git tag --delete",
    ),
    "a release that nobody delivered": Divergence(
        Kind.NOT_DELIVERED,
        environment(_recorded(waiting=("1.2.0", 1_000_000.0 - 100_000))),
        "more than 24 hours",
        f"coalmine deliver {MODEL} -e production --version 1.2.0",
    ),
    "an object that the DVC remote lost": Divergence(
        Kind.BYTES_LOST,
        environment(_recorded(lost={"models/m/model.skops": "model.skops of 1.1.0, 0a1b"})),
        "no such object",
        "dvc push",
    ),
    "a rollout whose runner is gone": Divergence(
        Kind.RUNNER_GONE,
        environment(
            _moment(lambda moment: replace(moment, rollout=replace(DRIVEN, is_driven=False)), rolling_out())
        ),
        "no gate watches",
        f"coalmine abort {MODEL}",
    ),
    "a rollback that is not recorded": Divergence(
        Kind.ROLLBACK_WAITS,
        environment(_moment(lambda moment: replace(moment, rollback=Rollback("1.1.0", "1.0.0", True)))),
        "its users are on 1.0.0",
        f"coalmine rollback {MODEL}",
    ),
    "weights moved by hand": Divergence(
        Kind.ROUTE_WEIGHTS,
        environment(_route(RouteFacts(TrafficSplit.canary(Slot.BLUE, 30)))),
        "30 % on 1.0.0, 70 % on 1.1.0",
        "coalmine deliver",
    ),
    "users chosen by hand": Divergence(
        Kind.ROUTE_WEIGHTS,
        environment(_route(RouteFacts(TrafficSplit({Slot.GREEN: 100, Slot.BLUE: 0}, 0, CHOSEN, Slot.BLUE)))),
        "x-group=beta to blue",
        "coalmine deliver",
    ),
    "requests copied by hand": Divergence(
        Kind.ROUTE_WEIGHTS,
        environment(_route(RouteFacts(TrafficSplit({Slot.GREEN: 100, Slot.BLUE: 0}, 50)))),
        "50 % copied",
        "coalmine deliver",
    ),
    "a route that was deleted": Divergence(
        Kind.ROUTE_MISSING, environment(_route(RouteFacts(missing="it is not there"))), "not there", "deliver"
    ),
    "a route that leads nowhere": Divergence(
        Kind.ROUTE_MISSING, environment(_route(RouteFacts())), "no route", "coalmine deliver"
    ),
    "a route that another hand rewrote": Divergence(
        Kind.ROUTE_FOREIGN,
        environment(_route(RouteFacts(foreign="The route leads elsewhere. Take the change back"))),
        "leads elsewhere",
        "Take the change back",
    ),
    "a route that another controller owns": Divergence(
        Kind.ROUTE_FOREIGN,
        environment(_route(RouteFacts(foreign="It belongs to Flagger. Take it out", is_owned=True))),
        "Flagger",
        "Take it out",
    ),
    "a route that was never given back": Divergence(
        Kind.ROUTE_HELD,
        environment(_route(RouteFacts(TrafficSplit.all_to(Slot.GREEN), is_held=True))),
        "never gave back",
        "coalmine deliver",
    ),
    "a local stack that is down": Divergence(
        Kind.STACK_DOWN, environment(stack_down="the local stack is down"), "no supervisor", "coalmine up"
    ),
    "a server that died": Divergence(
        Kind.SERVER_DOWN,
        environment(_slot(status=SlotStatus(SlotHealth.FAILED, "out of memory"), servers=())),
        "failed: out of memory",
        "coalmine deliver",
    ),
    "a server that nobody runs": Divergence(
        Kind.SERVER_DOWN,
        environment(_slot(Slot.BLUE, status=None, servers=())),
        "nothing",
        "coalmine deliver",
    ),
    "a server in an empty slot": Divergence(
        Kind.SERVER_UNASKED, environment(_empty_blue()), f"{MODEL}-blue with release 000", "coalmine deliver"
    ),
    "a server with another release": Divergence(
        Kind.OTHER_RELEASE,
        environment(_slot(servers=(Server("pod-1", NEW.model_digest), Server("pod-2", "f" * 64)))),
        "pod-2 with release ffff",
        "coalmine deliver",
    ),
    "a model file that was swapped": Divergence(
        Kind.FILES_CHANGED,
        environment(_slot(changed_files="model.skops is not what was released. Take it away")),
        "not what was released",
        "Take it away",
    ),
    "a configuration that was edited": Divergence(
        Kind.CONFIGURATION,
        environment(_slot(configuration=(Difference("Deployment: TIMEOUT_S", "5", "60"),))),
        "60",
        "coalmine deliver",
    ),
    "an image that was set by hand": Divergence(
        Kind.IMAGE,
        environment(_slot(image=(Difference("Deployment: image", "a@sha256:1", "b:latest"),))),
        "b:latest",
        "coalmine deliver",
    ),
    "replicas that were scaled by hand": Divergence(
        Kind.REPLICAS,
        environment(_slot(replicas=Difference("Deployment: replicas", "3", "1"))),
        "1",
        "coalmine deliver",
    ),
    "Flux that is suspended": Divergence(
        Kind.FLUX_SUSPENDED,
        environment(flux=FluxFacts("suspended", "It is suspended. flux resume source git shop")),
        "suspended",
        "flux resume",
    ),
    "Flux on another branch": Divergence(
        Kind.FLUX_ELSEWHERE,
        environment(flux=FluxFacts("elsewhere", "It follows the branch dev. Make them one: spec.ref.branch")),
        "the branch dev",
        "spec.ref.branch",
    ),
    "Flux that cannot apply": Divergence(
        Kind.FLUX_STOPPED,
        environment(flux=FluxFacts("stopped", "The folder does not build. kubectl kustomize k8s")),
        "does not build",
        "kubectl kustomize",
    ),
    "Flux that lags behind": Divergence(
        Kind.FLUX_STALE,
        environment(flux=FluxFacts("stale", "It has an older commit. flux reconcile")),
        "older commit",
        "flux reconcile",
    ),
    "servers that cannot be read": Divergence(
        Kind.UNREADABLE,
        environment(
            replace(at_rest(), running=Running(unread={Aspect.SERVERS: "No answer. coalmine doctor"}))
        ),
        "No answer",
        "coalmine doctor",
    ),
}
