"""What rollouts go through, as a table: what happens, and how it ends.

The numbers are those of the scenarios that the tests of Flagger and Argo Rollouts cover. Each story is
told on a fake clock against the simulated ports, and then replayed from its ticks. A scenario that lies
outside of a rollout names the test that has it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from coalmine.rollout.gates import Verdict
from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import Ask, Match, TrafficSplit, UserKey
from coalmine.rollout.replay import replay
from coalmine.rollout.runner import run
from coalmine.rollout.ticks import fingerprint, tick_from_json
from coalmine.slots import Slot
from tests.rollout.stories import ask, plan, upgrade
from tests.simulators.world import SimulatedCheck, World, first_slots

TOP = Path(__file__).parents[2]
GREEN, BLUE = Slot.GREEN, Slot.BLUE

USUAL = ["started", "candidate_ready", *["stage_started"] * 3, "bake_started", "promoting", "promoted"]
TURNED_AWAY = ["started", "candidate_ready", "stage_started", "rolling_back", "rolled_back"]
BETA = Match(UserKey("header", "x-group"), "beta")
BETA_COOKIE = Match(UserKey("cookie", "group"), "beta")
STICKY = UserKey("header", "x-user")


@dataclass(frozen=True)
class Scenario:
    """
    number: of the peers' scenario; 0: one that they do not have.
    arrange: what is not as usual in this world.
    ends: "promoted", or a part of the reason why it was rolled back.
    weights: what was asked of the router in turn, as the candidate's percent.
    story: the kinds of the events, in order.
    tells: what one of the sentences says.
    """

    title: str
    number: int
    plan: Plan
    ends: str
    weights: list[int]
    arrange: Callable[[World], object] = field(default=lambda _: None)
    story: list[str] | None = None
    tells: str = ""
    splits: list[TrafficSplit] = field(default_factory=list)
    requests_per_s: float = 200.0
    how: dict[str, Any] = field(default_factory=dict)


# --- what happens in a world -----------------------------------------------------------


def failing(share: float) -> Callable[[World], None]:
    return behaving(failing=share)


def when(world: World, true: Callable[[], bool], what: Callable[[], None]) -> None:
    """`what` once, as soon as `true`; looked at every second."""
    done = False

    def look() -> None:
        nonlocal done
        if not done and true():
            done = True
            what()

    for second in range(30, 1500):
        world.at(second, look)


def green_has(world: World, percent: int) -> Callable[[], bool]:
    return lambda: world.router.split is not None and world.router.split.weights[GREEN] == percent


def at_full_weight(what: Callable[[World], None]) -> Callable[[World], None]:
    return lambda world: when(world, green_has(world, 100), lambda: what(world))


def asked(at_s: float, what: Ask, who: str = "Mia") -> Callable[[World], None]:
    return lambda world: world.at(at_s, lambda: ask(world, what, who))


def together(*arrangements: Callable[[World], None]) -> Callable[[World], None]:
    def arrange(world: World) -> None:
        for each in arrangements:
            each(world)

    return arrange


def checked(says: Verdict = Verdict.PASS, later: Verdict | None = None) -> Callable[[World], None]:
    """A check named `hook`; `later` from 100 s on."""

    def arrange(world: World) -> None:
        hook = world.checks["hook"] = SimulatedCheck(says)
        if later is not None:
            world.at(100, lambda: setattr(hook, "says", later))

    return arrange


def approved(who: str = "Ada") -> Callable[[World], None]:
    """Somebody says yes as soon as a person is waited for."""

    def arrange(world: World) -> None:
        when(world, lambda: "needs_approval" in world.journal.story(), lambda: ask(world, Ask.APPROVE, who))

    return arrange


def set_(port: str, **attributes: Any) -> Callable[[World], None]:
    def arrange(world: World) -> None:
        for name, value in attributes.items():
            setattr(getattr(world, port), name, value)

    return arrange


def later(at_s: float, arrangement: Callable[[World], None]) -> Callable[[World], None]:
    return lambda world: world.at(at_s, lambda: arrangement(world))


def behaving(**attributes: Any) -> Callable[[World], None]:
    """The candidate's behaviour."""

    def arrange(world: World) -> None:
        for name, value in attributes.items():
            setattr(world.behaviour[GREEN], name, value)

    return arrange


def all_failing(share: float) -> Callable[[World], None]:
    def arrange(world: World) -> None:
        for arm in world.behaviour.values():
            arm.failing = share

    return arrange


