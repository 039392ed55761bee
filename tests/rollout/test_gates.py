import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coalmine.errors import IntegrityError
from coalmine.rollout.evidence import ArmCounts, Counters, Poll
from coalmine.rollout.gates import Gate, GateReading, Verdict, kinds
from coalmine.rollout.gates.combine import judged, mean_log_e, ruling, verdict
from coalmine.rollout.gates.errors import ErrorsGate
from coalmine.rollout.gates.latency import LatencyGate
from coalmine.statistics.eprocess import Null

BOUNDS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, math.inf)
# Stable's share at or below each bound: half within 10 ms, and a tail.
STABLE_WITHIN = (0.0, 0.2, 0.5, 0.8, 0.92, 0.97, 0.99, 0.997, 1.0, 1.0)

GATES = [pytest.param(ErrorsGate, id="errors"), pytest.param(LatencyGate, id="latency")]


def arm(requests: int, failures: int = 0, within: tuple[float, ...] = STABLE_WITHIN) -> ArmCounts:
    return ArmCounts(requests, failures, tuple(round(requests * share) for share in within))


def poll(candidate: ArmCounts, stable: ArmCounts, weight: float = 0.05) -> Poll:
    return Poll(weight, candidate, stable, BOUNDS_S)


def after(gate: Gate, polls: int, each: Poll) -> Gate:
    for _ in range(polls):
        gate = gate.observe(each)
    return gate


HISTORY = Counters(5_000, 9, tuple(zip(BOUNDS_S, arm(5_000).within, strict=True)))
HEALTHY = poll(arm(100), arm(1_900))
NO_CANDIDATE = poll(arm(0, within=()), arm(100))
NO_STABLE = poll(arm(100), arm(0, within=()))
IDLE = poll(arm(0, within=()), arm(0, within=()))


