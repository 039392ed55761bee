import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coalmine.errors import IntegrityError, SpecError
from coalmine.statistics.eprocess import EProcess, Null, Question, TwoArmCounts, with_poll

ROLL_BACK, PROMOTE = Question.ROLL_BACK, Question.PROMOTE

NULLS = [
    pytest.param(ROLL_BACK, Null(1.05, 0.0002), id="roll-back-errors"),
    pytest.param(ROLL_BACK, Null(1.1, 0.0005), id="roll-back-latency"),
    pytest.param(ROLL_BACK, Null(1.0, 0.0), id="roll-back-no-tolerance"),
    pytest.param(ROLL_BACK, Null(2.0, 0.01), id="roll-back-widened"),
    pytest.param(PROMOTE, Null(1.25, 0.2), id="promote-first-stage"),
    pytest.param(PROMOTE, Null(1.25, 0.0025), id="promote-last-stage"),
    pytest.param(PROMOTE, Null(1.5, 0.003), id="promote-latency"),
    pytest.param(PROMOTE, Null(1.25, 0.0), id="promote-no-margin"),
]

PASTS = [
    pytest.param((0, 0, 0, 0), id="nothing-seen"),
    pytest.param((40, 3, 800, 4), id="candidate-worse"),
    pytest.param((40, 0, 800, 40), id="candidate-better"),
    pytest.param((5, 5, 50, 50), id="everything-failed"),
    pytest.param((10, 8, 20_000, 9_000), id="half-fail"),
]


COUNTS = st.integers(0, 10**7)


@st.composite
def polls(draw) -> tuple[TwoArmCounts, float]:
    n_c, n_s = draw(COUNTS), draw(COUNTS)
    x_c, x_s = draw(st.integers(0, n_c)), draw(st.integers(0, n_s))
    return one_event(n_c, x_c, n_s, x_s), draw(st.floats(0.001, 0.999))


def binomial(n: int, p: float) -> np.ndarray:
    return np.array([math.comb(n, x) * p**x * (1 - p) ** (n - x) for x in range(n + 1)])


def one_event(candidate_requests: int, candidate: int, stable_requests: int, stable: int) -> TwoArmCounts:
    return TwoArmCounts(candidate_requests, stable_requests, (candidate,), (stable,))


def rates_in_the_null(question: Question, null: Null) -> list[tuple[float, float]]:
    """(candidate, stable): on the edge, just inside, far inside, and in the corners."""
    rates = []
    for stable in (0.0, 0.0005, 0.005, 0.05, 0.3, 0.62, 0.95, 1.0):
        edge = null.ratio * stable + null.delta
        if question is ROLL_BACK:
            rates += [(share * min(edge, 1.0), stable) for share in (0.0, 0.5, 0.97, 1.0)]
        elif edge <= 1:
            rates += [(edge + share * (1 - edge), stable) for share in (0.0, 0.03, 0.5, 1.0)]
    return rates


def expected_e(
    start: EProcess,
    weight: float,
    past: tuple[int, int, int, int],
    requests: int,
    rates: list[tuple[float, float]],
) -> list[float]:
    """E[e] after one poll at each of the rates, over every split of the requests and every outcome."""
    totals = np.zeros(len(rates))
    for to_candidate, of_split in enumerate(binomial(requests, weight)):
        to_stable = requests - to_candidate
        outcomes = list(itertools.product(range(to_candidate + 1), range(to_stable + 1)))
        # Every outcome as an event of its own, all with the same past.
        n_c, x_c, n_s, x_s = past
        seen = TwoArmCounts(n_c, n_s, (x_c,) * len(outcomes), (x_s,) * len(outcomes))
        now = TwoArmCounts(to_candidate, to_stable, *map(tuple, zip(*outcomes, strict=True)))
        family = EProcess.start(start.question, start.null, len(outcomes), start.polls_per_start)
        e = np.exp(family.with_poll(now, weight, seen).log_e_by_event)
        for i, (candidate, stable) in enumerate(rates):
            of_outcome = np.outer(binomial(to_candidate, candidate), binomial(to_stable, stable)).ravel()
            totals[i] += of_split * float(e @ of_outcome)
    return totals.tolist()


