"""Partitions: their names, the period each one covers, and their files.

A dataset is a folder of `<partition>.parquet` files. Names are ISO dates cut to the period
(2013-01-31, 2013-01, 2013), so they sort by time. What a partition may hold is schema's, how
it gets there ingest's.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import assert_never

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from coalmine.errors import DataRefused, IntegrityError, NotFound
from coalmine.spec import PartitionPeriod

ALL = "all"  # the one partition of a dataset without a period
SUFFIX = ".parquet"

_FORMATS = {PartitionPeriod.DAY: "%Y-%m-%d", PartitionPeriod.MONTH: "%Y-%m", PartitionPeriod.YEAR: "%Y"}
_EXAMPLES = {
    PartitionPeriod.NONE: ALL,
    PartitionPeriod.DAY: "2013-01-31",
    PartitionPeriod.MONTH: "2013-01",
    PartitionPeriod.YEAR: "2013",
}


def dataset_folder(dataset: str) -> Path:
    """From the top of the repository."""
    return Path("data") / dataset


def partitions_folder(dataset: str) -> Path:
    """From the top of the repository."""
    return dataset_folder(dataset) / "partitions"


def partition_path(folder: Path, name: str) -> Path:
    return folder / f"{name}{SUFFIX}"


def check_name(name: str, period: PartitionPeriod) -> None:
    """
    Raises:
        DataRefused: `name` does not name a partition of such a period.
    """
    if period is PartitionPeriod.NONE:
        fits = name == ALL
    else:
        fits = _start(name, period) is not None
    if not fits:
        raise DataRefused(
            f"`{name}` does not name a partition with `period: {period.value}`: "
            f"write it like {_EXAMPLES[period]}"
        )


def period_bounds(name: str, period: PartitionPeriod) -> tuple[datetime, datetime] | None:
    """The start (inclusive) and end (exclusive) of partition `name`; None without a period.

    Raises:
        DataRefused: `name` does not name a partition of such a period.
    """
    check_name(name, period)
    if period is PartitionPeriod.NONE:
        return None
    start = datetime.strptime(name, _FORMATS[period])
    match period:
        case PartitionPeriod.DAY:
            end = start + pd.Timedelta(days=1)
        case PartitionPeriod.MONTH:
            end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
        case PartitionPeriod.YEAR:
            end = start.replace(year=start.year + 1)
        case _:
            assert_never(period)
    return start, end


def names_of_times(times: pd.Series[pd.Timestamp], period: PartitionPeriod) -> pd.Series[str]:
    """The name of the partition that each time belongs to; `period` is not `none`."""
    return times.dt.strftime(_FORMATS[period])


def list_partitions(folder: Path) -> list[str]:
    """Names of the partitions that are here, oldest first; none where there is no folder."""
    return sorted(path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}"))


def read_partitions(folder: Path, names: Sequence[str], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Rows of the partitions `names`, one after the other in that order, with `columns` in that order.

    Raises:
        NotFound: a partition that is not here; names those that are.
        DataRefused: a partition without one of `columns`.
        IntegrityError: a file that cannot be read.
    """
    if not names:
        raise NotFound(f"no partition of {folder} was asked for")
    frames = [_read(folder, name, columns) for name in names]
    return frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)


def partition_bytes(frame: pd.DataFrame) -> bytes:
    """`frame` as Parquet. Law: equal frames give equal bytes (for one version of pyarrow and pandas)."""
    buffer = io.BytesIO()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _start(name: str, period: PartitionPeriod) -> datetime | None:
    try:
        start = datetime.strptime(name, _FORMATS[period])
    except ValueError:
        return None
    # strptime takes 2013-1 as well, which would sort wrongly and name one month twice.
    return start if start.strftime(_FORMATS[period]) == name else None


def _read(folder: Path, name: str, columns: Sequence[str] | None) -> pd.DataFrame:
    path = partition_path(folder, name)
    try:
        with pq.ParquetFile(path) as file:
            absent = [column for column in columns or () if column not in file.schema_arrow.names]
            if absent:
                raise DataRefused(
                    f"{path} has no column {', '.join(f'`{column}`' for column in absent)}. "
                    f"It has: {', '.join(file.schema_arrow.names)}"
                )
            frame: pd.DataFrame = file.read(columns=columns).to_pandas()
    except FileNotFoundError as error:
        here = ", ".join(list_partitions(folder)) or "none"
        raise NotFound(
            f"{path} does not exist. Partitions here: {here}. "
            f"If Git knows more of them, take them: dvc pull {folder}.dvc"
        ) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise IntegrityError(
            f"{path} cannot be read as Parquet ({error}). "
            f"Take the recorded one: dvc checkout --force {folder}.dvc"
        ) from error
    return frame