@pytest.mark.parametrize("start", GATES)
class TestEveryGate:
    def test_has_no_evidence_before_its_first_poll(self, start):
        reading = start.start().for_stage(0.05).reading()
        assert reading.log_e_roll_back == pytest.approx(0, abs=1e-12)
        assert reading.log_e_promote == pytest.approx(0, abs=1e-12)
        assert (reading.candidate, reading.stable) == (None, None)

    @pytest.mark.parametrize(
        "empty",
        [
            pytest.param(NO_CANDIDATE, id="candidate"),
            pytest.param(NO_STABLE, id="stable"),
            pytest.param(IDLE, id="both"),
            pytest.param(Poll(1.0, NO_CANDIDATE.candidate, NO_CANDIDATE.stable, BOUNDS_S), id="in-the-bake"),
        ],
    )
    def test_an_arm_without_requests_shows_nothing_and_never_passes(self, start, empty):
        fresh = start.start().for_stage(0.2)
        never = verdict([after(fresh, 100, empty).reading()], last=False)
        assert never in (Verdict.INCONCLUSIVE, Verdict.ERROR)
        for before in (fresh, after(fresh, 2, HEALTHY)):
            readings = [before.reading(), after(before, 100, empty).reading()]
            assert readings[0].log_e_roll_back == readings[1].log_e_roll_back
            assert readings[0].log_e_promote == readings[1].log_e_promote

    def test_a_healthy_candidate_is_promoted(self, start):
        gate = after(start.start().for_stage(0.05), 40, HEALTHY)
        assert verdict([gate.reading()], last=True) is Verdict.PASS

    def test_a_stage_begins_without_promote_evidence_and_with_roll_back_evidence(self, start):
        before = after(start.start().for_stage(0.05), 10, HEALTHY)
        new_stage = before.for_stage(0.02)
        assert new_stage.reading().log_e_promote == pytest.approx(0, abs=1e-12)
        assert new_stage.reading().log_e_roll_back == before.reading().log_e_roll_back != 0

    def test_a_narrower_margin_takes_longer(self, start):
        early = after(start.start().for_stage(0.05), 5, HEALTHY).reading()
        final = after(start.start().for_stage(0.0025), 5, HEALTHY).reading()
        assert early.log_e_promote > final.log_e_promote

    @pytest.mark.parametrize("polls", [0, 3, 70])
    def test_what_is_saved_comes_back_equal_and_goes_on_equal(self, start, polls):
        history = Counters(5_000, 9, tuple(zip(BOUNDS_S, arm(5_000).within, strict=True)))
        gate = after(start.start(history=history).for_stage(0.05), polls, HEALTHY)
        text = json.dumps(kinds.to_json(gate), allow_nan=False)
        again = kinds.from_json(json.loads(text))
        assert again == gate
        assert again.observe(HEALTHY) == gate.observe(HEALTHY)
        assert len(text) < 4_000

    def test_its_record_does_not_grow_with_the_rollout(self, start):
        sizes = [len(json.dumps(kinds.to_json(after(start.start(), polls, HEALTHY)))) for polls in (10, 300)]
        assert sizes[1] < sizes[0] + 200

    def test_a_damaged_record_is_refused(self, start):
        with pytest.raises(IntegrityError, match="start it anew"):
            kinds.from_json(kinds.to_json(start.start()) | {"comparison": None})

    def test_wider_roll_back_constants_tolerate_more(self, start):
        bad = poll(arm(100, 6, (0.0, 0.1, 0.3, 0.7, 0.85, 0.93, 0.97, 0.99, 1.0, 1.0)), arm(1_900, 40))
        strict = after(start.start().for_stage(0.05), 20, bad).reading()
        wide = after(start.start(roll_back=Null(5.0, 0.05)).for_stage(0.05), 20, bad).reading()
        assert strict.log_e_roll_back > math.log(100)
        assert wide.log_e_roll_back < 0


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_counts_give_a_finite_reading_that_survives_saving(data):
    def any_arm() -> ArmCounts:
        requests = data.draw(st.integers(0, 10**6))
        within = data.draw(st.lists(st.integers(0, requests), min_size=10, max_size=10))
        failures = data.draw(st.integers(0, requests + 3))
        return ArmCounts(requests, failures, data.draw(st.sampled_from([(), tuple(sorted(within))])))

    gates: list[Gate] = [ErrorsGate.start().for_stage(0.05), LatencyGate.start().for_stage(0.05)]
    for _ in range(data.draw(st.integers(1, 4))):
        weight = data.draw(st.sampled_from([0.001, 0.05, 0.5, 0.999, 1.0]))
        each = Poll(
            weight, any_arm(), any_arm(), data.draw(st.sampled_from([BOUNDS_S, (*BOUNDS_S[:9], 9.0), ()]))
        )
        gates = [gate.observe(each) for gate in gates]
        gates = data.draw(st.sampled_from([gates, [gate.for_stage(0.01) for gate in gates]]))
    for gate in gates:
        reading = gate.reading()
        assert math.isfinite(reading.log_e_roll_back)
        assert math.isfinite(reading.log_e_promote)
        assert kinds.from_json(kinds.to_json(gate)) == gate


class TestErrors:
    def test_a_candidate_that_fails_a_fifth_is_found_within_seconds_at_5_percent(self):
        # 50 requests per second, polls of 2 s; stable fails .5 %.
        polls_until_found = []
        for seed in range(40):
            rng, gate, polls = np.random.default_rng(seed), ErrorsGate.start().for_stage(0.05), 0
            while gate.reading().log_e_roll_back < math.log(100):
                polls += 1
                to_candidate = int(rng.binomial(100, 0.05))
                candidate = ArmCounts(to_candidate, int(rng.binomial(to_candidate, 0.2)))
                stable = ArmCounts(100 - to_candidate, int(rng.binomial(100 - to_candidate, 0.005)))
                gate = gate.observe(Poll(0.05, candidate, stable))
            polls_until_found.append(polls)
        assert np.median(polls_until_found) <= 4
        assert max(polls_until_found) <= 20

    def test_a_good_candidate_is_through_three_stages_within_minutes(self):
        # 50 requests per second; H = .25 excess failures per second gives the margins.
        minutes = []
        for seed in range(5):
            rng, gate, polls = np.random.default_rng(seed), ErrorsGate.start(), 0
            for weight, margin, needed in ((0.05, 0.02, 20), (0.25, 0.01, 20), (0.5, 0.0025, 100)):
                gate = gate.for_stage(margin)
                while gate.reading().log_e_promote < math.log(needed) and polls < 2_000:
                    polls += 1
                    to_candidate = int(rng.binomial(100, weight))
                    candidate = ArmCounts(to_candidate, int(rng.binomial(to_candidate, 0.005)))
                    stable = ArmCounts(100 - to_candidate, int(rng.binomial(100 - to_candidate, 0.005)))
                    gate = gate.observe(Poll(weight, candidate, stable))
            minutes.append(polls * 2 / 60)
        assert np.median(minutes) < 12

    def test_total_failure_is_found_with_the_first_requests(self):
        gate = ErrorsGate.start().for_stage(0.05).observe(poll(arm(5, 5), arm(95)))
        assert verdict([gate.reading()], last=False) is Verdict.FAIL

    def test_it_says_how_many_failed(self):
        gate = ErrorsGate.start().observe(poll(arm(82, 7), arm(1_640)))
        reading = gate.reading()
        assert reading.sentence == "7 of 82 requests failed on the candidate, 0 of 1,640 on stable"
        assert (reading.gate, reading.candidate, reading.stable) == ("errors", 7 / 82, 0)

    def test_history_is_no_part_of_what_it_says(self):
        gate = ErrorsGate.start(history=Counters(9_000, 90)).observe(poll(arm(10), arm(100)))
        assert gate.reading().stable == 0
        assert (
            ErrorsGate.start(history=Counters(9_000, 90)).reading().sentence
            == "no requests on the candidate yet"
        )


