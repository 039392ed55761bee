from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable
from http.client import HTTPException

import pytest

from coalmine.errors import TelemetryUnavailable
from coalmine.local.stack import LocalStack
from coalmine.rollout.evidence import Arm, CountersReset, between
from coalmine.rollout.ports import TrafficRouter, TrafficSplit
from coalmine.slots import Slot
from coalmine.telemetry.answers import ServersAnswers
from coalmine.telemetry.pairs import ServedPairs, of_this_machine
from coalmine.telemetry.scrape import ScrapeTelemetry
from tests.contracts.telemetry import EndRequest, Outcome, TelemetryContract
from tests.local.harness import (
    User,
    declared_router,
    eventually,
    fake_server,
    kill,
    pid_of,
    status_of,
)


def restart_envoy(stack: LocalStack) -> None:
    before = pid_of(stack, "envoy")
    kill(before)
    eventually(lambda: _is_ready_anew(stack, before), "Envoy is back")


def _is_ready_anew(stack: LocalStack, before: int) -> bool:
    status = status_of(stack, "envoy")
    return status is not None and status.health == "ready" and status.pid != before


class TestScrapeKeepsTheContract(TelemetryContract):
    @pytest.fixture
    def telemetry(self, stack: LocalStack) -> ScrapeTelemetry:
        declared_router(stack, "m")
        return ScrapeTelemetry("m", stack.admin_address)

    @pytest.fixture
    def end_request(self, stack: LocalStack, router: TrafficRouter, user: User) -> EndRequest:
        def end(slot: Slot, outcome: Outcome) -> None:
            router.set_split(TrafficSplit.all_to(slot))
            if outcome is Outcome.REFUSED:
                stack.stop(f"m-{slot}")
            query = {Outcome.TIMEOUT: "slow", Outcome.RESET: "reset"}.get(outcome, outcome.value)
            status, _ = user.ask(query)
            seen = {Outcome.TIMEOUT: 504, Outcome.RESET: 503, Outcome.REFUSED: 503}
            assert status == seen.get(outcome) or str(status) == outcome.value

        return end

    @pytest.fixture
    def restart(self, stack: LocalStack) -> Callable[[], None]:
        return lambda: restart_envoy(stack)

    @pytest.fixture
    def cut(self, stack: LocalStack) -> Callable[[], None]:
        return stack.down


@pytest.mark.parametrize("status", ["400", "404", "429", "501", "503"])
def test_every_error_status_is_one_failure(
    telemetry: ScrapeTelemetry, router: TrafficRouter, user: User, status: str
) -> None:
    router.set_split(TrafficSplit.all_to(Slot.GREEN))
    user.ask(status)
    counted = telemetry.read(Slot.GREEN).arms[Arm.CANDIDATE]
    assert (counted.requests, counted.failures) == (1, 1)


def test_an_answer_cut_short_is_one_failure_whatever_its_status(
    telemetry: ScrapeTelemetry, router: TrafficRouter, user: User
) -> None:
    router.set_split(TrafficSplit.all_to(Slot.GREEN))
    with contextlib.suppress(HTTPException):
        user.ask("cut")
    counted = telemetry.read(Slot.GREEN).arms[Arm.CANDIDATE]
    assert (counted.requests, counted.failures) == (1, 1)


def test_a_user_who_gives_up_waiting_is_one_failure(
    stack: LocalStack, telemetry: ScrapeTelemetry, router: TrafficRouter
) -> None:
    router.set_split(TrafficSplit.all_to(Slot.GREEN))
    impatient = User(stack, timeout_s=0.1)
    with pytest.raises(TimeoutError):
        impatient.ask("slow")
    impatient.close()
    eventually(lambda: telemetry.read(Slot.GREEN).arms[Arm.CANDIDATE].requests, "the request is counted")
    counted = telemetry.read(Slot.GREEN).arms[Arm.CANDIDATE]
    assert (counted.requests, counted.failures) == (1, 1)


@pytest.mark.parametrize("path", ["/v2/models/m", "/v2/models/m/feedback", "/v2/models/m/infer/x"])
def test_only_inference_is_counted(
    telemetry: ScrapeTelemetry, router: TrafficRouter, user: User, path: str
) -> None:
    router.set_split(TrafficSplit.all_to(Slot.GREEN))
    assert user.get(path)[0] == 200
    assert telemetry.read(Slot.GREEN).arms[Arm.CANDIDATE].requests == 0


def test_another_models_requests_are_not_counted(
    stack: LocalStack, telemetry: ScrapeTelemetry, user: User
) -> None:
    neighbour = declared_router(stack, "neighbour")
    neighbour.set_split(TrafficSplit.all_to(Slot.GREEN))
    assert user.get("/v2/models/neighbour/infer")[0] == 503
    assert telemetry.read(Slot.GREEN).arms[Arm.CANDIDATE].requests == 0
    counted = ScrapeTelemetry("neighbour", stack.admin_address).read(Slot.GREEN).arms[Arm.CANDIDATE]
    assert (counted.requests, counted.failures) == (1, 1)


