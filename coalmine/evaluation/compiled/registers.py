"""The registers of a plan while it is being made, and what stands in them.

A column on its way through scikit-learn's steps is one of three: the request's own (`Raw`), a number
for each value of one of them (`Coded`), or a register (`Computed`). The first two become registers
only when something needs their numbers, so that an encoder after an imputer, or after another
encoder, is one look-up when it answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coalmine.evaluation.compiled.plan import (
    Arithmetic,
    Category,
    Code,
    Fill,
    Function,
    Indicator,
    Missing,
    Number,
)
from coalmine.manifest import Tensor


class NotTranslatable(Exception):
    """Why scikit-learn has to answer for itself: the end of a sentence for people."""


@dataclass(frozen=True)
class Raw:
    """A column as the request brings it, with `fill` where it is missing."""

    column: int
    fill: Category | None = None


@dataclass(frozen=True)
class Coded:
    """A number for each value of a column. missing, unknown: None where they are refused."""

    column: int
    table: Mapping[Category, float]
    missing: float | None
    unknown: float | None


@dataclass(frozen=True)
class Computed:
    register: int


Column = Raw | Coded | Computed


@dataclass
class Registers:
    columns: Sequence[Tensor]
    reads: list[Number | Code | Indicator] = field(default_factory=list)
    steps: list[Fill | Missing | Arithmetic | Function] = field(default_factory=list)
    count: int = 0
    _numbers: dict[int, int] = field(default_factory=dict)  # column to register
    _spill: int | None = None

    def is_text(self, column: Raw) -> bool:
        return self.columns[column.column].datatype == "BYTES"

    def allocate(self, width: int) -> int:
        start = self.count
        self.count += width
        return start

    def spill(self) -> int:
        """A register that nothing reads: where an indicator goes that is none of the encoder's."""
        if self._spill is None:
            self._spill = self.allocate(1)
        return self._spill

    def add(self, step: Fill | Missing | Arithmetic | Function, width: int) -> list[Column]:
        """The columns that `step`, which starts at the next register, makes."""
        self.steps.append(step)
        start = self.allocate(width)
        return [Computed(start + number) for number in range(width)]

    def numbers(self, columns: Sequence[Column], who: str) -> tuple[int, ...]:
        """The registers that hold `columns`.

        Raises:
            NotTranslatable: a text, which `who` does not take as a number either.
        """
        filled = [c for c in columns if isinstance(c, Raw) and c.fill is not None]
        raw = {c: self._number(c, who) for c in columns if isinstance(c, Raw)}
        if filled:
            fill = Fill(
                inputs=tuple(raw[c] for c in filled),
                start=self.count,
                values=tuple(float(c.fill) for c in filled if c.fill is not None),
            )
            for column, made in zip(filled, self.add(fill, len(filled)), strict=True):
                assert isinstance(made, Computed)
                raw[column] = made.register
        return tuple(self._register(column, raw) for column in columns)

    def _register(self, column: Column, raw: Mapping[Raw, int]) -> int:
        match column:
            case Computed(register):
                return register
            case Raw():
                return raw[column]
            case Coded():
                to = self.allocate(1)
                self.reads.append(
                    Code(
                        column=column.column,
                        to=to,
                        values=tuple(column.table),
                        codes=tuple(column.table.values()),
                        missing=column.missing,
                        unknown=column.unknown,
                    )
                )
                return to

    def _number(self, column: Raw, who: str) -> int:
        if self.is_text(column):
            raise NotTranslatable(f"the text `{self.columns[column.column].name}` reaches {who} as it is")
        if column.column not in self._numbers:
            to = self._numbers[column.column] = self.allocate(1)
            self.reads.append(Number(column=column.column, to=to))
        return self._numbers[column.column]


def is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
