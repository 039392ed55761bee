"""Why a request gets no prediction: the answer's status, its kind in the metrics, its words.

A refusal never leaves the server; `app` turns it into the protocol's `{"error": ...}`.
"""

from __future__ import annotations

from enum import StrEnum


class FailureKind(StrEnum):
    MALFORMED = "malformed"  # not JSON, or not the protocol's shape
    SCHEMA = "schema"  # not what this model takes: names, types, shapes, ranges
    MISSING_VALUE = "missing_value"
    UNKNOWN_CATEGORY = "unknown_category"
    MISSING_KEY = "missing_key"  # a lookup released with the model has no such row
    TOO_LARGE = "too_large"
    NOT_FOUND = "not_found"  # another model or version
    OVERLOADED = "overloaded"  # more wait than this server can answer in time
    TIMEOUT = "timeout"  # the request's time was over before its answer was there
    GONE = "gone"  # the client went before its answer was there
    MODEL = "model"  # the model failed on input that its schema allows


class Refusal(Exception):
    """`message` says what is wrong, where, and how to mend it."""

    def __init__(
        self, kind: FailureKind, message: str, status: int = 400, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.headers = headers


def unusable_number() -> Refusal:
    return Refusal(
        FailureKind.SCHEMA,
        "a number is missing, or too large for this model: send one in the range that it was trained on",
    )


def shown(value: object) -> str:
    """A value from outside, in a few words: it may be long, or nested a thousand deep."""
    match value:
        case [*items] if len(items) <= 8 and all(isinstance(each, (int, float)) for each in items):
            return str(items)
        case list():
            return "a list"
        case dict():
            return "an object"
        case None:
            return "null"
        case bool():
            return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
