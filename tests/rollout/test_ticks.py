"""Ticks come back from their JSON as they were, and only whole ones are replayed."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coalmine.errors import IntegrityError
from coalmine.rollout.decision import Observation, Unmeasured
from coalmine.rollout.evidence import Answers, Arm, Counters, Pairs, Reading
from coalmine.rollout.gates import Verdict
from coalmine.rollout.ports import (
    Ask,
    CheckResult,
    Match,
    Request,
    SlotHealth,
    SlotStatus,
    TrafficSplit,
    UserKey,
)
from coalmine.rollout.replay import replay
from coalmine.rollout.state import RolloutState
from coalmine.rollout.ticks import Beginning, Happening, Tick, fingerprint, tick_from_json, tick_to_json
from coalmine.slots import Slot
from tests.rollout.stories import plan, upgrade
from tests.simulators.world import World

whole = st.integers(0, 10**12)
words = st.text(max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
buckets = st.lists(st.tuples(st.floats(0, 99) | st.just(math.inf), whole), max_size=4).map(tuple)
arms = st.fixed_dictionaries({arm: st.builds(Counters, whole, whole, buckets) for arm in Arm})
answers = st.builds(Answers, words, buckets, whole, numbers)
readings = st.builds(
    Reading,
    numbers,
    words,
    arms,
    mirrored=st.none() | arms,
    answers=st.dictionaries(st.sampled_from(Arm), answers),
    pairs=st.none() | st.builds(Pairs, words, whole, whole),
    missing=st.lists(words, max_size=2).map(tuple),
    late_s=st.just(0.0) | st.floats(0, 300),
)
keys = st.builds(UserKey, st.sampled_from(["header", "cookie"]), words)
splits = st.builds(
    lambda weight, mirror, match, sticky: TrafficSplit(
        {Slot.GREEN: weight, Slot.BLUE: 100 - weight},
        mirror_percent=mirror,
        match=match,
        match_to=None if match is None else Slot.GREEN,
        sticky=sticky,
    ),
    st.integers(0, 100),
    st.integers(0, 100),
    st.none() | st.builds(Match, keys, words),
    st.none() | keys,
)
unmeasured = st.builds(Unmeasured, words)
statuses = st.builds(SlotStatus, st.sampled_from(SlotHealth), words)
seen = st.builds(
    Observation,
    split=st.none() | unmeasured | splits,
    candidate=unmeasured | statuses,
    reading=unmeasured | readings,
    requests=st.lists(st.builds(Request, st.sampled_from(Ask), words, numbers), max_size=2).map(tuple),
    checks=st.dictionaries(
        words, st.builds(CheckResult, st.sampled_from(Verdict), words, st.none() | numbers), max_size=2
    ),
    stable=st.none() | unmeasured | statuses,
)
ticks = st.builds(
    Tick,
    whole,
    numbers,
    st.sampled_from(Happening),
    beginning=st.none() | st.builds(Beginning, st.sampled_from(Slot), st.booleans(), words, st.booleans()),
    seen=st.none() | seen,
    why=words,
)


@given(ticks)
def test_a_tick_comes_back_as_it_was(tick: Tick) -> None:
    assert tick_from_json(json.loads(json.dumps(tick_to_json(tick))), "ticks.jsonl") == tick


@pytest.fixture(scope="module")
def kept() -> list[dict[str, Any]]:
    world = World(seed=3)
    upgrade(world, plan(stages=[50], bake_s=4))
    ticks: list[dict[str, Any]] = json.loads(json.dumps(world.journal.ticks))
    return ticks


def test_another_plan_makes_another_end_of_the_same_observations(kept: list[dict[str, Any]]) -> None:
    seen = [tick_from_json(line, "ticks.jsonl") for line in kept]
    as_it_was = [step.decision.state for step in replay(plan(stages=[50], bake_s=4), seen)]
    patient = [step.decision.state for step in replay(plan(stages=[50], bake_s=600), seen[:-1])]
    assert as_it_was[-1].phase == "promoted"
    assert patient[-1].phase == "baking"


@pytest.mark.parametrize("missing", [0, 1, 5])
def test_ticks_that_are_missing_are_named(kept: list[dict[str, Any]], missing: int) -> None:
    seen = [tick_from_json(line, "ticks.jsonl") for line in kept]
    with pytest.raises(IntegrityError, match=f"number {missing} is missing"):
        list(replay(plan(stages=[50], bake_s=4), seen[:missing] + seen[missing + 1 :]))


@pytest.mark.parametrize("damage", [{"what": "guessed"}, {"at_s": None, "seen": {"split": 3}}])
def test_a_damaged_tick_is_named(kept: list[dict[str, Any]], damage: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match=r"ticks\.jsonl holds a tick"):
        tick_from_json(kept[3] | damage, "ticks.jsonl")


def test_the_fingerprint_tells_two_states_apart_and_not_a_state_from_itself(
    kept: list[dict[str, Any]],
) -> None:
    seen = [tick_from_json(line, "ticks.jsonl") for line in kept]
    states = [step.decision.state for step in replay(plan(stages=[50], bake_s=4), seen)]
    assert [fingerprint(state) for state in states] == [line["state"] for line in kept]
    again = RolloutState.from_json(copy.deepcopy(states[5].to_json()))
    assert fingerprint(again) == fingerprint(states[5])
    assert fingerprint(replace(again, polls=99)) != fingerprint(states[5])
