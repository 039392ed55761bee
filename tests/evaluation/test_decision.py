"""When a challenger is released, when the champion is kept, and the sentences that say why."""

import re

import numpy as np
import pytest

from coalmine.errors import DataRefused
from coalmine.evaluation.decision import Scored, decide
from coalmine.evaluation.measure import Rows
from coalmine.evaluation.predictions import Predictions
from coalmine.manifest import Outcome
from coalmine.spec import AgainstChampion, Bound, Evaluation, Slices, Task

DAYS, PER_DAY = 30, 100
GROUP = np.repeat(np.arange(DAYS), PER_DAY)
ORIGIN = np.tile(["EWR", "JFK", "LGA", "LGA"], DAYS * PER_DAY // 4)


def rows(**more) -> Rows:
    target = np.random.default_rng(0).integers(0, 2, DAYS * PER_DAY)
    return Rows(
        **{"label": "2013-05", "target": target, "group": GROUP, "slices": {"origin": ORIGIN}, **more}
    )


def scored(version: str, skill: float, noise_seed: int = 1, days: float = 0.0) -> Scored:
    """A model of some skill; `days` is how much its skill differs from day to day."""
    chance = np.random.default_rng(noise_seed)
    by_day = skill + days * chance.normal(size=DAYS)[GROUP]
    score = 1 / (1 + np.exp(-(by_day * (rows().target - 0.5) + chance.normal(size=DAYS * PER_DAY))))
    label = (score > 0.5).astype(int)
    return Scored(version, Predictions(Task.BINARY, {"label": label, "probability": score}, (0, 1)))


def evaluation(**more) -> Evaluation:
    return Evaluation(**{"metrics": ("roc_auc",), "against_champion": {"roc_auc": AgainstChampion()}, **more})


WEAK, STRONG = scored("1.0.0", 0.5), scored("1.0.1", 1.5, noise_seed=2)


def test_first_release_needs_only_its_bounds():
    decision = decide(WEAK, None, rows(), evaluation(bounds={"roc_auc": Bound(minimum=0.55)}))
    assert decision.outcome is Outcome.RELEASE
    assert decision.champion is None
    assert "first release" in decision.reasons[0]


@pytest.mark.parametrize("champion", [None, scored("0.9.0", 0.1)], ids=["first release", "a worse champion"])
@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"roc_auc": Bound(minimum=0.9)}, "below the minimum of 0.9"),
        ({"log_loss": Bound(maximum=0.1)}, "above the maximum of 0.1"),
    ],
    ids=["minimum", "maximum"],
)
def test_outside_an_absolute_bound_nothing_is_released(champion, bounds, said):
    decision = decide(WEAK, champion, rows(), evaluation(bounds=bounds))
    assert decision.outcome is Outcome.KEEP
    assert said in decision.reasons[0]


def test_a_clear_gain_is_released_and_the_numbers_are_said():
    decision = decide(STRONG, WEAK, rows(), evaluation())
    (overall,) = decision.comparisons
    assert decision.outcome is Outcome.RELEASE
    assert decision.champion == "1.0.0"
    assert 0 < overall.gain.low < overall.gain.value < overall.gain.high
    assert overall.gain.value == pytest.approx(overall.challenger - overall.champion, abs=1e-5)
    assert decision.reasons == (
        f"Released 1.0.1: on 2013-05 the challenger's roc_auc is {overall.challenger:.3f} against "
        f"{overall.champion:.3f}, a gain of {overall.gain.value:.3f}, and its 95 % interval "
        f"{overall.gain.low:.3f} to {overall.gain.high:.3f} lies above 0.",
    )


@pytest.mark.parametrize(
    ("challenger", "said"),
    [
        (
            scored("1.0.1", 0.6, noise_seed=3, days=1.0),
            r"a gain of .*, but its 95 % interval -.* reaches below 0\.",
        ),
        (scored("1.0.1", 0.2), r"a loss of .*, and its 95 % interval -"),
        (Scored("1.0.1", WEAK.predictions), r"a gain of 0\.000, and its .* does not lie above 0\."),
    ],
    ids=["a gain by chance", "a loss", "the same model"],
)
def test_without_a_proven_gain_the_champion_is_kept(challenger, said):
    decision = decide(challenger, WEAK, rows(), evaluation())
    assert decision.outcome is Outcome.KEEP
    (reason,) = decision.reasons
    assert reason.startswith("Kept 1.0.0: on 2013-05 the challenger's roc_auc is ")
    assert re.search(said, reason), reason


