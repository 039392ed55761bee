"""models/<model>/reference.json: how the rows that a model was made of lie in bins.

The stage `evaluate` writes it and a release takes it along: every feature of the training rows, and the
score of the test rows, which the model had not seen. The server counts what it is asked into the same
bins, and `coalmine due` compares the two (coalmine.triggers.drift). Needs numpy alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from coalmine.errors import IntegrityError
from coalmine.evaluation.predictions import Predictions
from coalmine.manifest import Value
from coalmine.spec import Task

# A server tells every bin of every feature at each scrape: 200 features end in some 1,600 numbers.
_BINS, _FEW_BINS = 10, 5
_MANY_FEATURES, _MOST_FEATURES = 100, 200
_LONGEST_LEVEL = 100  # characters: a longer text is no level that people know

SCORES = {Task.BINARY: "probability", Task.MULTICLASS: "probability", Task.REGRESSION: "prediction"}
"""The output whose distribution is kept: one number for each row."""


class Distribution(Value):
    """Rows by bin, of one feature or of the score.

    bounds: of numbers. The smallest one, then the upper bounds of bins that hold about as many rows each;
        the last one is the largest. A bin more lies below them, and one above.
    levels: of texts and booleans, the most frequent; a bin more holds all others.
    rows: by bin, in that order. The last bin, whatever the kind, holds missing values.
    """

    of: Literal["feature", "score"]
    name: str
    bounds: tuple[float, ...] | None = None
    levels: tuple[bool | str, ...] | None = None
    rows: tuple[int, ...]

    @property
    def key(self) -> str:
        return key(self.of, self.name)

    def bin_words(self, place: int) -> str:
        """What lies in the bin, for people."""
        if place == len(self.rows) - 1:
            return "missing"
        if self.bounds is None:
            levels = self.levels or ()
            return str(levels[place]) if place < len(levels) else "another value"
        if place == 0:
            return f"below {self.bounds[0]:.6g}" if self.bounds else "a number"
        if place == len(self.bounds):
            return f"above {self.bounds[-1]:.6g}"
        return f"from {self.bounds[place - 1]:.6g} to {self.bounds[place]:.6g}"


class Reference(Value):
    """Law: `parse_reference(dump_reference(r)) == r`. left_out: features beyond the first 200."""

    schema_version: Literal[1] = 1
    distributions: tuple[Distribution, ...]
    left_out: tuple[str, ...] = ()


def key(of: str, name: str) -> str:
    """What tells distributions apart: a feature may be called as the score is."""
    return f"{of} {name}"


def reference_path(model: str) -> Path:
    """From the top of the repository."""
    return Path("models") / model / "reference.json"


def dump_reference(reference: Reference) -> str:
    """Law: equal references give equal bytes."""
    return reference.model_dump_json(indent=1, exclude_none=True) + "\n"


def parse_reference(text: str | bytes, where: str) -> Reference:
    """
    Raises:
        IntegrityError: a machine writes this file; a broken one was edited by hand.
    """
    try:
        return Reference.model_validate_json(text)
    except ValidationError as error:
        raise IntegrityError(f"{where} is not a reference that this coalmine reads: {error}") from error


def reference_of(columns: Mapping[str, npt.NDArray[Any]], predictions: Predictions) -> Reference:
    """columns: the features of the training rows, in the model's order: numbers, or booleans and texts as
    objects; missing is NaN or None. predictions: about the test rows."""
    names = list(columns)
    kept = names[:_MOST_FEATURES]
    bins = _BINS if len(kept) <= _MANY_FEATURES else _FEW_BINS
    score = SCORES[predictions.task]
    return Reference(
        distributions=(
            *(_distribution("feature", name, columns[name], bins) for name in kept),
            _distribution("score", score, predictions.outputs[score], bins),
        ),
        left_out=tuple(names[_MOST_FEATURES:]),
    )


def _distribution(
    of: Literal["feature", "score"], name: str, values: npt.NDArray[Any], bins: int
) -> Distribution:
    if values.dtype.kind in "fiu":
        bounds = _bounds(values.astype(np.float64), bins)
        return Distribution(of=of, name=name, bounds=bounds, rows=_counter(bounds, None)(values))
    levels = _levels(values.tolist(), bins)
    return Distribution(of=of, name=name, levels=levels, rows=_counter(None, levels)(values.tolist()))


def _bounds(values: npt.NDArray[np.float64], bins: int) -> tuple[float, ...]:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return ()
    # Values that are there, so that a number which is frequent ends its bin and is not split.
    upper = np.quantile(finite, np.arange(1, bins + 1) / bins, method="inverted_cdf")
    return (float(finite.min()), *np.unique(upper).tolist())


def _levels(values: Sequence[Any], bins: int) -> tuple[bool | str, ...]:
    counts = Counter(each for each in values if not _is_missing(each) and len(str(each)) <= _LONGEST_LEVEL)
    frequent = sorted(counts, key=lambda level: (-counts[level], str(level)))
    return tuple(frequent[:bins])


Count = Callable[[Sequence[Any] | npt.NDArray[Any]], tuple[int, ...]]


def counting(distribution: Distribution) -> Count:
    """Counts values, plain ones or an array, into the bins of `distribution`: as the stage did it, so the
    server does. Missing is None or NaN."""
    return _counter(distribution.bounds, distribution.levels)


def _counter(bounds: tuple[float, ...] | None, levels: tuple[bool | str, ...] | None) -> Count:
    if bounds is None:
        return partial(_in_levels, {level: place for place, level in enumerate(levels or ())})
    edges = np.array(bounds)
    if bounds:
        edges[0] = np.nextafter(bounds[0], -np.inf)  # the smallest number itself is not below it
    return partial(_in_bounds, edges)


def _in_bounds(edges: npt.NDArray[np.float64], values: Sequence[Any] | npt.NDArray[Any]) -> tuple[int, ...]:
    numbers = np.asarray(values, dtype=np.float64)  # None becomes NaN
    places = np.searchsorted(edges, numbers)
    places[np.isnan(numbers)] = len(edges) + 1
    counts: tuple[int, ...] = tuple(np.bincount(places, minlength=len(edges) + 2).tolist())
    return counts


def _in_levels(
    place_of: Mapping[bool | str, int], values: Sequence[Any] | npt.NDArray[Any]
) -> tuple[int, ...]:
    counts = [0] * (len(place_of) + 2)
    for value, count in Counter(values).items():
        counts[place_of.get(value, -1 if _is_missing(value) else -2)] += count
    return tuple(counts)


def _is_missing(value: Any) -> bool:
    return value is None or value != value  # NaN is not itself
