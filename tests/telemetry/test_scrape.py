from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from coalmine.errors import TelemetryUnavailable
from coalmine.local.stack import LocalStack
from coalmine.rollout.evidence import Arm, CountersReset, between
from coalmine.rollout.ports import TrafficRouter, TrafficSplit
from coalmine.slots import Slot
from coalmine.telemetry.scrape import BOUNDS_MS, ScrapeTelemetry, counters, parse
from tests.contracts.telemetry import EndRequest, Outcome, TelemetryContract
from tests.local.harness import (
    User,
    declared_router,
    eventually,
    fake_server,
    kill,
    pid_of,
    running_stack,
    status_of,
)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    """Model `m` with a server in both slots."""
    with running_stack(tmp_path) as stack:
        for slot in Slot:
            stack.run(fake_server(stack, f"m-{slot}"))
        yield stack


@pytest.fixture
def router(stack: LocalStack) -> TrafficRouter:
    return declared_router(stack, "m")


@pytest.fixture
def telemetry(stack: LocalStack) -> ScrapeTelemetry:
    declared_router(stack, "m")
    return ScrapeTelemetry("m", stack.admin_address)


@pytest.fixture
def user(stack: LocalStack) -> Iterator[User]:
    user = User(stack)
    yield user
    user.close()


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
    with pytest.raises(TelemetryUnavailable, match="no cluster stranger-green"):
        ScrapeTelemetry("stranger", stack.admin_address).read(Slot.GREEN)


SERIES = 'envoy_coalmine_requests_ms_count{cluster="m-blue",status="200",flags="-"}'


@pytest.mark.parametrize(
    ("exposition", "said"),
    [
        pytest.param(f"{SERIES} NaN", "no count", id="NaN"),
        pytest.param(f"{SERIES} +Inf", "no count", id="infinite"),
        pytest.param(f"{SERIES} -1", "no count", id="negative"),
        pytest.param(f"{SERIES} 1.5", "no count", id="fraction"),
        pytest.param(f"{SERIES} many", "no count", id="words"),
        pytest.param(f"{SERIES} 1\n{SERIES} 2", "twice", id="one series twice"),
        pytest.param("<html>no statistics</html>", "line that is none", id="something else"),
    ],
)
def test_what_is_no_count_is_never_taken_for_one(exposition: str, said: str) -> None:
    with pytest.raises(TelemetryUnavailable, match=said):
        list(parse(exposition))


def test_counting_by_other_bounds_is_refused() -> None:
    exposition = (
        'envoy_cluster_membership_total{envoy_cluster_name="m-blue"} 1\n'
        'envoy_coalmine_requests_ms_bucket{cluster="m-blue",status="200",flags="-",le="4"} 1\n'
    )
    with pytest.raises(TelemetryUnavailable, match="other bounds"):
        counters(list(parse(exposition)), "m-blue")


def test_a_cluster_that_envoy_knows_and_nobody_has_used_has_counted_zero() -> None:
    exposition = 'envoy_cluster_membership_total{envoy_cluster_name="m-blue"} 1\n'
    counted = counters(list(parse(exposition)), "m-blue")
    assert (counted.requests, counted.failures) == (0, 0)
    assert counted.durations == tuple((bound / 1000, 0) for bound in BOUNDS_MS)
