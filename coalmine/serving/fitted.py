"""The model as scikit-learn fitted it, on pandas rows as in training.

Both are imported when such a model is loaded, and not before: they take longer than everything
else that a server does until it is ready.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coalmine.manifest import Manifest, Tensor
from coalmine.serving.refusal import FailureKind, Refusal, unusable_number
from coalmine.serving.tensors import Rows

if TYPE_CHECKING:
    import pandas as pd

# How scikit-learn begins to say that it does not take a value.
_UNKNOWN_CATEGORY = "Found unknown categories"
_UNUSABLE_NUMBER = "Input X contains"


class FittedModel:
    is_quick = False

    def __init__(self, model: Any, manifest: Manifest) -> None:
        from coalmine.evaluation.predict import predict

        self._model = _on_one_thread(model)
        self._task = manifest.task
        self._makers = [(each.name, _maker(each)) for each in manifest.columns]
        self._names = [name for name, _ in self._makers]
        self._predict = predict

    @classmethod
    def load(cls, path: Path, manifest: Manifest) -> FittedModel:
        """
        Raises:
            IntegrityError: a type that the manifest does not trust, code that is not there.
        """
        from coalmine.evaluation import model_file

        return cls(model_file.load(path, manifest.trusted_types), manifest)

    def take(self, rows: Rows) -> pd.DataFrame:
        """The rows as `evaluation.signature` makes them for training."""
        import pandas as pd

        columns = rows.by_input(self._names)
        values = {name: make(columns[name]) for name, make in self._makers}
        # Arrays instead of Series: ten times faster for one row, which is most requests.
        return pd.DataFrame(values, copy=False)

    def predict(self, inputs: Sequence[pd.DataFrame]) -> dict[str, list[Any]]:
        import pandas as pd

        frame = inputs[0] if len(inputs) == 1 else pd.concat(inputs, ignore_index=True)
        try:
            predictions = self._predict(self._model, frame, self._task)
        except ValueError as error:
            said = str(error).splitlines()[0]
            if said.startswith(_UNUSABLE_NUMBER):
                raise unusable_number() from error
            if not said.startswith(_UNKNOWN_CATEGORY):
                raise
            raise Refusal(
                FailureKind.UNKNOWN_CATEGORY,
                f"{said}: send a value that the model was trained on, or release one that allows others",
            ) from error
        return {name: values.tolist() for name, values in predictions.outputs.items()}


def _maker(tensor: Tensor) -> Callable[[list[Any]], Any]:
    """From plain values, None for missing, to the array that training has for them."""
    import numpy as np
    import pandas as pd

    match tensor.datatype:
        case "FP64":
            return lambda values: np.array(values, dtype=np.float64)  # None becomes NaN
        case "INT64":
            return lambda values: np.array(values, dtype=np.int64)
        case "BOOL":
            return lambda values: np.array(values, dtype=np.bool_)
        case "BYTES":
            return lambda values: pd.array(values, dtype="str")


def _on_one_thread(model: Any) -> Any:
    """Starting threads for one row takes longer than its prediction."""
    parameters = model.get_params() if hasattr(model, "get_params") else {}
    threads = [name for name in parameters if name.split("__")[-1] == "n_jobs"]
    if threads:
        model.set_params(**dict.fromkeys(threads, 1))
    return model
