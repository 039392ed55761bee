"""The rules for `lookups` of model.yaml: datasets that add columns to a model's rows, by key.

Rules on what people wrote, checked before a row is read; the rows are joined in `join`, and in
a model server by the server's own table.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from coalmine.errors import NotFound, SpecError
from coalmine.spec import (
    ColumnType,
    DatasetSpec,
    Lookup,
    ModelSpec,
    dataset_names,
    load_dataset_spec,
)
from coalmine.yaml_loader import YAML_LOADER

_KEY_TYPES = (ColumnType.INTEGER, ColumnType.STRING)  # equal or not, whatever the machine and the format


def datasets_of(spec: ModelSpec) -> tuple[str, ...]:
    """Every dataset that a release of the model is made of: its own first, then its lookups'."""
    return tuple(dict.fromkeys((spec.dataset, *(lookup.dataset for lookup in spec.lookups))))


def request_inputs(spec: ModelSpec) -> tuple[str, ...]:
    """What a request brings: the features that no lookup adds, then the keys that are no features."""
    added = {column for lookup in spec.lookups for column in lookup.columns}
    features = [name for name in spec.features if name not in added]
    keys = [name for lookup in spec.lookups for name in lookup.key]
    return tuple(dict.fromkeys((*features, *keys)))


def require_lookups(repository: Path, spec: ModelSpec) -> dict[str, DatasetSpec]:
    """The datasets that `spec.lookups` name.

    Raises:
        SpecError: a lookup that cannot be joined, or of which DVC would not notice a change.
    """
    others = {lookup.dataset: _dataset(repository, spec, lookup) for lookup in spec.lookups}
    if spec.lookups:
        dataset = load_dataset_spec(repository, spec.dataset)
        there = dict.fromkeys(dataset.columns, f"data/{dataset.name}")
        for lookup in spec.lookups:
            _check_key(spec, lookup, dataset, others[lookup.dataset])
            _check_columns(spec, lookup, others[lookup.dataset], there)
            there |= dict.fromkeys(lookup.columns, f"data/{lookup.dataset}, by another lookup")
        _check_stage(repository, spec)
    return others


def nearest(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is not among `known`."""
    there = list(known)
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
    return f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(there)}"


# --- one lookup ------------------------------------------------------------------------


def _dataset(repository: Path, spec: ModelSpec, lookup: Lookup) -> DatasetSpec:
    try:
        return load_dataset_spec(repository, lookup.dataset)
    except NotFound as error:
        hint = nearest(lookup.dataset, dataset_names(repository))
        raise SpecError(
            f"{_where(spec)}: `lookups` names the dataset `{lookup.dataset}`, which does not exist: {hint}"
        ) from error


def _check_key(spec: ModelSpec, lookup: Lookup, dataset: DatasetSpec, other: DatasetSpec) -> None:
    for name in lookup.key:
        for side in (dataset, other):
            if name not in side.columns:
                raise SpecError(
                    f"{_where(spec)}: the lookup of data/{other.name} has `{name}` in its `key`, a column "
                    f"that data/{side.name} does not have: {nearest(name, side.columns)}"
                )
            if side.columns[name].type not in _KEY_TYPES:
                raise SpecError(
                    f"{_where(spec)}: the lookup of data/{other.name} has `{name}` in its `key`, which is "
                    f"{side.columns[name].type} in data/{side.name}: keys must be integer or string. "
                    f"Derive such a column in the sources of data/{dataset.name} and data/{other.name}"
                )
        mine, theirs = dataset.columns[name].type, other.columns[name].type
        if mine is not theirs:
            raise SpecError(
                f"{_where(spec)}: the key `{name}` is {mine} in data/{dataset.name} and {theirs} in "
                f"data/{other.name}, so no row would be found: give both the same type in their dataset.yaml"
            )
        if other.columns[name].missing:
            raise SpecError(
                f"{_where(spec)}: the key `{name}` may be missing in data/{other.name}, and what is missing "
                f"names no row: remove its `missing` in data/{other.name}/dataset.yaml"
            )


def _check_columns(spec: ModelSpec, lookup: Lookup, other: DatasetSpec, there: Mapping[str, str]) -> None:
    """there: the columns that a row has before this lookup, and where they are from."""
    for name in lookup.columns:
        adds = f"{_where(spec)}: the lookup of data/{other.name} adds `{name}`"
        if name not in other.columns:
            raise SpecError(f"{adds}, a column that it does not have: {nearest(name, other.columns)}")
        if name in there:
            raise SpecError(
                f"{adds}, and a row has a `{name}` from {there[name]} already: remove it from this lookup's "
                "`columns`, or rename one of the two in its source"
            )
        if other.columns[name].type is ColumnType.DATETIME:
            raise SpecError(
                f"{adds}, a datetime, which no model takes: derive numbers from it in the source of "
                f"data/{other.name} (hour, weekday, days since), and add those"
            )
    if len(set(lookup.columns)) != len(lookup.columns):
        raise SpecError(f"{_where(spec)}: the lookup of data/{other.name} adds a column twice")


def _where(spec: ModelSpec) -> str:
    return f"models/{spec.name}/model.yaml"


# --- the stage that joins --------------------------------------------------------------


def _check_stage(repository: Path, spec: ModelSpec) -> None:
    """DVC must see a lookup change, or the newest rows would neither be learnt from nor released."""
    path = Path("models") / spec.name / "dvc.yaml"
    try:
        content = yaml.load((repository / path).read_text(encoding="utf-8"), Loader=YAML_LOADER)
        stage = content["stages"]["prepare"]
        dependencies, keys = set(_names(stage["deps"])), set(_keys(stage.get("params", [])))
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise SpecError(f"{path} has no stage `prepare` that can be read: {error}") from error
    files = ("dataset.yaml", "partitions", "report.json")
    needed = [f"data/{lookup.dataset}/{file}" for lookup in spec.lookups for file in files]
    absent = [f"under `deps`:   - {name}" for name in dict.fromkeys(needed) if name not in dependencies]
    if "lookups" not in keys:
        absent.append("under `params`, among the keys of model.yaml:   lookups")
    if absent:
        lines = "".join(f"\n  {line}" for line in absent)
        raise SpecError(
            f"{path}: the stage `prepare` does not depend on all of `lookups` in model.yaml, so that DVC "
            f"would not notice when they change. Add{lines}"
        )


def _names(entries: Iterable[Any]) -> Iterator[str]:
    for entry in entries:
        yield from [entry] if isinstance(entry, str) else entry


def _keys(entries: Iterable[Any]) -> Iterator[str]:
    for entry in entries:
        for keys in [[entry]] if isinstance(entry, str) else entry.values():
            yield from keys or ()
