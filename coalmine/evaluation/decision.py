"""Champion against challenger: release the new model or keep the old one, and why.

Both have predicted the same rows, which neither was trained or tuned on. The challenger must

- lie within the absolute bounds, as a point estimate;
- beat the champion by more than the required gain with its whole interval;
- not be shown to be worse on a slice: the interval of its gain there, widened for the number of
  slices judged (Bonferroni), must not lie wholly below the slices' `gain`. Slices are too small to
  prove that nothing was lost on each of them, and would hold up every release if they had to.

Pure: arrays in, a decision and its reasons out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from coalmine.evaluation.bootstrap import MINIMUM_GROUPS, Bootstrapped, bootstrap, rounded
from coalmine.evaluation.measure import Rows, estimates, measure
from coalmine.evaluation.metrics import FloatArray, Metric, Statistic, metrics_of, statistic
from coalmine.evaluation.predictions import Predictions
from coalmine.manifest import Comparison, Estimate, Outcome, ReleaseDecision
from coalmine.spec import Bound, Evaluation

_DRAWS_BEYOND = 3  # at least so many draws beyond each end of a slice's interval


@dataclass(frozen=True)
class Scored:
    """A version, and what it says about the rows."""

    version: str
    predictions: Predictions


@dataclass(frozen=True)
class _Finding:
    """One rule: whether it holds, and the clause that says so."""

    holds: bool
    clause: str


def decide(
    challenger: Scored, champion: Scored | None, rows: Rows, evaluation: Evaluation
) -> ReleaseDecision:
    """
    Raises:
        SpecError: `evaluation` names an unknown metric.
        DataRefused: the rows cannot judge a model (too few groups, a class never trained on).
    """
    ours = measure(challenger.predictions, rows, evaluation)
    metrics = estimates(ours, rows, evaluation.confidence)
    findings = [_bound(name, metrics[name], bound, rows) for name, bound in evaluation.bounds.items()]
    if champion is None:
        opening = _Finding(True, "this is the first release, so there is no champion to compare with")
        return _decision(challenger, None, metrics, {}, (), [opening, *findings])

    theirs = measure(champion.predictions, rows, evaluation)
    champion_metrics = estimates(theirs, rows, evaluation.confidence)
    comparisons = _compare(challenger.predictions, ours, theirs, rows, evaluation)
    against = [
        _against_champion(each, rows, evaluation) for each in comparisons if each.required_gain is not None
    ]
    slices, slice_findings = _compare_slices(challenger.predictions, champion.predictions, rows, evaluation)
    return _decision(
        challenger,
        champion,
        metrics,
        champion_metrics,
        (*comparisons, *slices),
        [*against, *findings, *slice_findings],
    )


def _decision(
    challenger: Scored,
    champion: Scored | None,
    metrics: dict[str, Estimate],
    champion_metrics: dict[str, Estimate],
    comparisons: tuple[Comparison, ...],
    findings: list[_Finding],
) -> ReleaseDecision:
    """Failing rules are the reasons to keep; when none fails, every rule is a reason to release."""
    failing = [finding for finding in findings if not finding.holds]
    if not failing:
        head = f"Released {challenger.version}"
    elif champion is not None:
        head = f"Kept {champion.version}"
    else:
        head = "Released nothing"
    said = failing or findings or [_Finding(True, "model.yaml sets no bound")]
    return ReleaseDecision(
        outcome=Outcome.KEEP if failing else Outcome.RELEASE,
        reasons=tuple(f"{head}: {finding.clause}." for finding in said),
        champion=None if champion is None else champion.version,
        metrics=metrics,
        champion_metrics=champion_metrics,
        comparisons=comparisons,
    )


# --- the rules -------------------------------------------------------------------------


def _bound(name: str, measured: Estimate, bound: Bound, rows: Rows) -> _Finding:
    low = -math.inf if bound.minimum is None else bound.minimum
    high = math.inf if bound.maximum is None else bound.maximum
    says = f"on {rows.label} the challenger's {name} is {_text(measured.value)}"
    if measured.value < low:
        return _Finding(False, f"{says}, below the minimum of {low:g}")
    if measured.value > high:
        return _Finding(False, f"{says}, above the maximum of {high:g}")
    limits = [f"at least {low:g}"] * (bound.minimum is not None) + [f"at most {high:g}"] * (
        bound.maximum is not None
    )
    return _Finding(True, f"{says}, and it must be {' and '.join(limits) or 'any number'}")


def _against_champion(comparison: Comparison, rows: Rows, evaluation: Evaluation) -> _Finding:
    gain, required = comparison.gain, comparison.required_gain
    assert required is not None
    says = (
        f"on {rows.label} the challenger's {comparison.metric} is {_text(comparison.challenger)} against "
        f"{_text(comparison.champion)}, {_change(gain.value)}"
    )
    interval = f"{100 * evaluation.confidence:g} % interval {_text(gain.low)} to {_text(gain.high)}"
    if comparison.passed:
        return _Finding(True, f"{says}, and its {interval} lies above {required:g}")
    reaches = "reaches below" if gain.low < required <= gain.high else "does not lie above"
    return _Finding(
        False, f"{says}, {'but' if gain.value > required else 'and'} its {interval} {reaches} {required:g}"
    )


def _slice_findings(judged: list[Comparison], confidence: float, evaluation: Evaluation) -> list[_Finding]:
    """One finding for each slice that lost, or one for all when none did."""
    allowed = evaluation.slices.gain
    each_at = f"{100 * confidence:.3g} % interval"
    lost = [
        _Finding(
            False,
            f"on {each.slice} ({each.rows} rows) the challenger's {each.metric} is "
            f"{_text(each.challenger)} against {_text(each.champion)}, {_change(each.gain.value)}, and its "
            f"whole {each_at} {_text(each.gain.low)} to {_text(each.gain.high)} lies below {allowed:g}",
        )
        for each in judged
        if not each.passed
    ]
    if lost or not judged:
        return lost
    worst = min(judged, key=lambda each: each.gain.value)
    return [
        _Finding(
            True,
            f"none of {len(judged)} slices is shown to lose more than allowed ({allowed:g}); the least "
            f"favourable is {worst.slice}, with {_text(worst.challenger)} against {_text(worst.champion)}",
        )
    ]


# --- what is compared ------------------------------------------------------------------


def _compare(
    challenger: Predictions,
    ours: Mapping[str, Bootstrapped],
    theirs: Mapping[str, Bootstrapped],
    rows: Rows,
    evaluation: Evaluation,
) -> tuple[Comparison, ...]:
    metrics = metrics_of(evaluation, challenger.task)
    gains = estimates(
        {name: _gain(each, ours[name], theirs[name]) for name, each in metrics.items()},
        rows,
        evaluation.confidence,
    )
    comparisons = []
    for name, gain in gains.items():
        against = evaluation.against_champion.get(name)
        comparisons.append(
            Comparison(
                metric=name,
                slice=None,
                rows=len(rows.target),
                challenger=rounded(ours[name].value),
                champion=rounded(theirs[name].value),
                gain=gain,
                required_gain=None if against is None else against.gain,
                passed=against is None or gain.low > against.gain,
            )
        )
    return tuple(comparisons)


@dataclass(frozen=True)
class _Slice:
    name: str  # "origin=JFK"
    rows: npt.NDArray[np.int64]
    judged: bool


def _compare_slices(
    challenger: Predictions, champion: Predictions, rows: Rows, evaluation: Evaluation
) -> tuple[tuple[Comparison, ...], list[_Finding]]:
    slices = _slices(rows, evaluation)
    if not slices:
        return (), []
    name = evaluation.slices.metric or evaluation.metrics[0]
    metric = metrics_of(evaluation, challenger.task)[name]
    count = max(1, sum(each.judged for each in slices))
    error = (1 - evaluation.confidence) / count
    resamples = max(evaluation.resamples, math.ceil(_DRAWS_BEYOND / (error / 2)))
    ours, theirs = (
        bootstrap(
            {each.name: _on(metric, predictions, rows, each) for each in slices},
            rows.group,
            len(rows.target),
            resamples,
            evaluation.seed,
        )
        for predictions in (challenger, champion)
    )
    comparisons, findings = [], []
    for each in slices:
        gain = _gain(metric, ours[each.name], theirs[each.name]).estimate(1 - error)
        if gain is None:
            clause = f"{each.name} ({len(each.rows)} rows) was not compared, since {name} is undefined there"
            findings.append(_Finding(True, clause))
            continue
        comparisons.append(
            Comparison(
                metric=name,
                slice=each.name,
                rows=len(each.rows),
                challenger=rounded(ours[each.name].value),
                champion=rounded(theirs[each.name].value),
                gain=gain,
                required_gain=evaluation.slices.gain if each.judged else None,
                passed=not each.judged or gain.high >= evaluation.slices.gain,
            )
        )
    judged = [each for each in comparisons if each.required_gain is not None]
    return tuple(comparisons), [*_slice_findings(judged, 1 - error, evaluation), *findings]


def _slices(rows: Rows, evaluation: Evaluation) -> list[_Slice]:
    """In the order of the columns, then of their values; too small ones are reported, not judged."""
    found = []
    for column in evaluation.slices.columns:
        values = pd.Series(rows.slices[column]).astype("str").fillna("missing").to_numpy()
        for value in np.unique(values):
            numbers = np.flatnonzero(values == value)
            groups = numbers if rows.group is None else np.unique(rows.group[numbers])
            judged = len(numbers) >= evaluation.slices.minimum_rows and len(groups) >= MINIMUM_GROUPS
            found.append(_Slice(f"{column}={value}", numbers, judged))
    return found


def _on(metric: Metric, predictions: Predictions, rows: Rows, part: _Slice) -> Statistic:
    """`metric` of a slice, as a statistic of the weights of all rows."""
    within = statistic(metric, rows.target[part.rows], predictions.of(part.rows))

    def value(weights: FloatArray) -> float:
        drawn = weights[part.rows]
        return within(drawn) if drawn.any() else math.nan

    return value


def _gain(metric: Metric, ours: Bootstrapped, theirs: Bootstrapped) -> Bootstrapped:
    sign = 1 if metric.higher_is_better else -1
    return Bootstrapped(sign * (ours.value - theirs.value), sign * (ours.draws - theirs.draws))


# --- numbers in sentences --------------------------------------------------------------


def _change(gain: float) -> str:
    return f"a gain of {_text(gain)}" if gain >= 0 else f"a loss of {_text(-gain)}"


def _text(value: float) -> str:
    """Three decimals for numbers of everyday size, three significant digits for others."""
    return f"{value:.3f}" if value == 0 or 0.001 <= abs(value) < 1000 else f"{value:.3g}"
