"""Step 1: new partitions of a dataset come in, checked, and are versioned by DVC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from coalmine.datasets.lookups import datasets_of
from coalmine.operations.workspace import Tell, Workspace
from coalmine.spec import DatasetSpec, ModelSpec, load_dataset_spec


class NewData(StrEnum):
    """What a retraining takes in first."""

    NONE = "none"  # train on what is here
    NEXT = "next"  # the oldest partition that the source offers and that is not here yet
    ALL = "all"  # every such partition


def partitions_folder(dataset: str) -> Path:
    return Path("data") / dataset / "partitions"


@dataclass(frozen=True)
class IngestedDataset:
    dataset: str
    added: tuple[str, ...]
    digest: str  # DVC's, of the partitions folder


def ingest(
    workspace: Workspace,
    dataset: str,
    partitions: Sequence[str] | NewData,
    tell: Tell,
    *,
    replace: bool = False,
) -> IngestedDataset:
    """Add `partitions` to `dataset` without touching the others. Idempotent.

    Raises:
        DataRefused: rows that break the dataset's schema; nothing was written.
        NotFound: an unknown dataset or partition.
    """
    # pandas is slow to import, and most commands never look at a row.
    from coalmine.datasets.ingest import ingest as write_partitions

    spec = load_dataset_spec(workspace.top, dataset)
    names = _named(workspace, spec, partitions)
    written = write_partitions(workspace.top, spec, names, datetime.now(UTC).date(), replace=replace)
    folder = partitions_folder(dataset)
    # Those unchanged too: an earlier call may have been ended before DVC heard of them.
    workspace.dvc.add_partitions(folder, [f"{name}.parquet" for name in names])
    added = (*written.added, *written.replaced)
    tell(f"{dataset}: {_list(added)} ingested." if added else f"{dataset}: nothing new.")
    return IngestedDataset(dataset, added, workspace.dvc.dataset_digest(folder))


def wanted_of(
    repository: Path, spec: ModelSpec, data: Sequence[str] | NewData
) -> dict[str, Sequence[str] | NewData]:
    """What each dataset of the model takes in where its retraining takes in `data`.

    The names of partitions mean nothing to a lookup whose partitions cover another period: nothing.
    """
    period = load_dataset_spec(repository, spec.dataset).period
    named = not isinstance(data, NewData)
    return {
        dataset: NewData.NONE
        if named and load_dataset_spec(repository, dataset).period is not period
        else data
        for dataset in datasets_of(spec)
    }


def _named(workspace: Workspace, spec: DatasetSpec, wanted: Sequence[str] | NewData) -> list[str]:
    """The partitions that `wanted` means.

    What is new is what no commit holds: a retraining that was killed after its ingest, and is run
    again, takes in the same partition, not the one after it.
    """
    from coalmine.datasets.sources import open_source

    if not isinstance(wanted, NewData):
        return list(wanted)
    if wanted is NewData.NONE:
        return []
    committed = workspace.committed_partitions(spec.name)
    offered = [name for name in open_source(workspace.top, spec).partitions() if name not in committed]
    return offered[:1] if wanted is NewData.NEXT else offered


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{names[0]} … {names[-1]} ({len(names)} partitions)"
