"""scikit-learn's encoders of categories as tables, made by asking the encoder.

Each known value, a missing one and an unknown one are put to the fitted encoder, and what it says is
the table: dropped, infrequent and missing categories are right without being understood here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from coalmine.evaluation.compiled.plan import Category, Indicator
from coalmine.evaluation.compiled.registers import (
    Coded,
    Column,
    Computed,
    NotTranslatable,
    Raw,
    Registers,
    is_missing,
)

_ROWS_AT_ONCE = 256  # an encoder may answer a dense row as wide as all its categories


def ordinal(encoder: Any, columns: Sequence[Column], registers: Registers) -> list[Column]:
    found: list[Column] = []
    for number, column in enumerate(columns):
        table = _Asked(encoder, number, slice(number, number + 1), column, registers)
        answers = {value: _single(vector) for value, vector in table.answers.items()}
        found.append(
            Coded(
                table.column,
                {value: code for value, code in answers.items() if code is not None},
                _single(table.missing),
                _single(table.unknown),
            )
        )
    return found


def one_hot(encoder: Any, columns: Sequence[Column], registers: Registers) -> list[Column]:
    found: list[Column] = []
    offset = 0
    for number, column in enumerate(columns):
        width = encoder._n_features_outs[number]
        table = _Asked(encoder, number, slice(offset, offset + width), column, registers)
        offset += width
        start = registers.allocate(width)
        places = {value: _place(vector, start, registers) for value, vector in table.answers.items()}
        known = {value: place for value, place in places.items() if place is not None}
        registers.reads.append(
            Indicator(
                column=table.column,
                values=tuple(known),
                to=tuple(known.values()),
                missing=_place(table.missing, start, registers),
                unknown=_place(table.unknown, start, registers),
            )
        )
        found += [Computed(start + each) for each in range(width)]
    return found


class _Asked:
    """What `encoder` says to every value of its column `number`; None where it refuses.

    where: the columns of its answer that belong to this one of its inputs.
    """

    def __init__(self, encoder: Any, number: int, where: slice, source: Column, registers: Registers) -> None:
        self._encoder, self._number, self._where = encoder, number, where
        categories = [value for value in encoder.categories_[number].tolist() if not is_missing(value)]
        match source:
            case Raw(column, fill):
                self.column = column
                stranger = _stranger(categories, is_text=registers.is_text(source))
                self.answers = dict(zip(categories, self._ask(categories), strict=True))
                self.missing = self._ask_one(math.nan if fill is None else fill)
                self.unknown = self._ask_one(stranger)
            case Coded(column, table, missing_code, unknown_code):
                self.column = column
                self.answers = dict(zip(table, self._ask(list(table.values())), strict=True))
                self.missing = None if missing_code is None else self._ask_one(missing_code)
                self.unknown = None if unknown_code is None else self._ask_one(unknown_code)
            case Computed():
                raise NotTranslatable(
                    f"{type(encoder).__name__} encodes numbers that another step has computed"
                )
        if self.unknown is not None and any(answer is None for answer in self.answers.values()):
            raise NotTranslatable(
                f"{type(encoder).__name__} takes an unknown category but refuses a known one"
            )

    def _ask(self, values: list[Any]) -> list[Any]:
        answers: list[Any] = []
        for start in range(0, len(values), _ROWS_AT_ONCE):
            some = values[start : start + _ROWS_AT_ONCE]
            try:
                answers += list(self._transform(some))
            except ValueError:  # one of them is refused
                answers += [self._ask_one(value) for value in some]
        return answers

    def _ask_one(self, value: Any) -> Any:
        try:
            return self._transform([value])[0]
        except ValueError:
            return None

    def _transform(self, values: list[Any]) -> Any:
        """The answer's columns for `values`, every other input being its first category."""
        import pandas as pd

        categories = self._encoder.categories_
        names = getattr(self._encoder, "feature_names_in_", range(len(categories)))
        frame = pd.DataFrame(
            {
                name: pd.Series(
                    values if number == self._number else [known.tolist()[0]] * len(values),
                    dtype=None if known.dtype.kind in "iuf" else object,
                )
                for number, (name, known) in enumerate(zip(names, categories, strict=True))
            }
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the encoder may warn of what it is asked here
            answer = self._encoder.transform(frame)
        dense = answer.toarray() if hasattr(answer, "toarray") else np.asarray(answer)
        return dense[:, self._where].astype(np.float64)


def _stranger(categories: Sequence[Category], *, is_text: bool) -> Category:
    """A value that is none of `categories`."""
    if is_text:
        return "?" + max((str(each) for each in categories), key=len, default="")
    return 2 * max((abs(float(each)) for each in categories), default=0.0) + 1


def _single(vector: Any) -> float | None:
    return None if vector is None else float(vector[0])


def _place(vector: Any, start: int, registers: Registers) -> int | None:
    """The register that becomes 1."""
    if vector is None:
        return None
    hot = np.flatnonzero(vector)
    if len(hot) > 1 or not np.isin(vector, (0.0, 1.0)).all():
        raise NotTranslatable("an encoder answers something else than one indicator")
    return start + int(hot[0]) if len(hot) else registers.spill()
