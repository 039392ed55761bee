"""Rows of a model with what its lookups add to them: the left join of training and evaluation.

A model server joins the same files by the same keys (serving.lookups). So that a column is typed
alike whatever rows are at hand, its dtype follows from dataset.yaml and `missing` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from coalmine.datasets.dtypes import canonical_dtype
from coalmine.datasets.partitions import list_partitions, partitions_folder, read_partitions
from coalmine.errors import DataRefused, NotFound
from coalmine.spec import DatasetSpec, Lookup, ModelSpec

_FOUND = "_found"


def join_lookups(
    repository: Path, rows: pd.DataFrame, spec: ModelSpec, others: Mapping[str, DatasetSpec]
) -> pd.DataFrame:
    """`rows` of the model's dataset, in their order, with the columns of every lookup behind theirs.

    others: the lookups' datasets, which have passed `lookups.require_lookups`.

    Raises:
        NotFound: a lookup's dataset without partitions.
        DataRefused: a key that names two rows, or that `missing: refuse` does not find.
    """
    for lookup in spec.lookups:
        table = _table(repository, lookup, others[lookup.dataset])
        rows = _joined(rows, lookup, table, f"models/{spec.name}")
    return rows


def _table(repository: Path, lookup: Lookup, dataset: DatasetSpec) -> pd.DataFrame:
    """Key and added columns of all partitions that are here; a key names one row."""
    folder = repository / partitions_folder(dataset.name)
    names = list_partitions(folder)
    if not names:
        raise NotFound(
            f"{folder} holds no partition. Take some from the source: coalmine ingest {dataset.name}"
        )
    table = read_partitions(folder, names, [*lookup.key, *lookup.columns])
    twice = table[table.duplicated(list(lookup.key))]
    if len(twice):
        raise DataRefused(
            f"data/{dataset.name}: {len(twice)} of {len(table)} rows have a key that an earlier row has too, "
            f"such as {_shown_key(lookup, twice)}, so that a lookup would not know which one to take: drop "
            f"them in the source, or extend `key` of this lookup in model.yaml"
        )
    if lookup.missing == "null":
        may_lack = {
            name: dataset.columns[name].model_copy(update={"missing": 1.0}) for name in lookup.columns
        }
        table = table.astype({name: canonical_dtype(column) for name, column in may_lack.items()})
    return table


def _joined(rows: pd.DataFrame, lookup: Lookup, table: pd.DataFrame, model: str) -> pd.DataFrame:
    key = list(lookup.key)
    found = rows[key].merge(table, on=key, how="left", validate="many_to_one", indicator=_FOUND)
    absent = rows[(found[_FOUND] == "left_only").to_numpy()]
    if lookup.missing == "refuse" and len(absent):
        raise DataRefused(
            f"{model}: {len(absent)} of {len(rows)} rows have a key that data/{lookup.dataset} does not "
            f"have, such as {_shown_key(lookup, absent)}. Take in what is missing (coalmine ingest "
            f"{lookup.dataset}), or write `missing: null` for this lookup in {model}/model.yaml"
        )
    return rows.assign(**{name: found[name].array for name in lookup.columns})


def _shown_key(lookup: Lookup, rows: pd.DataFrame) -> str:
    """The key of the first of `rows`, for people."""
    return ", ".join(f"{name} {rows[name].iloc[0]}" for name in lookup.key)
