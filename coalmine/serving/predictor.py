"""From a request's rows to its outputs: lookups, then the model, for one release.

Either the compiled model answers, or scikit-learn's own: the manifest says which. The self-check
at load takes the same way as the users' requests.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from coalmine.evaluation.reference import Reference
from coalmine.manifest import Manifest
from coalmine.serving.logs import event
from coalmine.serving.refusal import FailureKind, Refusal
from coalmine.serving.tensors import Rows

if TYPE_CHECKING:
    from coalmine.serving.lookups import Lookups  # pyarrow: only where there are any

Input = TypeVar("Input")  # rows as a model takes them


class Model(Protocol[Input]):
    """is_quick: a few rows take microseconds, not milliseconds."""

    is_quick: bool

    def take(self, rows: Rows) -> Input:
        """
        Raises:
            Refusal: a value that the model does not know.
        """

    def predict(self, inputs: Sequence[Input]) -> dict[str, list[Any]]:
        """The outputs (`coalmine.evaluation.predictions`) of all rows of `inputs`, in their order.

        Raises:
            Refusal: as `take`, where only the prediction shows it.
        """


class Predictor(Generic[Input]):
    """One release's model, with the datasets released with it. reference: None of an older release."""

    def __init__(
        self,
        manifest: Manifest,
        model: Model[Input],
        lookups: Lookups | None = None,
        reference: Reference | None = None,
    ) -> None:
        self.manifest = manifest
        self.reference = reference
        self.is_quick = model.is_quick
        self._model = model
        self._lookups = lookups
        self._inputs = [each.name for each in manifest.inputs]

    def join(self, rows: Rows) -> Rows:
        """A request's rows with what lookups add to them.

        Raises:
            Refusal: a key that a lookup does not have.
        """
        if self._lookups is None:
            return rows
        columns = rows.by_input(self._inputs)
        return Rows(rows.count, {**columns, **self._lookups.join(columns, rows.count)})

    def take(self, joined: Rows) -> Input:
        """
        Raises:
            Refusal: a value that the model does not know.
        """
        return self._model.take(joined)

    def predict(self, inputs: Sequence[Input], counts: Sequence[int]) -> dict[str, list[Any]]:
        """The outputs of all rows of `inputs`, which have `counts` rows each.

        Raises:
            Refusal: bad input, or a model that failed.
        """
        rows = sum(counts)
        try:
            outputs = self._model.predict(inputs)
        except Refusal:
            raise
        except Exception as error:
            event("model_failed", logging.ERROR, error, rows=rows)
            raise _model_failed(f"{type(error).__name__}; the server's log says more") from error
        for values in outputs.values():
            if len(values) != rows:
                raise _broken("it answered another number of rows")
            if not _all_finite(values):
                raise _broken("it predicted NaN or infinity")
        return outputs


def _all_finite(values: list[Any]) -> bool:
    """Of numbers, or of lists of numbers; labels, which may be whole numbers of any size, are."""
    match values:
        case [float(), *_]:
            # Numbers are finite where their sum is; if that overflows, each is looked at.
            return isfinite(sum(values)) or all(map(isfinite, values))
        case [list(), *_]:
            return all(map(_all_finite, values))
    return True


def _broken(why: str) -> Refusal:
    event("model_failed", logging.ERROR, reason=why)
    return _model_failed(why)


def _model_failed(why: str) -> Refusal:
    return Refusal(
        FailureKind.MODEL,
        f"the model failed on this request ({why}). Nothing in the request is known to be wrong",
        500,
    )
