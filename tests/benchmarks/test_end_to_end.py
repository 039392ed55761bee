"""The worst candidates through the real Envoy: they hang, crash, or refuse connections."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gates import end_to_end
from benchmarks.gates.end_to_end import FAULTS, Kind, drawn, roll_out
from tests.scenarios.users import PER_S


@pytest.mark.slow
def test_candidates_that_hang_crash_or_refuse_are_turned_away_within_seconds_and_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(end_to_end, "BEFORE_S", 5.0)
    monkeypatch.setattr(end_to_end, "AFTER_S", 2.0)
    cases = [case for case in drawn(40, seed=1) if case.kind in FAULTS]
    cases = [next(case for case in cases if case.kind is kind) for kind in FAULTS]
    cases = [replace(case, world=replace(case.world, requests_per_s=PER_S, onset_s=0.0)) for case in cases]
    results, _, failures = roll_out(cases, at_once=3, top=tmp_path)
    assert failures == []
    assert [result.case.kind for result in results] == [Kind.HANG, Kind.CRASH, Kind.REFUSE]
    for result in results:
        assert result.promoted is False, result
        assert result.weights == (end_to_end.ROLLOUT.stages[0], 0)
        assert result.calls == 1
        assert result.replays
        # Of 5 % of the users, for some polls: seconds, not minutes.
        assert 0 < result.lost < 0.05 * PER_S * 60
        assert result.lost <= result.sent


def test_the_same_seed_draws_the_same_cases_of_which_a_third_is_good() -> None:
    assert drawn(36, seed=7) == drawn(36, seed=7) != drawn(36, seed=8)
    kinds = Counter(case.kind for case in drawn(36, seed=7))
    assert kinds[Kind.GOOD] == 12
    assert all(kinds[kind] >= 2 for kind in Kind)
    for case in drawn(36, seed=7):
        same = case.world.candidate_rate == case.world.stable_rate and case.world.slowdown is None
        assert same is (case.kind is Kind.GOOD)


def test_a_comparison_says_what_it_could_tell_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(case for case in drawn(36, seed=7) if case.kind is Kind.FAILING)
    result = end_to_end.Result(case, False, "", 40.0, 10, 1, (5, 0), 1, True, 60.0)
    rng = np.random.default_rng(0)
    monkeypatch.setattr(end_to_end, "simulated", lambda *_: list(20 * np.exp(rng.normal(0, 0.6, 20))))
    few, many = (end_to_end.compared([result] * count, seed=1) for count in (2, 30))
    assert few is not None
    assert many is not None
    assert many.ratio == pytest.approx(2, rel=0.2)
    assert many.p < 0.001 < few.p
    assert few.told_apart > 2 > many.told_apart
