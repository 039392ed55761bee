"""The steps that a person thinks in, and how they are carried out.

An operation says which steps there are and in which order, once. The CLI carries each one out
directly; a Prefect flow makes each one a task.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol, TypeVar

T = TypeVar("T")


class Step(StrEnum):
    INGEST = "ingest"
    VALIDATE = "validate"
    TRAIN = "train"
    DECIDE = "decide"
    RECORD = "record"
    HAND_OVER = "hand over"
    ROLL_OUT = "roll out"
    ROLL_BACK = "roll back"


class Steps(Protocol):
    def __call__(self, step: Step, act: Callable[[], T], /) -> T:
        """Carry `act` out as `step` and return what it returns."""


def directly(step: Step, act: Callable[[], T], /) -> T:  # noqa: ARG001
    return act()
