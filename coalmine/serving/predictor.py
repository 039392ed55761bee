"""From a request to a prediction: schema, model, protocol, for one release.

The self-check at load takes the same way as the users' requests.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd

from coalmine.evaluation.predict import predict
from coalmine.evaluation.predictions import Predictions
from coalmine.manifest import Manifest
from coalmine.serving.protocol import InferRequest, parse_infer
from coalmine.serving.refusal import FailureKind, Refusal
from coalmine.serving.tensors import InputSchema

logger = logging.getLogger(__name__)

_UNKNOWN_CATEGORY = "Found unknown categories"  # how scikit-learn's encoders begin to say so


class Predictor:
    """One release's model, ready for messages."""

    def __init__(self, manifest: Manifest, model: Any) -> None:
        self.manifest = manifest
        self._model = model
        self._schema = InputSchema(manifest.inputs)

    def parse(self, message: Any) -> InferRequest:
        """`message` is the parsed body of an infer request.

        Raises:
            Refusal: bad input.
        """
        return parse_infer(message, self._schema, self.manifest.outputs)

    def predict(self, frame: pd.DataFrame) -> Predictions:
        """
        Raises:
            Refusal: a value that the model does not take, or a model that failed.
        """
        try:
            predictions = predict(self._model, frame, self.manifest.task)
        except Exception as error:
            if isinstance(error, ValueError) and str(error).startswith(_UNKNOWN_CATEGORY):
                raise Refusal(
                    FailureKind.UNKNOWN_CATEGORY,
                    f"{error}: send a value that the model was trained on, or release one that allows others",
                ) from error
            logger.exception(
                "%s %s failed on %d rows", self.manifest.model, self.manifest.version, len(frame)
            )
            raise _model_failed(f"{type(error).__name__}; the server's log says more") from error
        if any(len(each) != len(frame) for each in predictions.outputs.values()):
            logger.error("%s %s answered another number of rows", self.manifest.model, self.manifest.version)
            raise _model_failed("it answered another number of rows")
        if not all(
            np.isfinite(each).all() for each in predictions.outputs.values() if each.dtype.kind == "f"
        ):
            logger.error("%s %s predicted NaN or infinity", self.manifest.model, self.manifest.version)
            raise _model_failed("it predicted NaN or infinity")
        return predictions


def _model_failed(why: str) -> Refusal:
    return Refusal(
        FailureKind.MODEL,
        f"the model failed on this request ({why}). Nothing in the request is known to be wrong",
        500,
    )
