"""Where partitions come from: a Python module, or CSV and Parquet files by path or URL.

A source lists what it offers and loads it as it is; whether the rows are good is schema's.
Only what a file format leaves open is settled here: texts stay texts ("007"), dates are ISO.
"""

from __future__ import annotations

import glob
import importlib
import io
import re
import urllib.error
import urllib.request
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

import pandas as pd

from coalmine.datasets.partitions import ALL, check_name, names_of_times
from coalmine.errors import CoalmineError, DataRefused, NotFound, SpecError, Unavailable, Unsupported
from coalmine.spec import ColumnType, DatasetSpec, PartitionPeriod

PLACEHOLDER = "{partition}"
DOWNLOAD_TIMEOUT_S = 60.0  # without a byte
PARQUET = ".parquet"
CSV: dict[str, Literal["gzip", "zip"] | None] = {".csv": None, ".csv.gz": "gzip", ".csv.zip": "zip"}

# What people and programs write for "no value". In a column of texts only the empty field is
# one: NA is Namibia there.
_MISSING = ["", "NA", "N/A", "NaN", "nan", "NULL", "null"]


class Source(Protocol):
    def partitions(self) -> list[str]:
        """What the source offers now.

        Raises:
            Unsupported: such a source cannot be listed; ask it for partitions by name.
            DataRefused: a name that does not fit the dataset's period.
            Unavailable: safe to retry.
        """

    def load(self, partition: str) -> pd.DataFrame:
        """
        Raises:
            NotFound: the source does not offer it; names what it does offer, where it can tell.
            DataRefused: it cannot be read.
            Unavailable: safe to retry.
        """


def open_source(repository: Path, spec: DatasetSpec) -> Source:
    """The source of `spec`. Python modules are found from the top of the repository, which must be
    on `sys.path`; relative paths start there too.

    Raises:
        SpecError: `source` in dataset.yaml cannot be used; says why.
    """
    where = f"data/{spec.name}/dataset.yaml"
    if spec.source.python is not None:
        return PythonSource(_module(spec.source.python, where), spec)
    pattern = spec.source.files
    assert pattern is not None  # Source holds exactly one of the two
    if "://" in pattern and not _is_url(pattern):
        raise SpecError(
            f"{where}: `source.files: {pattern}`: only http and https addresses and paths can be read. "
            "For others write a Python source"
        )
    if not pattern.endswith((PARQUET, *CSV)):
        raise SpecError(
            f"{where}: `source.files: {pattern}` must end in {', '.join((*CSV, PARQUET))}. "
            "For other formats write a Python source"
        )
    location = pattern if _is_url(pattern) else str(repository / pattern)
    if PLACEHOLDER not in pattern:
        return OneFile(location, spec)
    if spec.period is PartitionPeriod.NONE:
        raise SpecError(f"{where}: `source.files` holds {PLACEHOLDER}: give the `period` that a file covers")
    return FilePerPartition(location, spec)


@dataclass(frozen=True)
class PythonSource:
    """A module with `partitions() -> list[str]` and `load(partition) -> DataFrame`."""

    module: ModuleType
    spec: DatasetSpec

    def partitions(self) -> list[str]:
        return self._offered

    def load(self, partition: str) -> pd.DataFrame:
        _refuse_unknown(partition, self._offered, self.spec)
        frame = self._call("load", partition)
        if not isinstance(frame, pd.DataFrame):
            raise DataRefused(
                f"{self.module.__name__}.load({partition!r}) gave a {type(frame).__name__}: "
                "it must return a pandas DataFrame"
            )
        return frame

    @cached_property
    def _offered(self) -> list[str]:
        names = list(self._call("partitions"))
        for name in names:
            check_name(name, self.spec.period)
        return sorted(names)

    def _call(self, function: str, *arguments: str) -> Any:
        call = f"{self.module.__name__}.{function}({', '.join(map(repr, arguments))})"
        try:
            return getattr(self.module, function)(*arguments)
        except CoalmineError:
            raise
        except OSError as error:  # the network's errors are among them
            raise Unavailable(f"{call} failed: {type(error).__name__}: {error}") from error
        except Exception as error:
            raise DataRefused(f"{call} failed: {type(error).__name__}: {error}. Mend the source") from error


@dataclass(frozen=True)
class FilePerPartition:
    """Files whose path or URL holds the partition's name."""

    location: str
    spec: DatasetSpec

    def partitions(self) -> list[str]:
        if _is_url(self.location):
            raise Unsupported(
                f"files behind a URL cannot be listed ({self.location}): say which partitions to ingest"
            )
        before, after = self.location.split(PLACEHOLDER, 1)
        name = re.compile(re.escape(before) + "(.+)" + re.escape(after))
        names = []
        for path in glob.glob(f"{glob.escape(before)}*{glob.escape(after)}"):
            match = name.fullmatch(path)
            assert match is not None  # the glob and the expression take the same paths
            check_name(match[1], self.spec.period)
            names.append(match[1])
        return sorted(names)

    def load(self, partition: str) -> pd.DataFrame:
        check_name(partition, self.spec.period)
        location = self.location.replace(PLACEHOLDER, partition)
        if not _is_url(location) and not Path(location).exists():
            _refuse_unknown(partition, self.partitions(), self.spec)
        return _read(location, self.spec)


