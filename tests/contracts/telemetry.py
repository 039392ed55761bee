"""What every Telemetry keeps, run over each adapter and the simulator.

Subclass `TelemetryContract` in a test module and give it the fixtures.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import pytest

from coalmine.errors import TelemetryUnavailable
from coalmine.rollout.evidence import Arm, Counters, CountersReset, between
from coalmine.rollout.ports import Telemetry
from coalmine.slots import Slot


class Outcome(StrEnum):
    """How a user's request can end."""

    ANSWERED = "200"
    REFUSED_INPUT = "422"
    SERVER_ERROR = "500"
    TIMEOUT = "timeout"
    RESET = "reset"  # the connection breaks before the answer
    REFUSED = "refused"  # nobody listens


EndRequest = Callable[[Slot, Outcome], None]


class TelemetryContract:
    @pytest.fixture
    def telemetry(self) -> Telemetry:
        """The telemetry of a model that is served and has had no request."""
        raise NotImplementedError

    @pytest.fixture
    def end_request(self) -> EndRequest:
        """Sends one user's request to a slot, where it ends as told; returns when it has ended."""
        raise NotImplementedError

    @pytest.fixture
    def restart(self) -> Callable[[], None]:
        """The source of the counters starts anew; returns when it can be read again."""
        raise NotImplementedError

    @pytest.fixture
    def cut(self) -> Callable[[], None]:
        """Makes the source of the counters unreachable."""
        raise NotImplementedError

    def test_a_model_without_requests_has_counted_none(self, telemetry: Telemetry) -> None:
        arms = telemetry.read(Slot.GREEN).arms
        assert [(arms[arm].requests, arms[arm].failures) for arm in Arm] == [(0, 0), (0, 0)]

    @pytest.mark.parametrize("slot", list(Slot))
    @pytest.mark.parametrize("outcome", list(Outcome))
    def test_each_request_is_charged_once_to_the_slot_that_had_it(
        self, telemetry: Telemetry, end_request: EndRequest, outcome: Outcome, slot: Slot
    ) -> None:
        end_request(slot, outcome)
        arms = telemetry.read(slot).arms
        failed = 0 if outcome is Outcome.ANSWERED else 1
        assert (arms[Arm.CANDIDATE].requests, arms[Arm.CANDIDATE].failures) == (1, failed)
        assert (arms[Arm.STABLE].requests, arms[Arm.STABLE].failures) == (0, 0)

    def test_the_candidate_is_the_slot_that_is_asked_about(
        self, telemetry: Telemetry, end_request: EndRequest
    ) -> None:
        end_request(Slot.BLUE, Outcome.ANSWERED)
        assert telemetry.read(Slot.BLUE).arms[Arm.CANDIDATE].requests == 1
        assert telemetry.read(Slot.GREEN).arms[Arm.CANDIDATE].requests == 0

    def test_counters_go_on_from_reading_to_reading(
        self, telemetry: Telemetry, end_request: EndRequest
    ) -> None:
        end_request(Slot.GREEN, Outcome.ANSWERED)
        before = telemetry.read(Slot.GREEN)
        for outcome in (Outcome.ANSWERED, Outcome.SERVER_ERROR, Outcome.ANSWERED):
            end_request(Slot.GREEN, outcome)
        poll = between(before, telemetry.read(Slot.GREEN), weight=0.5)
        assert (poll.candidate.requests, poll.candidate.failures) == (3, 1)
        assert poll.stable.requests == 0

    def test_durations_are_cumulative_and_count_no_request_twice(
        self, telemetry: Telemetry, end_request: EndRequest
    ) -> None:
        for outcome in (Outcome.ANSWERED, Outcome.ANSWERED, Outcome.TIMEOUT):
            end_request(Slot.GREEN, outcome)
        counters = telemetry.read(Slot.GREEN).arms[Arm.CANDIDATE]
        bounds, counts = zip(*counters.durations, strict=True)
        assert list(bounds) == sorted(set(bounds))
        assert list(counts) == sorted(counts)
        assert counts[-1] <= counters.requests

    def test_both_arms_count_by_the_same_bounds_before_and_after_the_first_request(
        self, telemetry: Telemetry, end_request: EndRequest
    ) -> None:
        before = telemetry.read(Slot.GREEN)
        end_request(Slot.GREEN, Outcome.ANSWERED)
        after = telemetry.read(Slot.GREEN)
        assert len({_bounds(reading.arms[arm]) for reading in (before, after) for arm in Arm}) == 1

    def test_what_reached_an_arm_with_copies_is_no_less_than_what_its_users_asked(
        self, telemetry: Telemetry, end_request: EndRequest
    ) -> None:
        for outcome in (Outcome.ANSWERED, Outcome.SERVER_ERROR):
            end_request(Slot.GREEN, outcome)
        reading = telemetry.read(Slot.GREEN)
        for arm, counters in (reading.mirrored or reading.arms).items():
            assert counters.requests >= reading.arms[arm].requests
            assert counters.failures >= reading.arms[arm].failures
            assert _bounds(counters) == _bounds(reading.arms[arm])

    def test_answers_are_cumulative_and_named_by_the_life_of_their_server(self, telemetry: Telemetry) -> None:
        first, second = telemetry.read(Slot.GREEN), telemetry.read(Slot.GREEN)
        assert set(first.answers) == set(second.answers)
        for arm, answers in second.answers.items():
            assert answers.epoch == first.answers[arm].epoch
            assert list(answers.scores) == sorted(answers.scores)
            assert 0 <= answers.loss <= answers.labels

    def test_a_restart_is_another_epoch_and_no_difference_is_taken_across_it(
        self, telemetry: Telemetry, restart: Callable[[], None]
    ) -> None:
        before = telemetry.read(Slot.GREEN)
        assert telemetry.read(Slot.GREEN).epoch == before.epoch
        restart()
        after = telemetry.read(Slot.GREEN)
        with pytest.raises(CountersReset):
            between(before, after, weight=0.5)

    def test_an_unreachable_source_is_said_to_be_unavailable(
        self, telemetry: Telemetry, cut: Callable[[], None]
    ) -> None:
        cut()
        with pytest.raises(TelemetryUnavailable):
            telemetry.read(Slot.GREEN)


def _bounds(counters: Counters) -> tuple[float, ...]:
    return tuple(bound for bound, _ in counters.durations)