class TestLatency:
    SLOW = (0.0, 0.12, 0.38, 0.7, 0.87, 0.95, 0.98, 0.994, 1.0, 1.0)
    SLOW_TAIL = (0.0, 0.2, 0.5, 0.8, 0.88, 0.90, 0.95, 0.98, 1.0, 1.0)

    @pytest.mark.parametrize("within", [SLOW, SLOW_TAIL], ids=["throughout", "tail"])
    def test_a_slower_candidate_is_rolled_back(self, within):
        gate = after(LatencyGate.start().for_stage(0.05), 30, poll(arm(100, within=within), arm(1_900)))
        assert verdict([gate.reading()], last=False) is Verdict.FAIL

    def test_a_faster_candidate_is_not(self):
        faster = (0.0, 0.4, 0.7, 0.9, 0.96, 0.99, 0.995, 0.999, 1.0, 1.0)
        gate = after(LatencyGate.start().for_stage(0.05), 30, poll(arm(100, within=faster), arm(1_900)))
        assert verdict([gate.reading()], last=True) is Verdict.PASS

    def test_it_names_the_bound_that_tells_most(self):
        gate = after(
            LatencyGate.start().for_stage(0.05), 30, poll(arm(100, within=self.SLOW_TAIL), arm(1_900))
        )
        assert gate.reading().sentence == "slower than 100 ms: 10.0 % on the candidate, 3.0 % on stable"
        assert gate.reading().candidate == pytest.approx(0.1)

    def test_the_bounds_are_spread_over_what_stable_sometimes_exceeds(self):
        gate = after(LatencyGate.start().for_stage(0.05), 2, HEALTHY)
        bets = {gate.known_bounds_s[bound] for bound in gate.bounds}
        assert bets == {0.01, 0.025, 0.05, 0.1, 0.25, 1.0}

    def test_the_poll_that_first_shows_the_bounds_is_not_bet_on(self):
        slow = poll(arm(1_000, within=self.SLOW), arm(1_000))
        first = LatencyGate.start().for_stage(0.05).observe(slow)
        assert first.reading().log_e_roll_back == 0
        assert first.observe(slow).reading().log_e_roll_back != 0

    def test_history_lets_it_bet_from_the_first_poll(self):
        history = Counters(5_000, 0, tuple(zip(BOUNDS_S, arm(5_000).within, strict=True)))
        gate = LatencyGate.start(history=history).for_stage(0.05)
        assert gate.bounds
        assert gate.observe(poll(arm(1_000, within=self.SLOW), arm(1_000))).reading().log_e_roll_back > 0

    def test_the_bounds_stay_fixed_during_a_stage_and_follow_stable_at_the_next(self):
        gate = after(LatencyGate.start().for_stage(0.05), 2, HEALTHY)
        slow_hour = poll(
            arm(100, within=self.SLOW_TAIL), arm(40_000, within=(0.0,) * 5 + (0.3, 0.6, 0.9, 1.0, 1.0))
        )
        later = after(gate, 3, slow_hour)
        assert later.bounds == gate.bounds
        assert later.for_stage(0.05).bounds != gate.bounds
        assert later.for_stage(0.05).reading().log_e_roll_back == later.reading().log_e_roll_back

    @pytest.mark.parametrize(
        ("within", "bound"),
        [
            pytest.param((0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0), 0.025, id="between-two-bounds"),
            pytest.param((1.0,) * 10, 0.001, id="below-all"),
            pytest.param((0.0,) * 9 + (1.0,), 2.5, id="above-all"),
        ],
    )
    def test_bounds_too_far_apart_still_leave_one_to_watch(self, within, bound):
        gate = after(
            LatencyGate.start().for_stage(0.05), 2, poll(arm(100, within=within), arm(1_900, within=within))
        )
        assert {gate.known_bounds_s[i] for i in gate.bounds} == {bound}

    @pytest.mark.parametrize(
        ("fast_s", "found"),
        [
            pytest.param(0.0, Verdict.FAIL, id="any-time"),
            pytest.param(0.1, Verdict.PASS, id="fast-either-way"),
        ],
    )
    def test_a_candidate_that_is_slower_where_both_are_fast_is_not_slower(self, fast_s, found):
        soon = tuple(0.0 if bound_s < 0.01 else 0.5 if bound_s < 0.1 else 0.99 for bound_s in BOUNDS_S)
        sooner = tuple(0.0 if bound_s < 0.01 else 0.9 if bound_s < 0.1 else 0.99 for bound_s in BOUNDS_S)
        each = poll(arm(100, within=soon), arm(1_900, within=sooner))
        gate = after(LatencyGate.start(fast_s=fast_s).for_stage(0.05), 40, each)
        assert verdict([gate.reading()], last=True) is found
        assert all(gate.known_bounds_s[bound] >= fast_s for bound in gate.bounds)

    def test_beyond_what_is_fast_it_is_as_strict_as_ever(self):
        gate = LatencyGate.start(fast_s=0.05).for_stage(0.05)
        slower = after(gate, 60, poll(arm(100, within=self.SLOW_TAIL), arm(1_900)))
        assert verdict([slower.reading()], last=False) is Verdict.FAIL

    @pytest.mark.parametrize("bounds_s", [(), (math.inf,)], ids=["no-bounds", "only-infinity"])
    def test_without_durations_it_holds(self, bounds_s):
        counts = ArmCounts(1_000, 0, (1_000,) * len(bounds_s))
        gate = after(LatencyGate.start().for_stage(0.2), 50, Poll(0.5, counts, counts, bounds_s))
        assert verdict([gate.reading()], last=False) is Verdict.INCONCLUSIVE
        assert gate.reading().candidate is None

    def test_requests_without_an_answer_have_no_duration(self):
        # All of the candidate's requests were refused: the histogram stays empty.
        refused = ArmCounts(100, 100, (0,) * 10)
        before = after(LatencyGate.start().for_stage(0.05), 2, HEALTHY)
        after_refusals = after(before, 20, poll(refused, arm(1_900)))
        assert after_refusals.reading().log_e_roll_back == before.reading().log_e_roll_back

    def test_a_proxy_with_other_bounds_is_counted_anew_with_the_evidence_kept(self):
        before = after(LatencyGate.start().for_stage(0.05), 5, HEALTHY)
        others = Poll(
            0.05, ArmCounts(100, 0, (50, 90, 100)), ArmCounts(1_900, 0, (950, 1_710, 1_900)), (0.02, 0.2, 9.0)
        )
        gate = after(before, 3, others)
        assert gate.known_bounds_s == (0.02, 0.2, 9.0)
        assert gate.comparison.rollout.stable_requests == 3 * 1_900
        assert before.observe(others).reading().log_e_promote == before.reading().log_e_promote
        assert gate.reading().log_e_promote > before.reading().log_e_promote


