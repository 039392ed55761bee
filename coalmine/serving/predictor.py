"""From a request's rows to its outputs: lookups, then the model, for one release.

Either the compiled model answers, or scikit-learn's own: the manifest says which. The self-check
at load takes the same way as the users' requests.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from coalmine.evaluation.predictions import Predictions
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

    def predict(self, inputs: Sequence[Input]) -> Predictions:
        """The predictions of all rows of `inputs`, in their order.

        Raises:
            Refusal: as `take`, where only the prediction shows it.
        """


class Predictor(Generic[Input]):
    """One release's model, with the datasets released with it."""

    def __init__(self, manifest: Manifest, model: Model[Input], lookups: Lookups | None = None) -> None:
        self.manifest = manifest
        self.is_quick = model.is_quick
        self._model = model
        self._lookups = lookups
        self._inputs = [each.name for each in manifest.inputs]

    def take(self, rows: Rows) -> Input:
        """
        Raises:
            Refusal: a key that a lookup does not have, a value that the model does not know.
        """
        if self._lookups is not None:
            columns = rows.by_input(self._inputs)
            rows = Rows(rows.count, {**columns, **self._lookups.join(columns, rows.count)})
        return self._model.take(rows)

    def predict(self, inputs: Sequence[Input], counts: Sequence[int]) -> dict[str, list[Any]]:
        """The outputs of all rows of `inputs`, which have `counts` rows each.

        Raises:
            Refusal: bad input, or a model that failed.
        """
        rows = sum(counts)
        try:
            predictions = self._model.predict(inputs)
        except Refusal:
            raise
        except Exception as error:
            event("model_failed", logging.ERROR, error, rows=rows)
            raise _model_failed(f"{type(error).__name__}; the server's log says more") from error
        outputs: dict[str, list[Any]] = {}
        for name, each in predictions.outputs.items():
            outputs[name] = each.tolist()
            if len(each) != rows:
                raise _broken("it answered another number of rows")
            # Numbers are finite where their sum is; if that overflows, each is looked at.
            if each.dtype.kind == "f" and not (isfinite(each.sum()) or np.isfinite(each).all()):
                raise _broken("it predicted NaN or infinity")
        return outputs


def _broken(why: str) -> Refusal:
    event("model_failed", logging.ERROR, reason=why)
    return _model_failed(why)


def _model_failed(why: str) -> Refusal:
    return Refusal(
        FailureKind.MODEL,
        f"the model failed on this request ({why}). Nothing in the request is known to be wrong",
        500,
    )
