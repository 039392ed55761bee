"""From values to registers: the reads and steps of a plan, carried out. A server's hot path."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from coalmine.errors import IntegrityError
from coalmine.evaluation.compiled.plan import (
    FUNCTION_PACKAGES,
    Arithmetic,
    Code,
    Fill,
    Function,
    Indicator,
    Missing,
    Number,
    Plan,
)

FloatArray = npt.NDArray[np.float64]
Columns = Mapping[str, Sequence[Any]]
T = TypeVar("T", int, float)


class UnknownCategory(Exception):
    """A value that scikit-learn refuses: the model has not learnt from it. `value` None: missing."""

    def __init__(self, column: str, value: Any) -> None:
        super().__init__(f"unknown category {value!r} in column {column}")
        self.column, self.value = column, value


class Encoding:
    """Threads may share one: nothing is changed after `__init__`."""

    def __init__(self, plan: Plan) -> None:
        """
        Raises:
            IntegrityError: a function that cannot be imported here.
        """
        name = plan.columns
        self._registers = plan.registers
        self._blank: list[Any] = [0.0] * plan.registers
        self._numbers = [(name[read.column], read.to) for read in plan.reads if isinstance(read, Number)]
        self._codes = [_Codes(name[read.column], read) for read in plan.reads if isinstance(read, Code)]
        self._places = [
            _Places(name[read.column], read) for read in plan.reads if isinstance(read, Indicator)
        ]
        self._steps = [_step(step) for step in plan.steps]

    def encode(self, columns: Columns, rows: int) -> FloatArray:
        """(rows, registers).

        Raises:
            UnknownCategory: as scikit-learn refuses it.
        """
        matrix = self._read_one(columns) if rows == 1 else self._read(columns, rows)
        for step in self._steps:
            step(matrix)
        return matrix

    def _read_one(self, columns: Columns) -> FloatArray:
        """One row as a list: numpy costs more per value than Python does."""
        row = self._blank.copy()
        for name, to in self._numbers:
            row[to] = columns[name][0]
        for codes in self._codes:
            value = columns[codes.name][0]
            code = codes.table.get(value)
            row[codes.to] = codes.other(value) if code is None else code
        for places in self._places:
            value = columns[places.name][0]
            place = places.table.get(value)
            row[places.other(value) if place is None else place] = 1.0
        return np.array([row], dtype=np.float64)  # None becomes NaN

    def _read(self, columns: Columns, rows: int) -> FloatArray:
        matrix = np.zeros((rows, self._registers))
        for name, to in self._numbers:
            matrix[:, to] = np.asarray(columns[name], dtype=np.float64)
        for codes in self._codes:
            matrix[:, codes.to] = codes.of(columns[codes.name])
        for places in self._places:
            matrix[np.arange(rows), places.of(columns[places.name])] = 1.0
        return matrix


class _Table(Generic[T]):
    """What stands for each value of a column."""

    def __init__(
        self, name: str, values: Sequence[Any], entries: Sequence[T], missing: T | None, unknown: T | None
    ) -> None:
        self.name = name
        self.table: dict[Any, T] = dict(zip(values, entries, strict=True))
        self._missing: T | None = missing
        self._unknown: T | None = unknown

    def of(self, values: Sequence[Any]) -> list[T]:
        plain = values.tolist() if isinstance(values, np.ndarray) else values
        found = [self.table.get(value) for value in plain]
        return [
            self.other(value) if entry is None else entry for value, entry in zip(plain, found, strict=True)
        ]

    def other(self, value: Any) -> T:
        """What stands for a missing value, or for one that is not in the table."""
        is_missing = value is None or value != value  # NaN is not itself
        entry: T | None = self._missing if is_missing else self._unknown
        if entry is None:
            raise UnknownCategory(self.name, None if is_missing else value)
        return entry


class _Codes(_Table[float]):
    def __init__(self, name: str, read: Code) -> None:
        super().__init__(name, read.values, read.codes, read.missing, read.unknown)
        self.to = read.to


class _Places(_Table[int]):
    def __init__(self, name: str, read: Indicator) -> None:
        super().__init__(name, read.values, read.to, read.missing, read.unknown)


def _step(step: Fill | Missing | Arithmetic | Function) -> Callable[[FloatArray], None]:
    """What fills the registers of `step`, from the others."""
    inputs = _selection(step.inputs)
    match step:
        case Fill(values=values):
            return partial(_fill, inputs, _run(step.start, len(values)), np.array(values))
        case Missing():
            return partial(_missing, inputs, _run(step.start, len(step.inputs)))
        case Arithmetic():
            operations = [(getattr(np, name), np.array(operand)) for name, operand in step.operations]
            return partial(_arithmetic, inputs, _run(step.start, len(step.inputs)), operations)
        case Function():
            function = partial(_imported(step.path), **step.arguments)
            return partial(_function, inputs, _run(step.start, step.width), function)


def _fill(inputs: Any, to: slice, values: FloatArray, matrix: FloatArray) -> None:
    block = matrix[:, inputs]
    matrix[:, to] = np.where(np.isnan(block), values, block)


def _missing(inputs: Any, to: slice, matrix: FloatArray) -> None:
    matrix[:, to] = np.isnan(matrix[:, inputs])


def _arithmetic(
    inputs: Any, to: slice, operations: Sequence[tuple[Any, FloatArray]], matrix: FloatArray
) -> None:
    block = matrix[:, inputs]
    for operation, operand in operations:
        block = operation(block, operand)
    matrix[:, to] = block


def _function(
    inputs: Any, to: slice, function: Callable[[FloatArray], FloatArray], matrix: FloatArray
) -> None:
    matrix[:, to] = function(matrix[:, inputs])


def _imported(path: str) -> Callable[..., FloatArray]:
    module, _, name = path.rpartition(".")
    if module.partition(".")[0] not in FUNCTION_PACKAGES:
        raise IntegrityError(
            f"the translated model names the function {path}, and only those of pipelines/ and numpy are "
            "called"
        )
    try:
        found: Callable[..., FloatArray] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise IntegrityError(
            f"the translated model needs the function {path}, which is not here ({error}). "
            "Load it beside the code of its own release"
        ) from error
    return found


def _run(start: int, width: int) -> slice:
    return slice(start, start + width)


def _selection(places: Sequence[int]) -> slice | npt.NDArray[np.intp]:
    """A slice where the registers lie side by side: numpy then copies nothing."""
    if places and list(places) == list(range(places[0], places[0] + len(places))):
        return _run(places[0], len(places))
    return np.array(places, dtype=np.intp)