def labelled(share: float) -> Callable[[World], None]:
    return lambda world: setattr(world, "labelled", share)


def crash_looping(world: World) -> None:
    """Its server answers two requests in three, dies, and comes again, every three seconds."""
    world.behaviour[GREEN].failing = 0.3
    for second in range(30, 400, 3):
        world.at(second, lambda: world.telemetry.restart_server(GREEN))


def lowered(world: World) -> None:
    world.router.split = TrafficSplit.canary(GREEN, 1)


HOOK = {"gate": "webhook", "name": "hook", "url": "http://hook.test/", "breaches": 3}
QUERY = {"gate": "query", "name": "hook", "query": "up", "at_least": 1, "breaches": 3}
APPROVAL = {"gate": "approval", "before": "bake"}
SCORES = {"gate": "predictions", "margin": 0.05}
LABELS = {"gate": "quality", "margin": 0.05}
AGREEMENT = {"gate": "agreement", "at_most": 0.02}
DRY = {"gate": "errors", "name": "strict-errors", "dry_run": True}
SHADOW = {"shadow": {"percent": 100}}
ONE_STAGE = {"stages": [50]}
AB = {"strategy": "ab", "users": {"header": "x-group", "value": "beta"}}
AB_COOKIE = {"strategy": "ab", "users": {"cookie": "group", "value": "beta"}}
BLUE_GREEN = {"strategy": "blue-green"}
ALL_BLUE, ALL_GREEN = TrafficSplit.all_to(BLUE), TrafficSplit.all_to(GREEN)

