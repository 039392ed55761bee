"""The first poll of a stage begins before its weight was set: bet on as it came, not as it was meant."""

from dataclasses import replace

from coalmine.rollout import engine
from coalmine.rollout.decision import Decision, Observation
from coalmine.rollout.evidence import Arm, Counters, Reading
from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import SlotHealth, SlotStatus, TrafficSplit
from coalmine.rollout.state import Phase, RolloutState
from coalmine.rollout_spec import ErrorsSpec, Rollout
from coalmine.slots import Slot

PLAN = Plan.of(Rollout(gates=(ErrorsSpec(),)))
READY = SlotStatus(SlotHealth.READY)


def reading(at_s: float, candidate: int, stable: int) -> Reading:
    return Reading(at_s, "", {Arm.CANDIDATE: Counters(candidate, 0), Arm.STABLE: Counters(stable, 0)})


def tick(state: RolloutState, at_s: float, candidate: int, stable: int, **seen) -> Decision:
    observation = Observation(engine.wanted_split(PLAN, state), READY, reading(at_s, candidate, stable))
    return engine.decide(PLAN, state, replace(observation, **seen), at_s)


def entered() -> RolloutState:
    """In the first stage, entered at 10 s, when stable had counted 1,000 requests."""
    start = RolloutState.begin(Slot.GREEN, has_stable=True, now_s=0)
    return tick(start, 10, 0, 1_000).state


def test_the_first_poll_of_a_stage_is_bet_on_as_its_requests_came():
    first = tick(entered(), 12, 40, 1_060)
    assert first.measured is not None
    poll = first.measured.poll
    assert (poll.candidate.requests, poll.stable.requests) == (40, 60)
    assert poll.realised


def test_the_next_poll_is_bet_on_by_the_weight():
    second = tick(tick(entered(), 12, 40, 1_060).state, 14, 45, 1_155)
    assert second.measured is not None
    assert not second.measured.poll.realised


def test_a_route_that_is_not_there_yet_drops_the_first_poll():
    waiting = tick(entered(), 12, 0, 1_100, split=TrafficSplit.all_to(Slot.BLUE))
    assert waiting.measured is None
    assert waiting.state.base is None
    assert waiting.events[-1].sentence.startswith("Waiting for the route")


def late(at_s: float, candidate: int, stable: int) -> Reading:
    return replace(reading(at_s, candidate, stable), late_s=3.0)


def test_arms_that_are_counted_at_two_moments_are_bet_on_as_their_requests_came():
    before = tick(entered(), 12, 40, 1_060).state
    second = tick(before, 14, 0, 0, reading=late(14, 45, 1_155))
    assert second.measured is not None
    assert second.measured.poll.realised
    # So is what follows, since it begins where those counts ended.
    third = tick(second.state, 16, 50, 1_250)
    assert third.measured is not None
    assert third.measured.poll.realised


def test_an_arm_that_is_counted_later_than_the_other_is_not_taken_for_one_that_is_passed_over():
    state = tick(tick(entered(), 12, 5, 1_095).state, 14, 0, 0, reading=late(14, 10, 1_190)).state
    lagging = replace(reading(29, 15, 2_615), late_s=14.0)  # of 15 s of stable and one of the candidate
    assert tick(state, 29, 0, 0, reading=lagging).state.skewed_since_s is None
    assert tick(state, 29, 15, 2_615).state.skewed_since_s is not None


def test_late_counts_still_show_that_requests_do_not_come_by_the_weight():
    state = tick(entered(), 12, 5, 1_095).state
    for n in range(1, 40):
        state = tick(state, 12 + 2 * n, 0, 0, reading=late(12 + 2 * n, 5, 1_095 + 100 * n)).state
    assert state.skewed_since_s is not None or state.phase is Phase.ROLLING_BACK
