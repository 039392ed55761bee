from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from coalmine.datasets.ingest import Ingested, ingest
from coalmine.datasets.partitions import list_partitions, partition_path, read_partitions
from coalmine.errors import AlreadyRunning, DataRefused, MachineUnready, NotFound, RepositoryUnready
from coalmine.spec import DatasetSpec

TODAY = date(2013, 12, 31)
Offer = Callable[..., None]


def contents(repository: Path) -> dict[str, tuple[bytes, int]]:
    """Every file of the dataset, with its time of change."""
    files = (path for path in (repository / "data/orders").rglob("*") if path.is_file())
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def folder(repository: Path) -> Path:
    return repository / "data/orders/partitions"


def test_everything_new_is_added_and_nothing_else_is_touched(
    repository: Path, spec: DatasetSpec, offer: Offer
) -> None:
    offer("2013-01")
    assert ingest(repository, spec, None, TODAY) == Ingested(added=("2013-01",))
    before = contents(repository)
    offer("2013-03")
    offer("2013-02")
    assert ingest(repository, spec, None, TODAY) == Ingested(added=("2013-02", "2013-03"))
    after = contents(repository)
    assert set(after) - set(before) == {"2013-02.parquet", "2013-03.parquet"}
    assert {name: after[name] for name in before} == before
    assert ingest(repository, spec, None, TODAY) == Ingested()


def test_only_what_was_asked_for_is_added(
    repository: Path, spec: DatasetSpec, offer: Offer, folder: Path
) -> None:
    for month in ("2013-01", "2013-02", "2013-03"):
        offer(month)
    assert ingest(repository, spec, ["2013-03", "2013-01", "2013-03"], TODAY).added == ("2013-01", "2013-03")
    assert list_partitions(folder) == ["2013-01", "2013-03"]


def test_the_same_rows_again_change_nothing(repository: Path, spec: DatasetSpec, offer: Offer) -> None:
    offer("2013-01")
    ingest(repository, spec, ["2013-01"], TODAY)
    before = contents(repository)
    assert ingest(repository, spec, ["2013-01"], TODAY) == Ingested(unchanged=("2013-01",))
    assert contents(repository) == before


def test_other_rows_are_refused_unless_they_are_to_replace(
    repository: Path, spec: DatasetSpec, offer: Offer, folder: Path
) -> None:
    offer("2013-01", rows=3)
    ingest(repository, spec, None, TODAY)
    before = contents(repository)
    offer("2013-01", rows=5)
    with pytest.raises(DataRefused, match=r"3 rows here, 5 rows offered.* --replace"):
        ingest(repository, spec, ["2013-01"], TODAY)
    assert contents(repository) == before
    assert ingest(repository, spec, ["2013-01"], TODAY, replace=True) == Ingested(replaced=("2013-01",))
    assert len(read_partitions(folder, ["2013-01"])) == 5


def test_replacing_never_writes_through_a_linked_file(
    repository: Path, spec: DatasetSpec, offer: Offer, folder: Path, tmp_path: Path
) -> None:
    offer("2013-01", rows=3)
    ingest(repository, spec, None, TODAY)
    cached = tmp_path / "cached"  # as DVC links files to its cache
    os.link(partition_path(folder, "2013-01"), cached)
    before = cached.read_bytes()
    offer("2013-01", rows=5)
    ingest(repository, spec, ["2013-01"], TODAY, replace=True)
    assert cached.read_bytes() == before


def test_one_refused_partition_keeps_all_out_and_all_faults_are_told(
    repository: Path, spec: DatasetSpec, offer: Offer
) -> None:
    offer("2013-01")
    offer("2013-02")
    offer("2013-03", price=float("inf"))
    (repository / "incoming/orders-2013-04.csv").write_text("ordered\n")
    before = contents(repository)
    with pytest.raises(DataRefused) as refused:
        ingest(repository, spec, None, TODAY)
    message = str(refused.value)
    assert "partition 2013-03" in message
    assert "partition 2013-04" in message
    assert "partition 2013-01" not in message
    assert message.endswith("Nothing was written.")
    assert contents(repository) == before