class TestBake:
    def test_a_candidate_that_breaks_without_stable_beside_it_is_rolled_back(self):
        gates = [
            after(start.start().for_stage(0.02), 10, HEALTHY).for_stage(0.0025)
            for start in (ErrorsGate, LatencyGate)
        ]
        broken = Poll(1.0, arm(200, 30), arm(0, within=()), BOUNDS_S)
        readings = [after(gate, 5, broken).reading() for gate in gates]
        assert ruling(readings, last=True).verdict is Verdict.FAIL
        assert ruling(readings, last=True).gate == "errors"

    def test_a_good_candidate_passes_it(self):
        gate = after(ErrorsGate.start().for_stage(0.02), 20, HEALTHY).for_stage(0.01)
        gate = after(gate, 20, Poll(1.0, arm(1_000), arm(0, within=()), BOUNDS_S))
        assert verdict([gate.reading()], last=True) is Verdict.PASS


def reading(gate: str, roll_back_e: float, promote_e: float) -> GateReading:
    return GateReading(gate, math.log(roll_back_e), math.log(promote_e), 0.1, 0.1, f"what {gate} saw")


UNMEASURED = GateReading("latency", math.nan, 0.0, None, None, "?")


class TestVerdict:
    @pytest.mark.parametrize(
        ("readings", "last", "expected", "gate"),
        [
            pytest.param(
                [(99.9, 1), (1, 1)], False, Verdict.INCONCLUSIVE, "a", id="one-alarm-of-two-is-halved"
            ),
            pytest.param([(200, 1), (0.1, 1)], False, Verdict.FAIL, "a", id="one-loud-alarm-of-two"),
            pytest.param([(60, 1), (150, 1)], False, Verdict.FAIL, "b", id="two-alarms-together"),
            pytest.param([(100.001, 1e9)], False, Verdict.FAIL, "a", id="roll-back-comes-before-promote"),
            pytest.param([(0.5, 20.001), (0.5, 900)], False, Verdict.PASS, "a", id="every-gate-convinced"),
            pytest.param(
                [(0.5, 900), (0.5, 19.9)], False, Verdict.INCONCLUSIVE, "b", id="one-gate-unconvinced"
            ),
            pytest.param([(0.5, 99.9), (0.5, 900)], True, Verdict.INCONCLUSIVE, "a", id="last-asks-for-100"),
            pytest.param([(0.5, 100.001), (0.5, 900)], True, Verdict.PASS, "a", id="last-convinced"),
            pytest.param(
                [(0.5, 900), (2.001, 900)], False, Verdict.INCONCLUSIVE, "b", id="one-gate-suspects"
            ),
            pytest.param([(1.999, 900)], False, Verdict.PASS, "a", id="suspicion-too-small"),
        ],
    )
    def test_follows_the_thresholds(self, readings, last, expected, gate):
        result = ruling([reading(name, *e) for name, e in zip("ab", readings, strict=False)], last)
        assert (result.verdict, result.gate) == (expected, gate)
        assert f"what {gate} saw" in result.reason

    def test_no_gate_never_passes(self):
        assert ruling([], last=False).verdict is Verdict.INCONCLUSIVE

    def test_what_could_not_be_measured_holds_whatever_the_others_say(self):
        result = ruling([reading("errors", 0.1, 1e9), UNMEASURED], last=False)
        assert (result.verdict, result.gate) == (Verdict.ERROR, "latency")
        assert ruling([UNMEASURED], last=False).verdict is Verdict.ERROR

    def test_what_could_not_be_measured_does_not_stop_a_roll_back(self):
        assert ruling([reading("errors", 200.001, 1), UNMEASURED], last=False).verdict is Verdict.FAIL
        assert ruling([reading("errors", 199.9, 1), UNMEASURED], last=False).verdict is Verdict.ERROR

    def test_a_gate_in_dry_run_neither_rolls_back_nor_holds_nor_passes(self):
        loud = replace(reading("dry", 1e9, 0.1), dry_run=True)
        assert ruling([loud, reading("a", 0.5, 30)], last=False).verdict is Verdict.PASS
        assert ruling([loud, reading("a", 0.5, 3)], last=False).verdict is Verdict.INCONCLUSIVE
        assert (
            ruling([replace(reading("dry", 0.5, 1e9), dry_run=True)], False).verdict is Verdict.INCONCLUSIVE
        )
        broken = replace(loud, verdict=Verdict.ERROR)
        assert ruling([broken, reading("a", 0.5, 30)], last=False).verdict is Verdict.PASS

    def test_a_gate_that_the_stage_does_not_ask_counts_against_the_candidate_and_for_nothing_else(self):
        before = replace(reading("before", 250, 1), asked=False)
        assert ruling([before, reading("a", 0.5, 30)], last=False).verdict is Verdict.FAIL
        silent = replace(reading("before", 1, 1), asked=False, verdict=Verdict.ERROR)
        assert ruling([silent, reading("a", 0.5, 30)], last=False).verdict is Verdict.PASS
        assert ruling([silent, reading("a", 150, 30)], last=False).verdict is Verdict.INCONCLUSIVE

    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            (Verdict.PASS, Verdict.PASS),
            (Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
            (Verdict.ERROR, Verdict.ERROR),
            (Verdict.FAIL, Verdict.FAIL),
        ],
    )
    def test_a_check_is_taken_at_its_word_and_is_no_evidence(self, said, expected):
        check = replace(reading("hook", 1, 1), by_evidence=False, verdict=said)
        assert ruling([check, reading("a", 0.5, 30)], last=False).verdict is expected
        assert ruling([check], last=False).verdict is expected
        assert ruling([check, reading("a", 99.9, 30)], last=False).verdict is not Verdict.PASS
        assert ruling([check, reading("a", 100.1, 30)], last=False).verdict is Verdict.FAIL

    def test_a_gate_counts_by_its_stake_and_all_stakes_come_to_a_mean(self):
        def pair(errors: float, latency: float) -> list[GateReading]:
            return [replace(reading("errors", errors, 30), stake=3.0), reading("latency", latency, 30)]

        assert ruling(pair(133.5, 0.01), last=False).verdict is Verdict.FAIL
        assert ruling(pair(133.1, 0.01), last=False).verdict is Verdict.INCONCLUSIVE
        assert ruling(pair(0.01, 400.1), last=False).verdict is Verdict.FAIL
        assert ruling(pair(0.01, 399.1), last=False).verdict is Verdict.INCONCLUSIVE
        # Each at the most that its null lets it expect: no stake makes the mean expect more.
        assert mean_log_e(pair(1, 1)) == pytest.approx(0)
        verdicts = [each.verdict for each in judged(pair(133.5, 399.0), last=False)]
        assert verdicts == [Verdict.FAIL, Verdict.INCONCLUSIVE]

    def test_enormous_evidence_is_no_trouble(self):
        huge = GateReading("a", 1e6, -1e6, 1.0, 0.0, "all failed")
        tiny = GateReading("b", -1e6, 1e6, 0.0, 0.0, "none failed")
        assert verdict([huge, tiny], last=False) is Verdict.FAIL
        assert mean_log_e([huge, tiny]) == pytest.approx(1e6)
        assert verdict([tiny], last=True) is Verdict.PASS
        assert "over a million" in ruling([tiny], last=True).reason


