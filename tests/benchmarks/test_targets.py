"""Which figures of the serving benchmark are judged, and when they are missed."""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.serving import chart
from benchmarks.serving.contenders import BARE, OURS, SILENT
from benchmarks.serving.environments import LOCKS
from benchmarks.serving.load import Measured
from benchmarks.serving.peers import KSERVE, PEERS
from benchmarks.serving.rounds import Load, Round
from benchmarks.serving.targets import judge
from benchmarks.table import Figure, report


def load(per_second: float = 1000.0, p99_ms: float = 1.0, **more: Any) -> Load:
    measured = {
        "asked": round(per_second),
        "answered": round(per_second),
        "unanswered": 0,
        "statuses": {"200": round(per_second)},
        "checked": 10,
        "wrong": 0,
        "elapsed_s": 1.0,
        "latency_ms": {"p50": p99_ms / 2, "p99": p99_ms, "p99.9": p99_ms * 2},
        "lag_ms": {},
        "cpu_share": 0.5,
        "all_answers": round(per_second),
    }
    cpu_us = more.pop("cpu_us", 100.0)
    return Load(Measured(**{**measured, **more}), 500.0, cpu_us, array("d", [p99_ms / 1000] * 10))


def of(
    server: str, case: str = "trees", per_second: float = 1000.0, p99_ms: float = 1.0, **more: Any
) -> Round:
    """One round of one server, whose saturation is `per_second`."""
    return Round(
        server,
        case,
        ready_s=0.5,
        idle_mib=50.0,
        loaded_mib=60.0,
        saturation=load(per_second, **more),
        half=load(p99_ms=p99_ms),
        common=load(p99_ms=p99_ms),
    )


def good() -> list[Round]:
    """Within every target."""
    return [
        each
        for case in ("trees", "columns")
        for each in (
            of(BARE, case, 1000.0, 1.0),
            of(OURS, case, 800.0, 2.0, cpu_us=110.0),
            of(SILENT, case, 810.0, 2.0, cpu_us=108.0),
            of(KSERVE, case, 75.0, 9.0),
        )
    ]


def missed(rounds: list[Round], ready_s: list[float]) -> list[str]:
    return [figure.name for figure in judge(rounds, ready_s, "flights") if not figure.met]


def replaced(server: str, **more: Any) -> list[Round]:
    return [of(server, **more) if (each.server, each.case) == (server, "trees") else each for each in good()]


def test_a_server_that_is_fast_enough_misses_nothing() -> None:
    assert missed(good(), [2.0]) == []


@pytest.mark.parametrize(
    ("rounds", "ready_s", "name"),
    [
        (replaced(OURS, per_second=799.0, p99_ms=2.0), 1.0, "trees: throughput, ours / bare stack"),
        (replaced(KSERVE, per_second=81.0), 1.0, "trees: throughput, ours / KServe"),
        (replaced(OURS, per_second=800.0, p99_ms=2.1), 1.0, "trees: p99 at half load, ours / bare stack"),
        (good(), 2.1, "start to ready, flights"),
        (
            replaced(OURS, per_second=900.0, wrong=1),
            1.0,
            "requests without a correct answer, ours and bare",
        ),
        (replaced(BARE, cpu_share=0.99), 1.0, "the load generator's share of its core, at most"),
    ],
    ids=["slower than the stack", "too near to KServe", "long tail", "slow start", "wrong", "generator full"],
)
def test_a_missed_target_is_named(rounds: list[Round], ready_s: float, name: str) -> None:
    assert missed(rounds, [ready_s]) == [name]


def test_the_model_on_named_columns_is_stated_not_judged() -> None:
    slow = [
        of(OURS, "columns", 1.0, 100.0) if each.case == "columns" and each.server == OURS else each
        for each in good()
    ]

    assert missed(slow, [1.0]) == []
    figures = {figure.name: figure.value for figure in judge(slow, [1.0], "flights")}
    assert figures["columns: throughput, ours / bare stack"] == 0.001


def test_ratios_are_taken_within_each_round_and_their_median_counts() -> None:
    """A machine that slows down for both changes nothing; neither does one bad round of three."""
    noisy = [
        *(of(BARE, per_second=1000.0), of(OURS, per_second=900.0)),
        *(of(BARE, per_second=100.0), of(OURS, per_second=95.0)),
        *(of(BARE, per_second=1000.0), of(OURS, per_second=100.0)),
    ]

    [figure] = [
        each for each in judge(noisy, [1.0], "x") if each.name == "trees: throughput, ours / bare stack"
    ]
    assert figure.value == pytest.approx(0.9)
    assert figure.note == "0.1 to 0.95"


def test_a_quick_run_judges_without_the_peers() -> None:
    names = [figure.name for figure in judge([of(BARE), of(OURS)], [1.0], "x")]

    assert not any(KSERVE in name for name in names)
    assert "trees: throughput, ours / bare stack" in names


def test_the_cost_of_telemetry_is_the_difference_of_processor_times() -> None:
    [figure] = [
        each
        for each in judge(good(), [1.0], "x")
        if each.name == "trees: processor time that telemetry adds to a request"
    ]

    assert figure.value == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("figure", "status"),
    [
        (Figure("f", 1.0, "x", at_least=1.0), 0),
        (Figure("f", 0.9, "x", at_least=1.0), 1),
        (Figure("f", 1.0, "x", at_most=1.0), 0),
        (Figure("f", 1.1, "x", at_most=1.0), 1),
        (Figure("f", float("nan"), "x", at_least=1.0), 1),
        (Figure("f", 5.0, "x"), 0),
    ],
)
def test_a_missed_target_is_the_exit_status(tmp_path: Path, figure: Figure, status: int) -> None:
    out = tmp_path / "figures.json"

    assert report([figure], out, {"rounds": []}) == status
    assert json.loads(out.read_text()).keys() == {"figures", "rounds"}


def test_the_chart_shows_every_server_of_every_case() -> None:
    drawn = chart.draw({"trees": "Trees & numbers", "columns": "Columns"}, good())

    words = [each.text for each in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert [words.count(title) for title in ("Trees & numbers", "Columns")] == [1, 1]
    assert [words.count(server) for server in (OURS, BARE, SILENT, KSERVE)] == [2, 2, 2, 2]


@pytest.mark.parametrize("peer", PEERS)
def test_a_peers_environment_is_pinned_by_hash_and_names_no_host(peer: str) -> None:
    lock = (LOCKS / f"{peer}.lock").read_text()

    assert "://" not in lock
    packages = [line for line in lock.splitlines() if line and not line.startswith((" ", "#"))]
    assert all(line.endswith("\\") and "==" in line for line in packages)