TABLE = [
    Scenario(
        "weights step up, the candidate bakes and is promoted",
        2,
        plan(),
        "promoted",
        [5, 25, 50, 100],
        story=USUAL,
    ),
    Scenario(
        "steps need not be even, and end below 100", 3, plan(stages=[1, 10, 90]), "promoted", [1, 10, 90, 100]
    ),
    Scenario(
        "sustained failures roll back",
        4,
        plan(),
        "requests failed on the candidate",
        [5, 0],
        failing(0.2),
        story=TURNED_AWAY,
    ),
    Scenario(
        "a release that was turned away is sent again on request",
        6,
        plan(),
        "promoted",
        [5, 25, 50, 100],
        how={"asked_by": "Mia", "again": True},
        tells="Started by Mia, once more after it was turned away: 5 % → 25 % → 50 %",
    ),
    Scenario(
        "a newer release brings everybody back first",
        7,
        plan(),
        "superseded by a newer release (Mia)",
        [5, 0],
        asked(38, Ask.SUPERSEDE),
        story=TURNED_AWAY,
    ),
    Scenario(
        "users are not sent back to a stable that is dead",
        8,
        plan(),
        "requests failed on the candidate",
        [5, 25, 50, 100, 0],
        together(
            at_full_weight(together(failing(0.3), set_("reconciler", dead=BLUE))),
            later(400, set_("reconciler", dead=None)),
        ),
        tells="Stable cannot take the users back (it died), so they stay",
    ),
    Scenario(
        "the last step fails after the shift",
        9,
        plan(),
        "requests failed on the candidate",
        [5, 25, 50, 100, 0],
        at_full_weight(failing(0.2)),
    ),
    Scenario(
        "many small steps", 10, plan(stages=[5, 10, 20, 30, 40, 50]), "promoted", [5, 10, 20, 30, 40, 50, 100]
    ),
    Scenario(
        "a candidate that is never ready ends at the progress deadline",
        11,
        plan(),
        "not ready within 30 s",
        [],
        set_("reconciler", ready_after_s=1e9),
    ),
    Scenario(
        "a candidate that cannot start ends at once, in its own words",
        11,
        plan(),
        "no such module",
        [],
        set_("reconciler", failed="no such module"),
    ),
    Scenario(
        "users with a header get the candidate, and gates decide",
        12,
        plan(**AB),
        "promoted",
        [0, 100],
        splits=[TrafficSplit({GREEN: 0, BLUE: 100}, match=BETA, match_to=GREEN), ALL_GREEN],
        tells="the users with beta in the header x-group",
    ),
    Scenario(
        "users with a cookie get a bad candidate",
        12,
        plan(**AB_COOKIE),
        "requests failed on the candidate",
        [0, 0],
        failing(0.2),
        splits=[TrafficSplit({GREEN: 0, BLUE: 100}, match=BETA_COOKIE, match_to=GREEN), ALL_BLUE],
    ),
    Scenario(
        "blue/green: a hook accepts the preview, then everybody at once",
        13,
        plan(HOOK, **BLUE_GREEN),
        "promoted",
        [100],
        checked(),
        tells="preview, the candidate is there for testers alone",
    ),
    Scenario(
        "blue/green: a hook turns the preview away before any user sees it",
        13,
        plan(HOOK, **BLUE_GREEN),
        "it says fail (3 of 3 looks in a row)",
        [],
        checked(Verdict.FAIL),
    ),
    Scenario(
        "blue/green: a person accepts the preview",
        13,
        plan(APPROVAL, **BLUE_GREEN),
        "promoted",
        [100],
        approved(),
        tells="Approved by Ada: approval, before bake.",
    ),
    Scenario(
        "users are drawn, not requests, and nothing of it stays",
        14,
        plan(sticky={"header": "x-user"}),
        "promoted",
        [5, 25, 50, 100],
        splits=[*(TrafficSplit({GREEN: w, BLUE: 100 - w}, sticky=STICKY) for w in (5, 25, 50)), ALL_GREEN],
    ),
    Scenario(
        "what is ended leaves the route as it was",
        15,
        plan(**SHADOW),
        "aborted by Mia",
        [0, 0],
        asked(35, Ask.ABORT),
        splits=[TrafficSplit({GREEN: 0, BLUE: 100}, mirror_percent=100), ALL_BLUE],
    ),
    Scenario(
        "a query without a result holds, and never promotes",
        17,
        plan(QUERY),
        "nothing could be measured for 60 s",
        [5, 0],
        checked(Verdict.ERROR),
        tells="The gate hook holds",
    ),
    Scenario(
        "counters that are no numbers hold, and never promote",
        17,
        plan(),
        "NaN",
        [5, 0],
        later(38, set_("telemetry", error="a counter is NaN")),
    ),
    Scenario(
        "a route that nobody took up is waited for, without a step",
        19,
        plan(),
        "Waiting for the route: the candidate has 0 %, not yet 5 %.",
        [5] * 31,
        set_("router", deaf=True),
    ),
    Scenario(
        "too little evidence holds until the budget ends",
        20,
        plan(hold_budget_s=100, no_data_budget_s=1000),
        "still undecided after 100 s",
        [5, 0],
        requests_per_s=1.0,
    ),
    Scenario(
        "no traffic holds, and never promotes",
        20,
        plan(),
        "No requests reach the candidate.",
        [5, 0],
        requests_per_s=0.0,
    ),
    Scenario(
        "a failing query ends it after so many looks in a row",
        21,
        plan(QUERY),
        "it says fail (3 of 3",
        [5, 0],
        checked(Verdict.FAIL),
        story=TURNED_AWAY,
    ),
    Scenario(
        "a check that waits holds the stage, and lets it go on",
        20,
        plan(HOOK),
        "promoted",
        [5, 25, 50, 100],
        checked(Verdict.INCONCLUSIVE, later=Verdict.PASS),
    ),
    Scenario(
        "abort: who asked, and the exact story",
        22,
        plan(),
        "aborted by Mia",
        [5, 0],
        asked(38, Ask.ABORT),
        story=TURNED_AWAY,
    ),
    Scenario(
        "promote: who asked, and the exact story",
        22,
        plan(),
        "promoted",
        [5, 100],
        asked(38, Ask.PROMOTE),
        story=["started", "candidate_ready", "stage_started", "promoting", "promoted"],
        tells="Promoting: promoted early by Mia.",
    ),
    Scenario(
        "pause and resume: who asked, and the exact story",
        22,
        plan(),
        "promoted",
        [5, 25, 50, 100],
        together(asked(38, Ask.PAUSE), asked(500, Ask.RESUME, "Ada")),
        story=[*USUAL[:3], "paused", "held", "resumed", "measured_again", *USUAL[3:]],
        tells="Resumed by Ada.",
    ),
    Scenario(
        "a gate in dry run never blocks",
        24,
        plan(DRY, gates=[{"gate": "latency", "margin": 0.05}, DRY]),
        "promoted",
        [5, 25, 50, 100],
        failing(0.1),
        tells="strict-errors would have rolled back, and is a dry run",
    ),
    Scenario(
        "a failure in the bake brings everybody back",
        25,
        plan(),
        "requests failed on the candidate",
        [5, 25, 50, 100, 0],
        at_full_weight(failing(0.1)),
    ),
    Scenario(
        "a query that fails in the bake brings everybody back",
        25,
        plan(QUERY),
        "it says fail (3 of 3",
        [5, 25, 50, 100, 0],
        together(
            checked(), at_full_weight(lambda world: setattr(world.checks["hook"], "says", Verdict.FAIL))
        ),
    ),
    # What they do not have.
    Scenario(
        "a weight that somebody lowers is put back, told, and no poll counts it",
        0,
        plan(),
        "promoted",
        [5, 5, 25, 50, 100],
        later(38.5, lowered),
        tells="Somebody moved the route: the candidate has 1 %, set to 5 %",
    ),
    Scenario(
        "a shadow stage finds a bad candidate before any user sees it",
        0,
        plan(**SHADOW),
        "requests failed on the candidate",
        [0, 0],
        failing(0.2),
    ),
    Scenario(
        "a shadow stage, then weights",
        0,
        plan(AGREEMENT, **SHADOW),
        "promoted",
        [0, 5, 25, 50, 100],
        tells="shadow, 100 % of the requests are copied",
    ),
    Scenario(
        "answers that disagree end in the shadow",
        0,
        plan(AGREEMENT, **SHADOW),
        "pairs of answers differ",
        [0, 0],
        lambda world: setattr(world, "disagreeing", 0.1),
    ),
    Scenario(
        "a proxy that counts no copies holds the shadow stage",
        0,
        plan(**SHADOW),
        "does not count mirrored requests",
        [0, 0],
        set_("telemetry", counts_copies=False),
    ),
    Scenario(
        "other scores are found",
        0,
        plan(SCORES, **ONE_STAGE),
        "of the candidate's scores are",
        [50, 0],
        behaving(scoring=(3.0, 5.0)),
    ),
    Scenario("like scores pass", 0, plan(SCORES, **ONE_STAGE), "promoted", [50, 100]),
    Scenario(
        "worse answers are found when their labels come",
        0,
        plan(LABELS, **ONE_STAGE),
        "lost",
        [50, 0],
        behaving(loss=0.25),
    ),
    Scenario(
        "without labels nothing is promoted",
        0,
        plan(LABELS, **ONE_STAGE),
        "still undecided after 900 s",
        [50, 0],
        labelled(0.0),
    ),
    Scenario(
        "labels that come late are waited for",
        0,
        plan(LABELS, **ONE_STAGE),
        "promoted",
        [50, 100],
        together(labelled(0.0), later(300, labelled(0.5))),
    ),
    Scenario(
        "servers that cannot be read hold, and never promote",
        0,
        plan(SCORES, **ONE_STAGE),
        "the model servers of candidate could not be read (green does not answer)",
        [50, 0],
        later(38, set_("telemetry", unread={GREEN})),
    ),
    Scenario(
        "a candidate whose server dies again and again is found by its users' failures",
        0,
        plan(SCORES, **ONE_STAGE),
        "requests failed on the candidate",
        [50, 0],
        crash_looping,
    ),
    Scenario(
        "requests that nobody counts freeze the gates, then bring everybody back",
        0,
        plan(**ONE_STAGE),
        "what cannot be counted cannot be compared",
        [50, 0],
        later(34, set_("telemetry", leaking=0.5)),
        tells="Every gate is frozen",
    ),
    Scenario(
        "an approval that nobody gives ends at the budget",
        0,
        plan(APPROVAL),
        "nobody approved after 900 s",
        [5, 25, 50, 0],
        tells="Waiting for a person: approval is asked before bake.",
    ),
    Scenario(
        "an approval before a weight",
        0,
        plan({"gate": "approval", "before": 25}),
        "promoted",
        [5, 25, 50, 100],
        approved(),
        tells="Approved by Ada: approval, before 25 %.",
    ),
    Scenario(
        "an approval before any user, after the shadow",
        0,
        plan({"gate": "approval", "before": "start"}, **SHADOW),
        "promoted",
        [0, 5, 25, 50, 100],
        approved(),
        tells="Approved by Ada: approval, before 5 %.",
    ),
    Scenario(
        "an approval that nobody waits for is refused",
        0,
        plan(APPROVAL, **ONE_STAGE),
        "promoted",
        [50, 100],
        together(asked(33, Ask.APPROVE, "Eve"), approved()),
        tells="Eve asked to approve: the next step waits for no approval.",
    ),
    Scenario(
        "who promotes early without an approval is told with it",
        0,
        plan(APPROVAL),
        "promoted",
        [5, 100],
        asked(38, Ask.PROMOTE),
        tells="Promoting: promoted early by Mia, without approval.",
    ),
    Scenario(
        "an approval that is waited for does not keep users on a candidate that nobody can measure",
        0,
        plan(APPROVAL, **ONE_STAGE),
        "nothing could be measured for 60 s",
        [50, 0],
        later(400, set_("telemetry", error="connection refused")),
        tells="Waiting for a person",
    ),
    Scenario(
        "thin traffic, of which many polls see nothing, is no news in each of them",
        0,
        plan(),
        "promoted",
        [5, 25, 50, 100],
        story=USUAL,
        requests_per_s=4.0,
    ),
    Scenario(
        "while both arms fail nothing is proved, and nobody else gets the candidate",
        0,
        plan(),
        "still undecided after 900 s",
        [5, 0],
        all_failing(0.97),
        tells="Stable itself fails more than 20% of its requests",
    ),
]

