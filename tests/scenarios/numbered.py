"""Releases whose answers tell who made them: the number of the model, of the dataset, and the key asked for.

Release 7 answers key 5 with 1000 * 7 (its model) + 7 (its table) + 5 / 100: no other release does,
and neither would a model and a table of two releases. Small, since users import it too: what builds
such releases is in `model_servers`.
"""

from __future__ import annotations

import math

MODEL = "numbers"
KEYS = 64


def version(number: int) -> str:
    return f"1.{number}.0"


def answer(number: int, key: int) -> float:
    return 1000.0 * number + number + key / 100


def is_answer(given: float, version_told: str, key: int) -> bool:
    """Whether the release that says it answered did so, with its own model and its own table."""
    number = int(version_told.split(".")[1])
    return math.isclose(given, answer(number, key), rel_tol=0, abs_tol=1e-6)