@dataclass(frozen=True)
class OneFile:
    """One file: all rows of a dataset without a period, or of every period, told apart by `time`."""

    location: str
    spec: DatasetSpec

    def partitions(self) -> list[str]:
        if self.spec.period is PartitionPeriod.NONE:
            return [ALL]
        return sorted(self._names.dropna().unique())

    def load(self, partition: str) -> pd.DataFrame:
        _refuse_unknown(partition, self.partitions(), self.spec)
        if self.spec.period is PartitionPeriod.NONE:
            return self._rows
        return self._rows[self._names == partition]

    @cached_property
    def _rows(self) -> pd.DataFrame:
        return _read(self.location, self.spec)

    @cached_property
    def _names(self) -> pd.Series[str]:
        """The partition of each row."""
        time = self.spec.time
        assert time is not None  # DatasetSpec: a period needs a time
        if time not in self._rows.columns:
            raise DataRefused(
                f"{self.location} has no column `{time}`, which `time` names: rename one of them"
            )
        times = self._rows[time]
        if not pd.api.types.is_datetime64_any_dtype(times.dtype) or times.isna().any():
            unread = times[pd.to_datetime(times, errors="coerce", format="ISO8601", utc=True).isna()]
            raise DataRefused(
                f"{self.location}: column `{time}` must hold a date in each row, such as 2013-01-31: "
                f"{len(unread)} of {len(times)} do not, such as row {unread.index[0]} with {unread.iloc[0]!r}"
            )
        return names_of_times(times, self.spec.period)


def _refuse_unknown(partition: str, offered: list[str], spec: DatasetSpec) -> None:
    if partition not in offered:
        raise NotFound(
            f"the source of data/{spec.name} has no partition {partition}. "
            f"It offers: {', '.join(offered) or 'none'}"
        )


def _module(dotted: str, where: str) -> ModuleType:
    try:
        module = importlib.import_module(dotted)
    except Exception as error:  # whatever the module does when it is imported
        raise SpecError(
            f"{where}: `source.python: {dotted}` cannot be imported: {type(error).__name__}: {error}. "
            "Modules are looked for from the top of the repository, and among the installed packages"
        ) from error
    for function in ("partitions", "load"):
        if not callable(getattr(module, function, None)):
            raise SpecError(
                f"{where}: `source.python: {dotted}` has no function `{function}`: a source has "
                "partitions() -> list[str] and load(partition: str) -> pandas.DataFrame"
            )
    return module


def _is_url(location: str) -> bool:
    return location.startswith(("http://", "https://"))


def _read(location: str, spec: DatasetSpec) -> pd.DataFrame:
    content = _download(location) if _is_url(location) else Path(location)
    try:
        if location.endswith(PARQUET):
            return pd.read_parquet(content)
        return _read_csv(content, location, spec)
    except FileNotFoundError as error:
        raise NotFound(f"{location}, the source of data/{spec.name}, does not exist") from error
    except OSError as error:
        raise Unavailable(f"{location} cannot be read: {error}") from error
    except (ValueError, pd.errors.ParserWarning) as error:  # ParserError and ArrowInvalid are ValueErrors
        raise DataRefused(f"{location} cannot be read: {error}") from error


def _download(url: str) -> io.BytesIO:
    try:
        with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT_S) as answer:
            return io.BytesIO(answer.read())
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise NotFound(f"there is nothing at {url} (HTTP {error.code})") from error
        raise Unavailable(f"{url} answers HTTP {error.code}: {error.reason}") from error
    except OSError as error:
        raise Unavailable(f"{url} cannot be reached: {error}") from error


def _read_csv(content: Path | io.BytesIO, location: str, spec: DatasetSpec) -> pd.DataFrame:
    texts = [name for name, column in spec.columns.items() if column.type is ColumnType.STRING]
    packing = next(packing for ending, packing in CSV.items() if location.endswith(ending))
    dates = [name for name, column in spec.columns.items() if column.type is ColumnType.DATETIME]
    with warnings.catch_warnings():
        # A row with more fields than the header would otherwise lose the last ones.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        frame: pd.DataFrame = pd.read_csv(
            content,
            dtype=dict.fromkeys([*texts, *dates], "str"),
            dtype_backend="numpy_nullable",  # whole numbers stay whole beside a missing one
            keep_default_na=False,
            na_values={name: _MISSING if name not in texts else [""] for name in spec.columns},
            index_col=False,
            compression=packing,
        )
    for name in set(dates) & set(frame.columns):
        times = pd.to_datetime(frame[name], errors="coerce", format="ISO8601", utc=True)
        if (times.notna() | frame[name].isna()).all():  # else schema shows the rows that are no dates
            frame[name] = times.dt.tz_localize(None)
    return frame