@pytest.mark.parametrize("past", PASTS)
@pytest.mark.parametrize(("question", "null"), NULLS)
def test_a_poll_expects_at_most_1_anywhere_in_the_null(question, null, past):
    start = EProcess.start(question, null)
    rates = rates_in_the_null(question, null)
    for weight, requests in itertools.product((0.01, 0.05, 0.5, 0.9), (1, 2, 5)):
        assert max(expected_e(start, weight, past, requests, rates)) <= 1 + 1e-9


# Losses in [0, 1] with their probabilities: (losses, shares) of mean p, for any p.
LOSSES = [
    pytest.param(lambda p: ((p / 2, 1.0), ((1 - p) / (1 - p / 2), p / 2 / (1 - p / 2))), id="half-or-all"),
    pytest.param(lambda p: ((p,), (1.0,)), id="always-the-mean"),
    pytest.param(lambda p: ((0.0, p, 1.0), ((1 - p) / 2, 0.5, p / 2)), id="nothing-the-mean-or-all"),
]


@pytest.mark.parametrize("losses", LOSSES)
@pytest.mark.parametrize("past", PASTS)
@pytest.mark.parametrize(("question", "null"), NULLS)
def test_a_poll_of_losses_expects_at_most_1_anywhere_in_the_null(question, null, past, losses):
    rates = [(c, s) for c, s in rates_in_the_null(question, null) if 0 < c < 1 and 0 < s < 1]
    for (candidate, stable), weight in itertools.product(rates, (0.05, 0.5)):
        of_candidate, of_stable = losses(candidate), losses(stable)
        assert sum(np.prod(of_candidate, axis=0)) == pytest.approx(candidate)
        # Two requests: each comes to an arm, and shows a loss there.
        shown = [(1, loss, weight * share) for loss, share in zip(*of_candidate, strict=True)]
        shown += [(0, loss, (1 - weight) * share) for loss, share in zip(*of_stable, strict=True)]
        expected = 0.0
        for first, second in itertools.product(shown, shown):
            to_candidate = first[0] + second[0]
            lost = sum(loss for arm, loss, _ in (first, second) if arm)
            lost_on_stable = first[1] + second[1] - lost
            poll = one_event(to_candidate, lost, 2 - to_candidate, lost_on_stable)
            after = EProcess.start(question, null).with_poll(poll, weight, one_event(*past))
            expected += math.exp(after.log_e) * first[2] * second[2]
        assert expected <= 1 + 1e-9


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([p.values for p in NULLS]), st.floats(1, 50), st.floats(0.01, 0.99), st.data())
def test_a_factor_takes_a_root_of_what_a_poll_pays(null, factor, weight, data):
    (past, _), (poll, _) = data.draw(polls()), data.draw(polls())
    start = EProcess.start(*null)
    whole = np.array(start.with_poll(poll, weight, past).log_wealth) - np.array(start.log_wealth)
    part = np.array(start.with_poll(poll / factor, weight, past).log_wealth) - np.array(start.log_wealth)
    assert part * factor == pytest.approx(whole, rel=1e-6, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([p.values for p in NULLS]), st.sampled_from([p.values for p in NULLS]), st.data())