def test_durations_are_in_seconds_and_agree_with_the_requests(
    telemetry: ScrapeTelemetry, router: TrafficRouter, user: User
) -> None:
    router.set_split(TrafficSplit.all_to(Slot.GREEN))
    for query in ("", "", "", "slow"):  # slow: a timeout after half a second
        user.ask(query)
    counted = telemetry.read(Slot.GREEN).arms[Arm.CANDIDATE]
    within = dict(counted.durations)
    assert counted.requests == 4
    assert within[0.3] == 3
    assert within[10.0] == 4


def test_under_load_every_reading_agrees_with_itself_and_the_last_with_the_users(
    stack: LocalStack, telemetry: ScrapeTelemetry, router: TrafficRouter
) -> None:
    router.set_split(TrafficSplit.canary(Slot.GREEN, 50))
    sent = [0, 0, 0]

    def load(me: int) -> None:
        user = User(stack)
        for i in range(300):
            user.ask("500" if i % 10 == 0 else "")
            sent[me] += 1
        user.close()

    users = [threading.Thread(target=load, args=[me]) for me in range(3)]
    for thread in users:
        thread.start()
    base = telemetry.read(Slot.GREEN)
    while any(thread.is_alive() for thread in users):
        reading = telemetry.read(Slot.GREEN)
        poll = between(base, reading, weight=0.5)  # raises if a counter went down
        for arm in (poll.candidate, poll.stable):
            assert arm.failures <= arm.requests
            assert arm.within[-1] == arm.requests  # nobody waited for 10 s
        base = reading
    arms = telemetry.read(Slot.GREEN).arms
    assert sum(arms[arm].requests for arm in Arm) == sum(sent) == 900
    assert sum(arms[arm].failures for arm in Arm) == 90


def test_the_counters_begin_anew_with_envoy_even_when_they_are_larger_than_before(
    stack: LocalStack, telemetry: ScrapeTelemetry, router: TrafficRouter
) -> None:
    router.set_split(TrafficSplit.all_to(Slot.GREEN))
    before = telemetry.read(Slot.GREEN)
    restart_envoy(stack)
    user = User(stack)
    user.ask()
    user.close()
    after = telemetry.read(Slot.GREEN)
    assert after.arms[Arm.CANDIDATE].requests > before.arms[Arm.CANDIDATE].requests
    with pytest.raises(CountersReset, match="epoch"):
        between(before, after, weight=0.5)


def test_a_model_that_envoy_does_not_know_is_not_measured_as_zero(stack: LocalStack) -> None:
    with pytest.raises(TelemetryUnavailable, match="no cluster stranger-"):
        ScrapeTelemetry("stranger", stack.admin_address).read(Slot.GREEN)


# --- copies ----------------------------------------------------------------------------

MIRROR = TrafficSplit({Slot.BLUE: 100, Slot.GREEN: 0}, mirror_percent=100)


def mirrored(telemetry: ScrapeTelemetry, count: int) -> dict[Arm, tuple[int, int]]:
    """Requests and failures of both arms once `count` copies have ended."""

    def counted() -> dict[Arm, tuple[int, int]]:
        reading = telemetry.read(Slot.GREEN)
        assert reading.mirrored is not None
        assert reading.arms[Arm.CANDIDATE].requests == 0
        return {arm: (reading.mirrored[arm].requests, reading.mirrored[arm].failures) for arm in Arm}

    eventually(lambda: counted()[Arm.CANDIDATE][0] >= count, "the copies have ended", within_s=5)
    return counted()


@pytest.mark.parametrize("habit", ["slow", "reset", "cut", "404", "500"])
def test_a_copy_that_is_not_answered_is_charged_to_the_candidate_and_to_no_user(
    telemetry: ScrapeTelemetry, router: TrafficRouter, user: User, habit: str
) -> None:
    router.set_split(MIRROR)
    for query in ("", f"{habit}@m-green", f"{habit}@m-green"):
        assert user.ask(query)[0] == 200
    assert mirrored(telemetry, 3) == {Arm.STABLE: (3, 0), Arm.CANDIDATE: (3, 2)}


def test_copies_to_a_candidate_that_is_gone_are_charged_to_it(
    stack: LocalStack, telemetry: ScrapeTelemetry, router: TrafficRouter, user: User
) -> None:
    router.set_split(MIRROR)
    stack.stop("m-green")
    for _ in range(5):
        assert user.ask()[0] == 200
    assert mirrored(telemetry, 5) == {Arm.STABLE: (5, 0), Arm.CANDIDATE: (5, 5)}


def test_copies_are_counted_by_the_same_durations(
    telemetry: ScrapeTelemetry, router: TrafficRouter, user: User
) -> None:
    router.set_split(MIRROR)
    for query in ("", "", "", "slow@m-green"):  # slow: given up after half a second
        user.ask(query)
    mirrored(telemetry, 4)
    counted = telemetry.read(Slot.GREEN).mirrored
    assert counted is not None
    within = dict(counted[Arm.CANDIDATE].durations)
    assert (within[0.3], within[10.0]) == (3, 4)
    assert dict(counted[Arm.STABLE].durations)[0.3] == 4


