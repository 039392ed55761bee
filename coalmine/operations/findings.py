"""What the checks of `coalmine doctor` find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from coalmine.errors import CoalmineError


class Health(StrEnum):
    OK = "ok"
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    what: str
    health: Health
    detail: str  # when missing: what to do


def check(what: str, look: Callable[[], str]) -> Finding:
    """look: says in words what is there, or raises a CoalmineError that says what is not."""
    try:
        return Finding(what, Health.OK, look())
    except CoalmineError as error:
        return Finding(what, Health.MISSING, str(error))
