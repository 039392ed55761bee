"""Frozen dataclasses as plain JSON values and back, exactly.

Evidence outlives the process that gathered it: the state of a running rollout keeps it.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from coalmine.errors import IntegrityError

Value = TypeVar("Value")


def to_json(value: object) -> dict[str, object]:
    """Dictionaries, lists, numbers and strings only. Law: `from_json(type(v), to_json(v)) == v`."""
    kind: Any = type(value)
    data: dict[str, object] = _adapter(kind).dump_python(value, mode="json")
    return data


def from_json(kind: type[Value], data: object) -> Value:
    """The value that `to_json` wrote.

    Raises:
        IntegrityError: `data` is no such value.
    """
    any_kind: Any = kind  # mypy does not know every class to be hashable
    try:
        value: Value = _adapter(any_kind).validate_python(data)
    except ValidationError as error:
        raise IntegrityError(
            f"the saved evidence is not a {kind.__name__}, so no decision may rest on it: "
            f"abort this rollout and start it anew ({error})"
        ) from error
    return value


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