def test_a_slow_upload_and_one_that_is_given_up_count_alike_for_both(
    stack: LocalStack, telemetry: ScrapeTelemetry, router: TrafficRouter
) -> None:
    router.set_split(MIRROR)
    host, _, port = stack.address.rpartition(":")
    half = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: m\r\ncontent-length: 10\r\n\r\n12345"
    with socket.create_connection((host, int(port))) as user:
        user.sendall(half)
        time.sleep(0.35)
        user.sendall(b"67890")
        assert user.recv(100).startswith(b"HTTP/1.1 200")
        user.sendall(half)
        time.sleep(0.1)
    assert mirrored(telemetry, 2) == {Arm.STABLE: (2, 1), Arm.CANDIDATE: (2, 1)}
    counted = telemetry.read(Slot.GREEN).mirrored
    assert counted is not None
    assert [dict(counted[arm].durations)[0.3] for arm in Arm] == [1, 1]  # the slow one took longer


def test_no_copy_is_lost_while_the_candidate_hangs(
    stack: LocalStack, telemetry: ScrapeTelemetry, router: TrafficRouter
) -> None:
    """More at once than Envoy's usual limits let through."""
    router.set_split(MIRROR)

    def load() -> None:
        user = User(stack)
        for _ in range(500):
            assert user.ask("slow@m-green")[0] == 200
        user.close()

    users = [threading.Thread(target=load) for _ in range(4)]
    for thread in users:
        thread.start()
    for thread in users:
        thread.join()
    assert mirrored(telemetry, 2000) == {Arm.STABLE: (2000, 0), Arm.CANDIDATE: (2000, 2000)}


# --- testers ---------------------------------------------------------------------------


def test_testers_are_counted_as_nobodys(
    telemetry: ScrapeTelemetry, router: TrafficRouter, user: User
) -> None:
    router.set_split(MIRROR)
    for slot in Slot:
        user.ask("500", {"x-coalmine-slot": slot.value})
    user.ask("", {"x-coalmine-slot": "purple"})  # names no slot: a user like any other
    assert mirrored(telemetry, 1) == {Arm.STABLE: (1, 0), Arm.CANDIDATE: (1, 0)}


# --- model servers ---------------------------------------------------------------------


@pytest.fixture
def asking(stack: LocalStack) -> ScrapeTelemetry:
    declared_router(stack, "m")
    ports = {slot: stack.port(f"m-{slot}") for slot in Slot}
    return ScrapeTelemetry(
        "m",
        stack.admin_address,
        ServersAnswers("m", ports),
        ServedPairs(of_this_machine("m", ports), tolerance=0.1),
    )


def test_answers_to_a_request_and_to_its_copy_are_compared(
    asking: ScrapeTelemetry, router: TrafficRouter, user: User
) -> None:
    router.set_split(MIRROR)
    before = asking.read(Slot.GREEN)
    for query in ("", "", "score", "score@m-green", "500@m-green"):
        user.ask(query)
    mirrored(asking, 5)
    after = asking.read(Slot.GREEN)
    assert after.pairs is not None
    assert before.pairs is not None
    assert after.pairs.epoch == before.pairs.epoch
    assert (after.pairs.compared, after.pairs.different) == (4, 1)
    assert after.answers[Arm.CANDIDATE].scores == ((0.5, 2), (math.inf, 4))
    assert after.answers[Arm.STABLE].scores == ((0.5, 4), (math.inf, 5))
    assert after.missing == ()


def test_a_server_that_is_down_is_missing_from_the_reading_which_says_why(
    stack: LocalStack, asking: ScrapeTelemetry, router: TrafficRouter, user: User
) -> None:
    router.set_split(TrafficSplit.all_to(Slot.BLUE))
    user.ask()
    stack.stop("m-green")
    reading = asking.read(Slot.GREEN)
    assert set(reading.answers) == {Arm.STABLE}
    assert reading.pairs is None
    assert len(reading.missing) == 2
    assert all("m-green" in sentence for sentence in reading.missing)
    assert reading.arms[Arm.STABLE].requests == 1


def test_a_server_that_was_started_again_is_another_epoch_of_its_answers_alone(
    stack: LocalStack, asking: ScrapeTelemetry, router: TrafficRouter
) -> None:
    router.set_split(TrafficSplit.all_to(Slot.BLUE))
    before = asking.read(Slot.GREEN)
    stack.stop("m-green")
    stack.run(fake_server(stack, "m-green"))
    after = asking.read(Slot.GREEN)
    assert after.epoch == before.epoch
    assert after.answers[Arm.STABLE].epoch == before.answers[Arm.STABLE].epoch
    assert after.answers[Arm.CANDIDATE].epoch != before.answers[Arm.CANDIDATE].epoch
