"""The load generator tells the truth: about slow answers, wrong ones, and ones that never came."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving.load import Measured, Plan, Requests, measure, probability
from tests.benchmarks.one_server import Seen, answer, serving

STALL_S = 0.1
Ask = Callable[..., tuple[Measured, Seen]]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Ask a server about three rows in turn; their probabilities are 0.1, 0.2 and 0.3."""

    def ask(respond: Callable[[int, str], list[bytes] | None], **plan: Any) -> tuple[Measured, Seen]:
        requests = tmp_path / "requests.json"
        Requests("/infer", ["first", "second", "third"], [0.1, 0.2, 0.3], "probability").save(requests)
        asked = {"connections": 4, "warm_up_s": 0.1, "measured_s": 0.5, "check_every": 1, **plan}
        with serving(respond) as seen:
            measured = measure(Plan(port=seen.port, requests=str(requests), **asked))
        return measured, seen

    return ask


def truly(_: int, body: str) -> list[bytes]:
    return [answer({"first": 0.1, "second": 0.2, "third": 0.3}[body])]


def stalling(number: int, body: str) -> list[bytes]:
    if number == 150:
        time.sleep(STALL_S)  # the whole server, as a garbage collection or a page fault does it
    return truly(number, body)


def test_a_stall_costs_every_request_that_was_due_meanwhile(ask: Ask) -> None:
    measured, _ = ask(stalling, rate=500.0)

    # A tenth of a second is fifty requests of 250: a fifth of them waited, half of those for long.
    assert measured.latency_ms["p99.9"] >= STALL_S * 900
    assert measured.latency_ms["p99"] >= STALL_S * 800
    assert measured.latency_ms["p50"] < STALL_S * 500


def test_a_request_that_found_no_free_connection_waits_from_when_it_was_due(ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "latencies"
    measured, _ = ask(stalling, rate=500.0, connections=1, latencies=str(file))

    latencies_s = array("d")
    latencies_s.frombytes(file.read_bytes())
    assert len(latencies_s) == measured.asked
    assert sum(each >= STALL_S / 2 for each in latencies_s) >= 20


def test_the_schedule_is_kept_while_the_server_stalls(ask: Ask) -> None:
    measured, _ = ask(stalling, rate=500.0, connections=100)

    assert measured.asked == 250
    assert measured.lag_ms["p50"] < 10


@pytest.mark.parametrize("rate", [None, 300.0], ids=["closed loop", "open loop"])
def test_counts_add_up(ask: Ask, rate: float | None) -> None:
    measured, seen = ask(truly, rate=rate)

    assert measured.asked == measured.answered == measured.statuses["200"] == measured.checked
    assert (measured.unanswered, measured.wrong, measured.failed) == (0, 0, 0)
    assert measured.all_answers == len(seen.bodies) > measured.asked
    assert measured.per_second == measured.asked / measured.elapsed_s


def test_the_generator_tells_how_much_of_a_core_it_needs(ask: Ask) -> None:
    idle, busy = ask(truly, rate=20.0)[0], ask(truly, rate=None)[0]

    # No bound of 1: a virtual machine's clock of the processor runs ahead of the wall's at times.
    assert 0 < 3 * idle.cpu_share < busy.cpu_share


def test_an_open_loop_asks_as_often_as_it_was_told(ask: Ask) -> None:
    measured, seen = ask(truly, rate=300.0)

    assert measured.asked == 150
    assert len(seen.bodies) == 180  # with the warm-up's


def test_rows_are_asked_about_in_turn(ask: Ask) -> None:
    _, seen = ask(truly, rate=100.0, connections=1)

    assert seen.bodies[:4] == ["first", "second", "third", "first"]


def test_a_wrong_value_is_no_answer(ask: Ask) -> None:
    measured, _ = ask(lambda *_: [answer(0.2)], rate=300.0)

    assert measured.checked == 150
    assert measured.wrong == measured.failed == 100  # 0.2 is right for one row of three


def test_only_every_nth_answer_is_checked(ask: Ask) -> None:
    measured, _ = ask(lambda *_: [answer(7.0)], rate=300.0, check_every=10)

    assert measured.checked == measured.wrong == 15


def test_an_error_is_counted_by_its_status(ask: Ask) -> None:
    measured, _ = ask(
        lambda number, body: [answer(0.1, 503)] if number % 2 else truly(number, body), rate=300.0
    )

    assert set(measured.statuses) == {"200", "503"}
    assert measured.failed >= measured.statuses["503"] == 75


def test_an_answer_in_pieces_is_read_whole(ask: Ask) -> None:
    def in_pieces(number: int, body: str) -> list[bytes]:
        [whole] = truly(number, body)
        return [whole[at : at + 7] for at in range(0, len(whole), 7)]

    measured, _ = ask(in_pieces, rate=100.0)

    assert (measured.answered, measured.failed) == (50, 0)


def test_a_request_whose_connection_broke_is_unanswered(ask: Ask) -> None:
    measured, _ = ask(lambda number, body: None if number == 20 else truly(number, body), rate=100.0)

    assert (measured.asked, measured.unanswered, measured.failed) == (50, 1, 1)


def test_requests_that_are_never_answered_count_with_the_time_they_waited(ask: Ask) -> None:
    measured, _ = ask(
        lambda number, body: [] if number >= 20 else truly(number, body), rate=100.0, answer_limit_s=0.1
    )

    assert measured.asked == measured.answered + measured.unanswered == 50
    assert measured.unanswered == measured.failed == 40
    assert measured.latency_ms["p99.9"] >= 400


def test_an_answer_of_unknown_length_ends_the_run(ask: Ask) -> None:
    with pytest.raises(ValueError, match="without content-length"):
        ask(lambda *_: [b"HTTP/1.1 200 OK\r\n\r\n{}"], rate=100.0)


@pytest.mark.parametrize(
    ("body", "output", "expected"),
    [
        (b'{"outputs": [{"name": "label", "data": [1]}, {"name": "p", "data": [0.7]}]}', "p", 0.7),
        (b'{"outputs": [{"name": "predict_proba", "data": [0.3, 0.7]}]}', "predict_proba", 0.7),
        (b"[[0.3, 0.7]]", None, 0.7),
    ],
    ids=["named output", "both classes", "no tensors"],
)
def test_the_probability_is_found_in_each_servers_answer(
    body: bytes, output: str | None, expected: float
) -> None:
    assert probability(body, output) == expected


@pytest.mark.parametrize("body", [b'{"error": "no"}', b"", b'{"outputs": []}'])
def test_an_answer_without_the_output_has_no_probability(body: bytes) -> None:
    with pytest.raises((ValueError, LookupError)):
        probability(body, "p")