def test_a_future_partition_is_refused(repository: Path, spec: DatasetSpec, offer: Offer) -> None:
    offer("2013-02")
    with pytest.raises(DataRefused, match="must not lie after today, 2013-01-31: 3 of 3 rows"):
        ingest(repository, spec, None, date(2013, 1, 31))


def test_an_unknown_partition_keeps_the_known_ones_out(
    repository: Path, spec: DatasetSpec, offer: Offer
) -> None:
    offer("2013-01")
    before = contents(repository)
    with pytest.raises(NotFound, match="It offers: 2013-01"):
        ingest(repository, spec, ["2013-01", "2013-02"], TODAY)
    assert contents(repository) == before


def test_recorded_partitions_that_are_not_on_this_machine_are_not_lost(
    repository: Path, spec: DatasetSpec, offer: Offer, folder: Path
) -> None:
    offer("2013-01")
    ingest(repository, spec, None, TODAY)
    pointer: dict[str, Any] = {"outs": [{"md5": "0.dir", "nfiles": 2, "path": "partitions"}]}
    (repository / "data/orders/partitions.dvc").write_text(yaml.safe_dump(pointer))
    offer("2013-03")
    with pytest.raises(
        RepositoryUnready, match=r"1 of the 2 partitions .* dvc pull data/orders/partitions.dvc"
    ):
        ingest(repository, spec, None, TODAY)
    assert list_partitions(folder) == ["2013-01"]


def test_a_dataset_without_a_folder_is_refused(tmp_path: Path, spec: DatasetSpec) -> None:
    with pytest.raises(NotFound, match="data/orders does not exist"):
        ingest(tmp_path, spec, None, TODAY)


def test_two_ingests_into_one_dataset_do_not_run_together(
    repository: Path, spec: DatasetSpec, offer: Offer
) -> None:
    offer("2013-01")
    other = os.open(repository / "data/orders", os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(AlreadyRunning):
            ingest(repository, spec, None, TODAY)
    finally:
        os.close(other)
    assert ingest(repository, spec, None, TODAY).added == ("2013-01",)


def test_a_full_disk_leaves_nothing_behind(
    repository: Path, spec: DatasetSpec, offer: Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer("2013-01")
    offer("2013-02")
    before = contents(repository)
    flushed: list[int] = []

    def full_after_one_partition(descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        if size > 1000 and flushed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flushed.extend([size] * (size > 1000))

    monkeypatch.setattr(os, "fsync", full_after_one_partition)
    with pytest.raises(MachineUnready, match="No space left on device"):
        ingest(repository, spec, None, TODAY)
    assert contents(repository) == before


def test_a_folder_that_cannot_be_written_says_so(repository: Path, spec: DatasetSpec, offer: Offer) -> None:
    offer("2013-01")
    (repository / "data/orders/partitions").write_text("a file where the folder should be")
    with pytest.raises(MachineUnready, match="data/orders/partitions cannot be written"):
        ingest(repository, spec, None, TODAY)


def test_an_ingest_that_was_cut_off_is_finished_by_the_next(
    repository: Path, spec: DatasetSpec, offer: Offer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer("2013-01")
    offer("2013-02")
    move = os.replace

    def cut_off_at_the_second(source: Path, target: Path) -> None:
        if target.name == "2013-02.parquet":
            raise KeyboardInterrupt
        move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", cut_off_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            ingest(repository, spec, None, TODAY)
    assert set(contents(repository)) == {"dataset.yaml", "2013-01.parquet"}
    # A kill leaves more behind than an interrupt does.
    leftover = repository / "data/orders/.incoming"
    leftover.mkdir()
    (leftover / "2013-09.parquet").write_bytes(b"torn")
    assert ingest(repository, spec, None, TODAY) == Ingested(added=("2013-02",))
    assert list_partitions(folder) == ["2013-01", "2013-02"]
    assert not leftover.exists()