ELSEWHERE = {
    1: "tests/rollout/test_scenarios.py: test_a_first_release_serves_everybody_without_analysis",
    5: "tests/scenarios/test_a_rollout.py: "
    "test_a_release_that_refuses_some_users_is_rolled_back_and_not_tried_again",
    16: "tests/operations/test_versions.py: test_an_edit_counts_where_the_models_bytes_depend_on_it",
    18: "tests/test_spec.py: test_a_rollout_that_could_never_promote_or_says_two_things_is_refused",
    23: "tests/scenarios/test_a_rollout.py: "
    "test_a_good_release_is_promoted_and_rolled_back_and_no_request_fails",
}


@pytest.mark.parametrize("scenario", TABLE, ids=lambda each: f"{each.number}: {each.title}")
def test_a_rollout_ends_as_the_table_says(scenario: Scenario) -> None:
    world = World(requests_per_s=scenario.requests_per_s, seed=7)
    scenario.arrange(world)
    ended = upgrade(world, scenario.plan, **scenario.how)
    told = [event["sentence"] for event in world.journal.events]
    assert scenario.ends in ("promoted" if ended.phase == "promoted" else ended.reason), told
    assert world.router.history == scenario.weights, told
    assert world.router.split == (ALL_GREEN if scenario.ends == "promoted" else ALL_BLUE)
    assert len(world.record.outcomes) == 1
    if scenario.story is not None:
        assert world.journal.story() == scenario.story, told
    if scenario.splits:
        assert world.router.splits == scenario.splits
    assert any(scenario.tells in sentence for sentence in told), told
    assert_replays(scenario.plan, world)


