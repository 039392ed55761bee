"""The compiled model: an exact translation that needs neither scikit-learn nor pandas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coalmine.evaluation.compiled.encoding import UnknownCategory
from coalmine.evaluation.compiled.model import CompiledModel, NotFinite
from coalmine.manifest import Manifest
from coalmine.serving.refusal import FailureKind, Refusal, shown, unusable_number
from coalmine.serving.tensors import Rows


class TranslatedModel:
    """Takes rows as the bytes of a matrix (rows, registers): those of several requests are simply joined."""

    is_quick = True

    def __init__(self, compiled: CompiledModel, manifest: Manifest) -> None:
        self._compiled = compiled
        self._names = [each.name for each in manifest.columns]

    @classmethod
    def load(cls, folder: Path, manifest: Manifest) -> TranslatedModel:
        """
        Raises:
            IntegrityError: no compiled model that this coalmine reads.
        """
        return cls(CompiledModel.load(folder), manifest)

    def take(self, rows: Rows) -> bytes:
        if rows.packed is not None and self._compiled.plain:
            return rows.packed
        try:
            return self._compiled.encode(rows.by_input(self._names), rows.count).tobytes()
        except UnknownCategory as unknown:
            raise Refusal(
                FailureKind.UNKNOWN_CATEGORY,
                f"input `{unknown.column}` has {shown(unknown.value)}, which the model was not trained on: "
                "send a value that it knows, or release a model that allows others",
            ) from unknown

    def predict(self, inputs: Sequence[bytes]) -> dict[str, list[Any]]:
        matrix = np.frombuffer(b"".join(inputs)).reshape(-1, self._compiled.width)
        try:
            return self._compiled.answer(matrix)
        except NotFinite as error:
            raise unusable_number() from error