def test_a_negative_gain_allows_a_small_loss():
    allowing = evaluation(against_champion={"roc_auc": AgainstChampion(gain=-0.05)})
    assert decide(Scored("1.0.1", WEAK.predictions), WEAK, rows(), allowing).outcome is Outcome.RELEASE


def test_a_smaller_loss_is_a_positive_gain():
    by_loss = evaluation(against_champion={"log_loss": AgainstChampion()})
    decision = decide(STRONG, WEAK, rows(), by_loss)
    gains = {each.metric: each.gain.value for each in decision.comparisons}
    assert decision.metrics["log_loss"].value < decision.champion_metrics["log_loss"].value
    assert gains["log_loss"] > 0


def test_days_are_drawn_whole():
    """Predictions that are good or bad by the day are less certain than the number of rows suggests."""
    champion, challenger = scored("1.0.0", 0.5, 3), scored("1.0.1", 0.6, 4, days=1.0)
    widths = []
    for group in (GROUP, None):
        (overall,) = decide(challenger, champion, rows(group=group), evaluation()).comparisons
        widths.append(overall.gain.high - overall.gain.low)
    assert widths[0] > 1.5 * widths[1]


def at_jfk(challenger: Scored, champion: Scored) -> Scored:
    """`challenger`, but upside down at JFK."""
    probability = challenger.predictions.outputs["probability"]
    turned = np.where(ORIGIN == "JFK", 1 - champion.predictions.outputs["probability"], probability)
    return Scored(
        "1.0.1",
        Predictions(Task.BINARY, {"label": (turned > 0.5).astype(int), "probability": turned}, (0, 1)),
    )


def test_a_slice_that_is_shown_to_lose_keeps_the_champion():
    by_origin = evaluation(slices=Slices(columns=("origin",), minimum_rows=500))
    decision = decide(at_jfk(STRONG, WEAK), WEAK, rows(), by_origin)
    assert decision.outcome is Outcome.KEEP
    (reason,) = decision.reasons
    assert "Kept 1.0.0: on origin=JFK (750 rows)" in reason
    assert "98.3 % interval" in reason  # 95 %, corrected for three slices


def test_a_slice_below_its_minimum_is_reported_but_not_judged():
    by_origin = evaluation(slices=Slices(columns=("origin",), minimum_rows=800))
    decision = decide(at_jfk(STRONG, WEAK), WEAK, rows(), by_origin)
    slices = {each.slice: each for each in decision.comparisons if each.slice is not None}
    assert decision.outcome is Outcome.RELEASE
    assert slices["origin=JFK"].required_gain is None
    assert slices["origin=JFK"].gain.high < -0.02
    assert slices["origin=LGA"].required_gain == -0.02


def test_a_slice_with_one_class_is_named_as_not_compared():
    target = rows().target.copy()
    target[ORIGIN == "JFK"] = 0
    by_origin = evaluation(slices=Slices(columns=("origin",)))
    decision = decide(STRONG, WEAK, rows(target=target), by_origin)
    assert any("origin=JFK (750 rows) was not compared" in reason for reason in decision.reasons)


def test_many_slices_widen_the_interval():
    many = np.array([f"s{number % 6}" for number in range(DAYS * PER_DAY)])

    def width(column):
        decision = decide(
            STRONG,
            WEAK,
            rows(slices={"c": column}),
            evaluation(slices=Slices(columns=("c",), minimum_rows=1)),
        )
        chosen = next(each for each in decision.comparisons if each.slice == "c=s0")
        return chosen.gain.high - chosen.gain.low

    assert width(many) > width(np.where(many == "s0", "s0", "rest"))


def test_too_few_groups_cannot_judge():
    with pytest.raises(DataRefused, match=r"3 group.*at least 10"):
        decide(STRONG, WEAK, rows(group=GROUP % 3), evaluation())


def test_the_same_inputs_give_the_same_decision():
    by_origin = evaluation(slices=Slices(columns=("origin",)))
    assert decide(STRONG, WEAK, rows(), by_origin) == decide(STRONG, WEAK, rows(), by_origin)
