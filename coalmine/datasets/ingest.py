"""Take partitions from a dataset's source into data/<dataset>/partitions/.

All or nothing up to the last step: every partition is loaded, checked and written aside first;
only then are the files moved into place, one atomic move each. Killed in between, whole
partitions are there, and the same call finishes. Recording the folder in DVC is the registry's.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd
import yaml

from coalmine.datasets.partitions import (
    dataset_folder,
    list_partitions,
    partition_bytes,
    partition_path,
    partitions_folder,
    read_partitions,
)
from coalmine.datasets.schema import check_partition
from coalmine.datasets.sources import open_source
from coalmine.errors import AlreadyRunning, DataRefused, MachineUnready, NotFound, RepositoryUnready
from coalmine.spec import DatasetSpec

_STAGING = ".incoming"  # beside partitions/, so that a move stays on one file system


@dataclass(frozen=True)
class Ingested:
    """Names of partitions, oldest first."""

    added: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()


def ingest(
    repository: Path,
    spec: DatasetSpec,
    partitions: Sequence[str] | None,
    today: date,
    replace: bool = False,
) -> Ingested:
    """Ingest `partitions`, or, with None, all that the source offers and that are not here yet.

    A partition that is here with the same rows is left as it is. One with other rows is refused,
    unless `replace`.

    Raises:
        DataRefused: every fault of every partition asked for; nothing was written.
        NotFound: the source does not offer a partition; nothing was written.
        SpecError: the source in dataset.yaml cannot be used.
        RepositoryUnready: some of the recorded partitions are not on this machine.
        AlreadyRunning: another ingest into this dataset.
        Unavailable: the source does not answer; safe to retry.
        MachineUnready: the disk is full, or the folder is not writable; nothing half-written is left.
    """
    folder = repository / partitions_folder(spec.name)
    with _only_ingest(repository / dataset_folder(spec.name), spec.name):
        here = set(list_partitions(folder))
        _refuse_unpulled(repository, spec.name, len(here))
        source = open_source(repository, spec)
        if partitions is None:
            names = [name for name in source.partitions() if name not in here]
        else:
            names = sorted(set(partitions))
        with _staging(repository / dataset_folder(spec.name)) as staging:
            refusals = []
            for name in names:
                try:
                    frame = check_partition(source.load(name), spec, name, today)
                    if name not in here or _differs(folder, name, frame, replace):
                        _write(partition_path(staging, name), partition_bytes(frame))
                except DataRefused as refused:
                    refusals.append(str(refused))
            if refusals:
                raise DataRefused("\n".join([*refusals, "Nothing was written."]))
            written = list_partitions(staging)
            _publish(staging, folder, written)
    return Ingested(
        added=tuple(name for name in written if name not in here),
        unchanged=tuple(name for name in names if name not in written),
        replaced=tuple(name for name in written if name in here),
    )


def _differs(folder: Path, name: str, offered: pd.DataFrame, replace: bool) -> bool:
    """Whether partition `name`, which is here, has other rows than those offered.

    Rows are compared, not bytes: these change with the version of pyarrow.

    Raises:
        DataRefused: it has, and may not be replaced.
    """
    here = read_partitions(folder, [name])
    if here.equals(offered):
        return False
    if not replace:
        raise DataRefused(
            f"{partition_path(folder, name)} is here already, with other content ({len(here)} rows here, "
            f"{len(offered)} rows offered). To take the new content, ingest {name} again with --replace"
        )
    return True


def _refuse_unpulled(repository: Path, dataset: str, here: int) -> None:
    """A folder that lacks recorded partitions would be recorded without them."""
    pointer = partitions_folder(dataset).with_suffix(".dvc")
    try:
        recorded = yaml.safe_load((repository / pointer).read_text(encoding="utf-8"))["outs"][0]["nfiles"]
    except FileNotFoundError:
        return  # the first ingest
    if here < recorded:
        raise RepositoryUnready(
            f"{partitions_folder(dataset)} holds {here} of the {recorded} partitions that {pointer} records. "
            f"Take them first: dvc pull {pointer}"
        )


@contextmanager
def _only_ingest(folder: Path, dataset: str) -> Iterator[None]:
    """Hold the dataset's folder. The kernel lets go of it when the process ends, however it ends."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError as error:
        raise NotFound(f"{dataset_folder(dataset)} does not exist. Write it: coalmine new dataset") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(
                f"another ingest into {dataset_folder(dataset)} is running. "
                "Run this one again when it has ended"
            ) from error
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _staging(dataset: Path) -> Iterator[Path]:
    """An empty folder that Git does not see, gone afterwards, with what a killed ingest left there."""
    staging = dataset / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    try:
        _make_folder(staging)
        _write(staging / ".gitignore", b"*\n")
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def _write(path: Path, content: bytes) -> None:
    try:
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(path, error) from error


def _publish(staging: Path, folder: Path, names: Sequence[str]) -> None:
    """Move the files into place. A move never writes through a file that DVC has linked to its cache."""
    _make_folder(folder)
    try:
        for name in names:
            os.replace(partition_path(staging, name), partition_path(folder, name))
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(path: Path, error: OSError) -> MachineUnready:
    return MachineUnready(
        f"{path} cannot be written: {error.strerror}. "
        "Free some space, or let this user write there, and run it again"
    )