def test_a_candidate_that_is_slower_under_the_whole_load_of_the_bake_is_not_rolled_back_for_it():
    before = after(LatencyGate.start().for_stage(0.05), 20, HEALTHY)
    slow = Poll(1.0, ArmCounts(200, 0, (0,) * len(BOUNDS_S)), ArmCounts(0, 0, (0,) * len(BOUNDS_S)), BOUNDS_S)
    baking = after(before, 30, slow)
    assert baking.reading() == before.reading()


def test_a_bake_after_a_stable_that_answered_nothing_cannot_be_judged():
    baking = ErrorsGate.start().for_stage(0.05).observe(Poll(1.0, ArmCounts(100, 0), ArmCounts(0, 0)))
    assert verdict([baking.reading()], last=True) is Verdict.ERROR
    assert "nothing to compare with" in baking.reading().sentence


@pytest.mark.parametrize("start", GATES)
def test_users_who_were_not_drawn_are_compared_by_the_requests_that_came(start):
    gate = start.start(history=HISTORY).for_stage(0.2)
    chosen = replace(poll(arm(100, 30, within=(*(0.0,) * 9, 1.0)), arm(1_000), weight=0.0), realised=True)
    alone = replace(poll(arm(100, 30, within=(*(0.0,) * 9, 1.0)), arm(0), weight=0.0), realised=True)
    assert verdict([after(gate, 30, chosen).reading()], last=False) is Verdict.FAIL
    assert after(gate, 30, alone).reading().log_e_roll_back == gate.reading().log_e_roll_back
