"""The datasets released with a model: what they add to the rows of a request, by key.

Each is a table in memory, made once from the release's verified partitions; a request costs one
look into a hash table per row. Reads Parquet with pyarrow alone, so that a server starts without pandas.
Training joins the same rows by the same rules (datasets.join).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from coalmine.errors import IntegrityError
from coalmine.manifest import LookupTable, Manifest, Tensor
from coalmine.serving.refusal import FailureKind, Refusal, shown

_ARROW = {"BOOL": pa.bool_(), "INT64": pa.int64(), "FP64": pa.float64(), "BYTES": pa.large_string()}
_ABSENT = -1  # the row behind the last one, in which everything is missing


class Lookups:
    """All tables of one release."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self._tables = tables

    @classmethod
    def load(cls, release: Path, manifest: Manifest) -> Self:
        """The tables of the materialised `release`.

        Raises:
            IntegrityError: a partition that cannot be read, or lacks a column; two rows of one key.
        """
        inputs = {tensor.name: tensor for tensor in manifest.inputs}
        return cls([Table(release / "files", table, inputs) for table in manifest.lookups])

    def join(self, columns: Mapping[str, Sequence[Any]], rows: int) -> dict[str, list[Any]]:
        """What the tables add to a request's `columns`, one value per row; None is missing.

        Raises:
            Refusal: a key that is not there and must be; a missing value that the model does not take.
        """
        added: dict[str, list[Any]] = {}
        for table in self._tables:
            added |= table.join(columns, rows)
        return added


class Table:
    """One dataset. `_row_of` finds a row's number by its key: the value itself where the key is one
    column, else a tuple. Numbers lie 8 bytes each in one block, since a Python float takes 24."""

    def __init__(self, files: Path, table: LookupTable, inputs: Mapping[str, Tensor]) -> None:
        self._dataset, self._key, self._refuses = table.dataset, table.key, table.missing == "refuse"
        # An input of whole numbers is FP64 where some were missing in training; the key is not.
        types = {name: "BYTES" if inputs[name].datatype == "BYTES" else "INT64" for name in table.key}
        types |= {tensor.name: tensor.datatype for tensor in table.columns}
        read = _read(files, table, {name: _ARROW[datatype] for name, datatype in types.items()})
        keys = [_shared(read[name]) for name in table.key]
        self._row_of = _numbered(keys[0] if len(keys) == 1 else zip(*keys, strict=True), table)
        self._numbers: list[tuple[str, bool, Sequence[float]]] = []
        self._others: list[tuple[str, bool, Sequence[Any]]] = []
        for tensor in table.columns:
            column = read[tensor.name]
            if tensor.datatype == "FP64":
                numbers = np.append(_floats(column), np.nan).data
                self._numbers.append((tensor.name, tensor.nullable, numbers))
            else:
                self._others.append((tensor.name, tensor.nullable, [*_shared(column), None]))

    def join(self, columns: Mapping[str, Sequence[Any]], rows: int) -> dict[str, list[Any]]:
        found = self._find(columns, rows)
        added: dict[str, list[Any]] = {}
        for name, nullable, numbers in self._numbers:
            taken = [None if (value := numbers[row]) != value else value for row in found]
            if not nullable and None in taken:
                raise self._incomplete(name, columns, taken.index(None))
            added[name] = taken
        for name, nullable, values in self._others:
            added[name] = others = [values[row] for row in found]
            if not nullable and None in others:
                raise self._incomplete(name, columns, others.index(None))
        return added

    def _find(self, columns: Mapping[str, Sequence[Any]], rows: int) -> list[int]:
        """The number of each row's row here."""
        given = [columns[name] for name in self._key]
        if len(given) == 1:
            found = [self._row_of.get(value, _ABSENT) for value in given[0]]
        elif rows == 1:
            found = [self._row_of.get(tuple([values[0] for values in given]), _ABSENT)]
        else:
            found = [self._row_of.get(key, _ABSENT) for key in zip(*given, strict=True)]
        if self._refuses and _ABSENT in found:
            raise self._unknown(columns, found.index(_ABSENT))
        return found

    def _unknown(self, columns: Mapping[str, Sequence[Any]], row: int) -> Refusal:
        return Refusal(
            FailureKind.MISSING_KEY,
            f"row {row}: the dataset {self._dataset}, which was released with this model, has no row of "
            f"{self._shown_key(columns, row)}. Send a key that it has, or release the model with newer "
            f"{self._dataset} data",
            422,
        )

    def _incomplete(self, name: str, columns: Mapping[str, Sequence[Any]], row: int) -> Refusal:
        return Refusal(
            FailureKind.MISSING_VALUE,
            f"row {row}: the dataset {self._dataset}, which was released with this model, has no `{name}` "
            f"for {self._shown_key(columns, row)}, and this model was trained without missing values there: "
            "release a model that was trained with such rows",
        )

    def _shown_key(self, columns: Mapping[str, Sequence[Any]], row: int) -> str:
        return ", ".join(f"`{name}` {shown(columns[name][row])}" for name in self._key)


# --- from files ------------------------------------------------------------------------


def _read(files: Path, table: LookupTable, types: Mapping[str, pa.DataType]) -> dict[str, pa.Array]:
    """The columns of all partitions, one partition after the other."""
    partitions = [_partition(files / file.path, types) for file in table.files]
    return {name: pa.concat_arrays([columns[name] for columns in partitions]) for name in types}


def _partition(path: Path, types: Mapping[str, pa.DataType]) -> dict[str, pa.Array]:
    try:
        with pq.ParquetFile(path) as file:
            read = file.read(columns=list(types))
        return {name: read[name].cast(type_).combine_chunks() for name, type_ in types.items()}
    except (OSError, KeyError, pa.ArrowException) as error:
        raise IntegrityError(
            f"{path} cannot be looked up in, though its bytes are those of the release: {error}. "
            "Release the model again"
        ) from error


def _shared(column: pa.Array) -> list[Any]:
    """The values, equal ones as one object; None is missing."""
    encoded = column.dictionary_encode()
    values = encoded.dictionary.to_pylist()
    return [None if number is None else values[number] for number in encoded.indices.to_pylist()]


def _floats(column: pa.Array) -> npt.NDArray[np.float64]:
    """The values; NaN is missing. From the buffers, since pyarrow's own conversions import pandas."""
    valid, values = column.buffers()
    numbers = np.frombuffer(values, np.float64)[column.offset :][: len(column)].copy()
    if valid is not None:
        bits = np.unpackbits(np.frombuffer(valid, np.uint8), bitorder="little")
        numbers[bits[column.offset :][: len(column)] == 0] = np.nan
    return numbers


def _numbered(keys: Iterable[Any], table: LookupTable) -> dict[Any, int]:
    """Key to the number of its row."""
    rows: dict[Any, int] = {}
    for number, key in enumerate(keys):
        if rows.setdefault(key, number) != number:
            raise IntegrityError(
                f"the dataset {table.dataset} of this release has two rows of one key "
                f"({', '.join(table.key)}: {key}), so that nobody knows which of them to take. Release the "
                "model again, with one row per key"
            )
    return rows
