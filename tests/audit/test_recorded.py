"""A record gives the decisions that were made, or says where it is not what was decided."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from coalmine.audit.recorded import compute, find
from coalmine.errors import InputError, IntegrityError, NotFound
from coalmine.slots import Slot
from tests.audit.conftest import GOOD, MODEL, World
from tests.audit.simulated_rollouts import CHOSEN_USERS, EVERYTHING, SHORT, simulate
from tests.journals.fake_rollouts import FakeRollout, write_rollout
from tests.simulators.world import ArmBehaviour
from tests.simulators.world import World as Traffic

ID = FakeRollout().about.id


def bad_traffic() -> Traffic:
    traffic = Traffic(requests_per_s=100, seed=3)
    traffic.behaviour[Slot.GREEN] = ArmBehaviour(failing=0.1)
    return traffic


@pytest.mark.parametrize(
    ("spec", "traffic"),
    [(SHORT, Traffic()), (SHORT, bad_traffic()), (EVERYTHING, Traffic()), (CHOSEN_USERS, Traffic())],
    ids=["promoted", "rolled back", "every kind of gate", "chosen users"],
)
def test_every_decision_is_computed_again_from_the_journal(world: World, spec: Any, traffic: Traffic) -> None:
    folder = simulate(world.top, spec, traffic)
    recorded = find(world.repository, ID)
    assert recorded.source == str(folder)
    assert len(recorded.ticks) > 5
    assert compute(recorded).difference is None


def test_what_git_holds_is_preferred_and_gives_the_same(serving: World) -> None:
    who = GOOD.about.triggered_by
    serving.decide(GOOD.version, "release", who)
    trailers = {"Model": MODEL, "Version": GOOD.version, "Environment": "local", "Rollout": GOOD.about.id}
    candidate = serving.slots().with_candidate(serving.releases[GOOD.version])
    serving.put_slots(candidate, "Roll out", trailers)
    folder = simulate(serving.top, SHORT, Traffic(), GOOD)
    serving.record(folder).promote()
    shutil.rmtree(folder)
    recorded = find(serving.repository, GOOD.about.id)
    assert recorded.source == f"commit {serving.git('rev-parse', 'HEAD')[:12]}"
    assert compute(recorded).difference is None


def edit(line: dict[str, Any], *path: str, to: Any) -> None:
    for key in path[:-1]:
        line = line[key]
    line[path[-1]] = to


TAMPERING: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "a count that the gates saw": (lambda poll: edit(poll, "poll", "candidate", "failures", to=0), "poll"),
    "what the counters showed": (
        lambda poll: edit(poll, "seen", "reading", "arms", "candidate", "failures", to=900),
        "poll",
    ),
    "what a gate said": (lambda poll: poll["poll"]["gates"][0].update(log_e_roll_back=-9.0), "poll"),
    "the state that was decided": (lambda poll: edit(poll, "state", to="0" * 16), "state"),
    "a field that nobody writes": (lambda poll: edit(poll, "approved_by", to="Eve"), "approved_by"),
}


@pytest.mark.parametrize(("tamper", "where"), TAMPERING.values(), ids=TAMPERING)
def test_a_record_that_was_edited_is_found_at_its_first_difference(
    world: World, tamper: Callable[[dict[str, Any]], None], where: str
) -> None:
    folder = simulate(world.top, SHORT, bad_traffic())
    lines = [json.loads(line) for line in (folder / "ticks.jsonl").read_text().splitlines()]
    chosen = next(line for line in lines if line.get("poll", {}).get("candidate", {}).get("failures", 0))
    tamper(chosen)
    (folder / "ticks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    difference = compute(find(world.repository, ID)).difference
    assert difference is not None
    assert (difference.what, difference.number) == (where, chosen["sequence"])
    assert difference.recorded != difference.computed


@pytest.mark.parametrize("number", [0, 3, -1], ids=["the first", "one in between", "the last"])
def test_an_event_that_was_reworded_or_taken_out_is_found(world: World, number: int) -> None:
    folder = simulate(world.top, SHORT, Traffic())
    recorded = find(world.repository, ID)
    events = list(recorded.events)
    events[number] = replace(events[number], sentence="Approved by nobody.")
    difference = compute(replace(recorded, events=tuple(events))).difference
    assert difference is not None
    assert difference.what == "event"
    assert difference.number == number % len(events)
    assert "Approved by nobody." in difference.recorded
    without = tuple(recorded.events[:number]) if number else ()
    assert compute(replace(recorded, events=without)).difference is not None
    assert folder.is_dir()


def test_an_event_that_nobody_decided_is_found(world: World) -> None:
    simulate(world.top, SHORT, Traffic())
    recorded = find(world.repository, ID)
    invented = replace(recorded.events[-1], sentence="Approved by nobody.")
    difference = compute(replace(recorded, events=(*recorded.events, invented))).difference
    assert difference is not None
    assert (difference.what, difference.number) == ("event", len(recorded.events))
    assert difference.computed == "nothing"


def test_another_plan_than_the_recorded_is_not_what_was_decided(world: World) -> None:
    folder = simulate(world.top, SHORT, Traffic())
    plan = json.loads((folder / "plan.json").read_text())
    plan["rollout"]["stages"] = [10, 25, 50]
    (folder / "plan.json").write_text(json.dumps(plan))
    difference = compute(find(world.repository, ID)).difference
    assert difference is not None
    assert difference.number == 0


def test_a_missing_tick_is_no_difference_but_a_damaged_record(world: World) -> None:
    folder = simulate(world.top, SHORT, Traffic())
    lines = (folder / "ticks.jsonl").read_text().splitlines()
    (folder / "ticks.jsonl").write_text("\n".join(lines[:4] + lines[5:]) + "\n")
    with pytest.raises(IntegrityError, match="number 4 is missing"):
        compute(find(world.repository, ID))


def test_an_unknown_rollout_is_refused_with_those_that_are_known(world: World) -> None:
    simulate(world.top, SHORT, Traffic())
    with pytest.raises(NotFound, match=f"The newest: {ID}"):
        find(world.repository, "20990101T000000-v9.9.9")


def test_where_several_rollouts_have_the_id_the_place_says_which(world: World) -> None:
    names = ["local/credit-risk", "local/flight-delay", "production/flight-delay"]
    for name in names:
        environment, _, model = name.partition("/")
        simulate(world.top, SHORT, Traffic(), FakeRollout(environment=environment, model=model))
    all_of_them = " or ".join(f"{name}/{ID}" for name in names)
    with pytest.raises(InputError, match=f"3 rollouts have the id {ID}. Say which: {all_of_them}$"):
        find(world.repository, ID)
    with pytest.raises(InputError, match="2 rollouts"):
        find(world.repository, f"flight-delay/{ID}")
    assert find(world.repository, f"credit-risk/{ID}").model == "credit-risk"
    assert f"/{names[2]}/" in find(world.repository, f"{names[2]}/{ID}").source
    with pytest.raises(NotFound):
        find(world.repository, f"production/credit-risk/{ID}")


def test_a_rollout_that_kept_its_counts_alone_says_so(world: World) -> None:
    folder = write_rollout(world.top, FakeRollout())
    (folder / "plan.json").unlink(missing_ok=True)
    with pytest.raises(InputError, match="without the plan"):
        find(world.repository, ID)