def assert_replays(plan: Plan, world: World) -> None:
    """The recorded events and states, from the ticks and the plan alone, byte for byte."""
    lines = json.loads(json.dumps(world.journal.ticks))
    kept = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    steps = list(replay(kept, [tick_from_json(line, "ticks.jsonl") for line in lines]))
    events = [event.to_json() for step in steps for event in step.decision.events]
    assert json.dumps(events) == json.dumps(world.journal.events)
    assert [fingerprint(step.decision.state) for step in steps] == [line["state"] for line in lines]
    assert world.journal.state is not None
    last = json.dumps(steps[-1].decision.state.to_json())
    assert last == json.dumps(world.journal.state["state"])


def test_a_first_release_serves_everybody_without_analysis() -> None:
    world = World()
    ended = run(plan(HOOK, APPROVAL), first_slots(), world.ports())
    assert ended.phase == "promoted"
    assert world.router.splits == [ALL_BLUE]
    assert world.journal.polls == []
    assert world.journal.story() == ["started", "promoting", "promoted"]
    assert "there is no stable to compare it with" in world.journal.events[0]["sentence"]
    assert_replays(plan(HOOK, APPROVAL), world)


def test_every_scenario_of_the_peers_has_a_story_here_or_a_test_that_exists() -> None:
    assert {each.number for each in TABLE} | set(ELSEWHERE) == set(range(26))
    for place in ELSEWHERE.values():
        path, name = place.split(": ")
        assert re.search(rf"^def {name}\b", (TOP / path).read_text(encoding="utf-8"), re.MULTILINE), place
