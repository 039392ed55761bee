"""DVC stage: which rows the model learns from, and which ones it is judged on.

python -m pipelines.prepare models/<model>: data/<dataset>/partitions -> prepared/

Where model.yaml has `lookups`, the partitions of their datasets come in too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from coalmine.datasets.join import join_lookups
from coalmine.datasets.lookups import nearest, require_lookups
from coalmine.datasets.partitions import list_partitions, partitions_folder, read_partitions
from coalmine.errors import DataRefused, NotFound, SpecError
from coalmine.evaluation.prepared import Side, SplitRecord, prepared_folder, write_prepared
from coalmine.evaluation.splits import is_test_row, split_partitions
from coalmine.spec import (
    ColumnType,
    DatasetSpec,
    ModelSpec,
    PartitionPeriod,
    Task,
    load_dataset_spec,
    load_model_spec,
)
from pipelines.stage import run


def prepare(repository: Path, model: str) -> None:
    """
    Raises:
        SpecError: a column that the datasets do not have, or that no model can take; a lookup that
            cannot be joined.
        DataRefused: a side without rows, or a target with nothing to learn; rows that a lookup must
            find and does not.
    """
    spec = load_model_spec(repository, model)
    dataset = load_dataset_spec(repository, spec.dataset)
    others = require_lookups(repository, spec)
    check_columns(spec, dataset, others)
    folder = repository / partitions_folder(spec.dataset)
    names = list_partitions(folder)
    if not names:
        raise NotFound(
            f"{folder} holds no partition. Take some from the source: coalmine ingest {spec.dataset}"
        )
    if dataset.period is PartitionPeriod.NONE:
        rows = read_partitions(folder, names)
        is_test = is_test_row(rows, dataset, spec.split)
        rows = join_lookups(repository, rows, spec, others)
        train, train_side = usable(rows[~is_test], spec, names)
        test, test_side = usable(rows[is_test], spec, names)
    else:
        split = split_partitions(names, spec.split, spec.dataset)
        rows = read_partitions(folder, split.train)
        train, train_side = usable(join_lookups(repository, rows, spec, others), spec, split.train)
        rows = read_partitions(folder, split.test)
        test, test_side = usable(join_lookups(repository, rows, spec, others), spec, split.test)
    check_target(train, test, spec)
    record = SplitRecord(spec.dataset, train_side, test_side, dataset.group, dataset.time)
    write_prepared(repository / prepared_folder(model), train, test, record)


def check_columns(spec: ModelSpec, dataset: DatasetSpec, others: Mapping[str, DatasetSpec]) -> None:
    where = f"models/{spec.name}/model.yaml"
    own = {name: (column.type, f"data/{dataset.name}") for name, column in dataset.columns.items()}
    added = {
        name: (others[lookup.dataset].columns[name].type, f"data/{lookup.dataset}")
        for lookup in spec.lookups
        for name in lookup.columns
    }
    for key, names, known in (("target", (spec.target,), own), ("features", spec.features, own | added)):
        for name in names:
            if name not in known:
                nobody = f"data/{dataset.name} does not have" + (
                    ", and no lookup adds" if known is not own and added else ""
                )
                raise SpecError(
                    f"{where}: `{key}` names `{name}`, a column that {nobody}: {nearest(name, known)}"
                )
            type_, there = known[name]
            if type_ is ColumnType.DATETIME:
                raise SpecError(
                    f"{where}: `{key}` names `{name}`, a datetime, which no model takes: derive numbers "
                    f"from it in the source of {there} (hour, weekday, days since), and use those"
                )
    if spec.task is Task.REGRESSION and dataset.columns[spec.target].type not in (
        ColumnType.NUMBER,
        ColumnType.INTEGER,
    ):
        raise SpecError(
            f"{where}: `task: regression` needs a target of numbers, and `{spec.target}` holds none"
        )


def usable(
    rows: pd.DataFrame, spec: ModelSpec, partitions: list[str] | tuple[str, ...]
) -> tuple[pd.DataFrame, Side]:
    """The rows with an answer and, if model.yaml says so, with every feature."""
    answered = rows[rows[spec.target].notna()]
    kept = answered.dropna(subset=list(spec.features)) if spec.split.rows == "complete" else answered
    side = Side(tuple(partitions), len(kept), len(rows) - len(answered), len(answered) - len(kept))
    return kept.reset_index(drop=True), side


def check_target(train: pd.DataFrame, test: pd.DataFrame, spec: ModelSpec) -> None:
    who = f"models/{spec.name}"
    target = spec.target
    for side, rows in (("train", train), ("test", test)):
        if rows.empty:
            raise DataRefused(
                f"{who}: the {side} side has no rows left: look at `split` in model.yaml, and at "
                f"the missing values in data/{spec.dataset}/report.json"
            )
        classes = rows[target].unique()
        if len(classes) == 1:
            raise DataRefused(
                f"{who}: the target `{target}` is {classes[0]} in every {side} row, so there "
                f"is nothing to {'learn' if side == 'train' else 'judge by'}: take in more partitions, or "
                "choose another target"
            )
        if spec.task is Task.BINARY and len(classes) > 2:
            raise DataRefused(
                f"{who}: `task: binary`, but the target `{target}` has {len(classes)} values "
                f"in the {side} rows: write `task: multiclass` (or regression), or make it two in the source"
            )


if __name__ == "__main__":
    run(prepare)