def test_two_questions_in_one_go_are_each_answered_as_alone(one, other, data):
    (past, _), (poll, weight) = data.draw(polls()), data.draw(polls())
    asked = (EProcess.start(*one), EProcess.start(*other))
    for together, question in zip(with_poll(asked, poll, weight, past), asked, strict=True):
        alone = question.with_poll(poll, weight, past)
        assert np.array(together.log_wealth) == pytest.approx(np.array(alone.log_wealth), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("limit", [0.0, 0.004, 0.3, 0.99, 1.0])
@pytest.mark.parametrize("past", PASTS)
@pytest.mark.parametrize(("question", "null"), NULLS)
def test_a_poll_of_the_candidate_alone_expects_at_most_1_within_the_limit(question, null, past, limit):
    n_c, x_c, n_s, x_s = past
    edge = min(1.0, null.ratio * limit + null.delta)
    inside = [
        edge * share if question is ROLL_BACK else edge + (1 - edge) * share for share in (0, 0.5, 0.97)
    ]
    for requests, rate in itertools.product((1, 4), [edge, *inside]):
        outcomes = tuple(range(requests + 1))
        seen = TwoArmCounts(n_c, n_s, (x_c,) * len(outcomes), (x_s,) * len(outcomes))
        now = TwoArmCounts(requests, 0, outcomes, (0,) * len(outcomes))
        after = EProcess.start(question, null, len(outcomes)).with_candidate_poll(
            now, (limit,) * len(outcomes), seen
        )
        assert float(np.exp(after.log_e_by_event) @ binomial(requests, rate)) <= 1 + 1e-9


@pytest.mark.parametrize(("question", "null"), NULLS[:2] + NULLS[5:6])
def test_a_candidate_on_the_edge_raises_a_false_alarm_in_1_percent_of_runs_at_most(question, null):
    # 400 runs side by side, 1,200 looks, while stable's rate drifts and the weight changes.
    runs, looks, rng = 400, 1_200, np.random.default_rng(20_241)
    process = EProcess.start(question, null, runs)
    past = TwoArmCounts(0, 0, (0,) * runs, (0,) * runs)
    highest = np.full(runs, -np.inf)
    for look in range(looks):
        weight = (0.05, 0.25, 0.5)[look * 3 // looks]
        stable = 0.01 * (1.5 + math.sin(look / 90))
        to_candidate = int(rng.binomial(60, weight))
        poll = TwoArmCounts(
            to_candidate,
            60 - to_candidate,
            tuple(rng.binomial(to_candidate, null.ratio * stable + null.delta, runs).tolist()),
            tuple(rng.binomial(60 - to_candidate, stable, runs).tolist()),
        )
        process = process.with_poll(poll, weight, past)
        past = past + poll
        highest = np.maximum(highest, process.log_e_by_event)
    # 12 of 400 or more: less than 1 in 1,000 under 1 %.
    assert np.sum(highest >= math.log(100)) < 12
    # The looks did come near: a process that never bets would pass the line above.
    assert np.max(highest) > math.log(5)


@pytest.mark.parametrize("weight", [0.05, 0.5])
@pytest.mark.parametrize(
    ("question", "null", "candidate", "stable"),
    [
        pytest.param(ROLL_BACK, Null(1.05, 0.0002), 0.2, 0.005, id="roll-back"),
        pytest.param(PROMOTE, Null(1.25, 0.0025), 0.005, 0.005, id="promote"),
    ],
)
def test_the_evidence_grows_when_the_null_is_false(question, null, candidate, stable, weight):
    process, past = EProcess.start(question, null), one_event(0, 0, 0, 0)
    for _ in range(40):
        n_c, n_s = round(1_000 * weight), round(1_000 * (1 - weight))
        poll = one_event(n_c, round(n_c * candidate), n_s, round(n_s * stable))
        process, past = process.with_poll(poll, weight, past), past + poll
    assert process.log_e > math.log(100)


def test_rolling_back_and_promoting_ask_opposite_questions():
    worse = one_event(100, 30, 100, 1)
    past = one_event(0, 0, 1_000, 10)
    roll_back = EProcess.start(ROLL_BACK, Null(1.05, 0.0002)).with_poll(worse, 0.5, past)
    promote = EProcess.start(PROMOTE, Null(1.25, 0.01)).with_poll(worse, 0.5, past)
    assert roll_back.log_e > math.log(100)
    assert promote.log_e < 0


def test_a_better_candidate_is_no_reason_to_roll_back():
    better = one_event(100, 1, 100, 30)
    after = EProcess.start(ROLL_BACK, Null(1.05, 0.0002)).with_poll(better, 0.5, one_event(0, 0, 1_000, 10))
    assert after.log_e < 0


def test_joining_starts_neither_make_nor_lose_wealth():
    process, nothing = EProcess.start(ROLL_BACK, Null(1.05, 0.0002), polls_per_start=3), one_event(0, 0, 0, 0)
    for _ in range(50):
        process = process.with_poll(nothing, 0.05, nothing)
        assert process.log_e == pytest.approx(0, abs=1e-12)


def test_a_fault_that_starts_late_costs_little_more_than_one_at_once():
    def polls_until_found(onset: int) -> int:
        process, past = EProcess.start(ROLL_BACK, Null(1.05, 0.0002)), one_event(0, 0, 0, 0)
        for look in range(2_000):
            poll = one_event(5, 1 if look >= onset else 0, 95, 1)
            process, past = process.with_poll(poll, 0.05, past), past + poll
            if process.log_e >= math.log(100):
                return look - onset + 1
        raise AssertionError("never found")

    # An hour of good polls; what a process without late starts loses meanwhile grows with them.
    assert polls_until_found(1_800) <= 2 * polls_until_found(0) + 2


@pytest.mark.parametrize("polls_per_start", [1, 30])
def test_the_wealth_that_has_not_joined_survives_any_loss(polls_per_start):
    process, past = EProcess.start(ROLL_BACK, Null(1.05, 0.0002), 1, polls_per_start), one_event(0, 0, 0, 0)
    for _ in range(60):
        poll = one_event(10_000, 0, 10_000, 5_000)
        process, past = process.with_poll(poll, 0.5, past), past + poll
    assert process.log_e >= math.log(0.2 / (60 // polls_per_start + 1)) - 1e-12


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([p.values for p in NULLS]), st.lists(polls(), max_size=6), st.integers(1, 3))
def test_any_counts_give_a_finite_value_that_survives_saving(null, sequence, polls_per_start):
    process = EProcess.start(*null, polls_per_start=polls_per_start)
    past = one_event(0, 0, 0, 0)
    for poll, weight in sequence:
        process = process.with_poll(poll, weight, past).with_candidate_poll(poll, (0.3,), past)
        past = past + poll
        assert math.isfinite(process.log_e)
    assert EProcess.from_json(process.to_json()) == process


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([p.values for p in NULLS]), polls(), polls(), st.integers(1, 1_000))
def test_one_more_failure_of_an_arm_moves_the_evidence_one_way(null, seen, now, more):
    (past, _), (poll, weight) = seen, now
    question = null[0]
    start = EProcess.start(*null)
    n_c, n_s, x_c, x_s = poll.candidate_requests, poll.stable_requests, poll.candidate[0], poll.stable[0]
    before = start.with_poll(poll, weight, past).log_e
    worse_candidate = start.with_poll(one_event(n_c + more, x_c + more, n_s, x_s), weight, past).log_e
    same_requests = start.with_poll(one_event(n_c + more, x_c, n_s, x_s), weight, past).log_e
    worse_stable = start.with_poll(one_event(n_c, x_c, n_s + more, x_s + more), weight, past).log_e
    better_stable = start.with_poll(one_event(n_c, x_c, n_s + more, x_s), weight, past).log_e
    tolerance = 1e-9 * (1 + abs(before))
    if question is ROLL_BACK:
        assert worse_candidate >= same_requests - tolerance
        assert worse_stable <= better_stable + tolerance
    else:
        assert worse_candidate <= same_requests + tolerance
        assert worse_stable >= better_stable - tolerance


def test_the_mean_over_events_is_what_counts():
    past = TwoArmCounts(0, 1_000, (0, 0), (10, 10))
    process = EProcess.start(ROLL_BACK, Null(1.05, 0.0002), events=2)
    process = process.with_poll(TwoArmCounts(50, 50, (20, 0), (1, 1)), 0.5, past)
    first, second = process.log_e_by_event
    assert first > 5 > second
    assert process.log_e == pytest.approx(math.log((math.exp(first) + math.exp(second)) / 2))


@pytest.mark.parametrize(
    ("ratio", "delta"), [(0, 0.1), (-1, 0.1), (1, -0.1), (1, 1), (math.nan, 0), (1, math.nan)]
)
def test_a_null_that_compares_nothing_is_refused(ratio, delta):
    with pytest.raises(SpecError, match="give a ratio above 0"):
        Null(ratio, delta)


def test_a_damaged_record_is_not_evidence():
    damaged = EProcess.start(ROLL_BACK, Null(1.05, 0.0002)).to_json() | {"log_wealth": "lost"}
    with pytest.raises(IntegrityError, match="not a EProcess"):
        EProcess.from_json(damaged)
