"""What earlier rollouts show: nothing where there is no history, a factor where there are bursts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coalmine.audit.earlier import dispersions
from coalmine.rollout_spec import ErrorsSpec, LatencySpec, PredictionsSpec, QualitySpec, WebhookSpec

GATES = (
    ErrorsSpec(),
    ErrorsSpec(name="strict"),
    LatencySpec(),
    PredictionsSpec(),
    QualitySpec(),
    WebhookSpec(url="http://x"),
)


def record(top: Path, rollout: str, polls: int, *, burst: int, seed: int = 0, older: bool = False) -> None:
    """A rollout in which stable's failures, slow answers, scores and losses come `burst` at a time."""
    chance = np.random.default_rng(seed)

    def of(requests: int, share: float) -> int:
        return min(requests, int(burst * chance.poisson(requests * share / burst)))

    def poll(number: int) -> dict[str, Any]:
        within = [300 - of(300, 0.2), 300 - of(300, 0.05), 300]
        return {
            "sequence": number,
            "at_s": 2.0 * number,
            "stage": 0,
            "weight_percent": 5,
            "candidate": {"requests": 15, "failures": 0, "within": [12, 15, 15]},
            "stable": {"requests": 300, "failures": of(300, 0.02), "within": within},
            "bounds_s": [0.01, 0.1, 1.0],
            "answers": {"stable": {"within": within, "labels": 100, "loss": float(of(100, 0.1))}},
            "score_bounds": [0.2, 0.6, 1.0],
            "gates": [],
        }

    folder = top / "models/m/rollouts" / rollout
    folder.mkdir(parents=True)
    lines = [poll(n) if older else {"sequence": n, "what": "seen", "poll": poll(n)} for n in range(polls)]
    packed = gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode())
    (folder / ("polls.jsonl.gz" if older else "ticks.jsonl.gz")).write_bytes(packed)


def test_without_a_long_history_nothing_is_known(tmp_path: Path) -> None:
    assert dispersions(tmp_path, "m", GATES) == {}
    record(tmp_path, "20130101T000000-v1.0.0", 20, burst=8)
    assert dispersions(tmp_path, "m", GATES) == {}


@pytest.mark.parametrize("older", [False, True], ids=["ticks", "polls"])
def test_independent_failures_divide_nothing(tmp_path: Path, older: bool) -> None:
    record(tmp_path, "20130101T000000-v1.0.0", 300, burst=1, older=older)
    known = dispersions(tmp_path, "m", GATES)
    assert known == dict.fromkeys(["errors", "strict", "latency", "predictions", "quality"], 1.0)


def test_bursts_are_seen_by_every_gate_that_counts_them(tmp_path: Path) -> None:
    for day in range(1, 5):
        record(tmp_path, f"2013010{day}T000000-v1.{day}.0", 100, burst=6, seed=day)
    known = dispersions(tmp_path, "m", GATES)
    assert set(known) == {"errors", "strict", "latency", "predictions", "quality"}
    assert all(3 < factor < 20 for factor in known.values()), known


def test_only_the_newest_rollouts_count(tmp_path: Path) -> None:
    record(tmp_path, "20120101T000000-v0.1.0", 300, burst=10)
    for day in range(1, 6):
        record(tmp_path, f"2013010{day}T000000-v1.{day}.0", 60, burst=1, seed=day)
    assert set(dispersions(tmp_path, "m", GATES).values()) == {1.0}
