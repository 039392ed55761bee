"""Which rows a model learns from and which ones it is judged on.

Partitioned datasets split by time, others by a hash of the row; tuning folds are cut from the
training rows in the same spirit. Nothing here reads a file or looks at a value beyond that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from coalmine.errors import DataRefused
from coalmine.spec import DatasetSpec, Split

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PartitionSplit:
    train: tuple[str, ...]
    test: tuple[str, ...]


def split_partitions(names: Sequence[str], split: Split, dataset: str) -> PartitionSplit:
    """The newest partitions are the test, those before them are trained on.

    Raises:
        DataRefused: too few partitions to have both sides.
    """
    ordered = sorted(names)
    if len(ordered) < split.test_partitions + 1:
        raise DataRefused(
            f"data/{dataset} has {len(ordered)} partition(s) ({', '.join(ordered) or 'none'}); "
            f"`split.test_partitions: {split.test_partitions}` needs at least {split.test_partitions + 1}, "
            f"so that some are left to train on. Ingest more: coalmine ingest {dataset}"
        )
    before = ordered[: -split.test_partitions]
    return PartitionSplit(tuple(before[-split.train_partitions :]), tuple(ordered[-split.test_partitions :]))


def is_test_row(frame: pd.DataFrame, dataset: DatasetSpec, split: Split) -> BoolArray:
    """Which rows are the test, by a hash of the row's identity and the seed.

    A row keeps its side when others come or go, and when a column's missing values change its
    dtype. Rows of one group, and equal rows, are on the same side.
    """
    if dataset.group is not None:
        identity = [dataset.group]
    else:
        identity = list(dataset.key) or sorted(dataset.columns)
    hashed = pd.util.hash_pandas_object(_plain(frame[identity]), index=False).to_numpy()
    # pandas seeds only the hashes of texts, so the seed is mixed in here.
    share = _mixed(hashed.astype(np.uint64), split.seed).astype("float64") / 2.0**64
    return np.asarray(share < split.test_share)


def folds(
    frame: pd.DataFrame, group: str | None, time: str | None, count: int, seed: int
) -> list[tuple[IntArray, IntArray]]:
    """(train, validation) row numbers of each fold; a group is never cut in two.

    With a time, each fold validates on the block of groups (or rows) that follows what it
    trains on, so a model is never tuned on the past with the future in hand. Without, the groups
    are shuffled.

    Raises:
        DataRefused: fewer groups than folds need.
    """
    codes = _group_codes(frame, group)
    groups = int(codes.max()) + 1 if len(codes) else 0
    blocks = count + 1 if time is not None else count
    if groups < blocks:
        unit = f"values of `{group}`" if group is not None else "rows"
        raise DataRefused(
            f"`tuning.folds: {count}` needs at least {blocks} {unit} to train on, and there are {groups}: "
            "lower it, or train on more"
        )
    if time is not None:
        first_seen = frame[time].groupby(codes).min().to_numpy()
        order = np.argsort(first_seen, kind="stable")
    else:
        order = np.random.default_rng(seed).permutation(groups)
    block_of_group = np.empty(groups, dtype=np.int64)
    for block, members in enumerate(np.array_split(order, blocks)):
        block_of_group[members] = block
    block_of_row = block_of_group[codes]
    if time is not None:
        return [
            (np.flatnonzero(block_of_row < block), np.flatnonzero(block_of_row == block))
            for block in range(1, blocks)
        ]
    return [
        (np.flatnonzero(block_of_row != block), np.flatnonzero(block_of_row == block))
        for block in range(blocks)
    ]


def _group_codes(frame: pd.DataFrame, group: str | None) -> IntArray:
    if group is None:
        return np.arange(len(frame), dtype=np.int64)
    return pd.factorize(frame[group], use_na_sentinel=False)[0].astype(np.int64)


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` in dtypes that do not depend on whether a column has missing values."""
    numbers = {
        name: "float64"
        for name in frame.columns
        if pd.api.types.is_numeric_dtype(frame[name]) or pd.api.types.is_bool_dtype(frame[name])
    }
    texts = {name: "str" for name in frame.columns if name not in numbers}
    return frame.astype({**numbers, **texts})


def _mixed(values: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint64]:
    """splitmix64's finaliser (Steele, Lea, Flood 2014): every bit of input moves every bit of output."""
    mixed = values + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
