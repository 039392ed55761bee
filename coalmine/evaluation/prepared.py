"""models/<model>/prepared: the rows of both sides, and how they came about.

`prepare` writes the folder; the stages after it, and whoever compares two versions, read it.
Both sides hold every column of the dataset, so that an older champion finds its features, and a
new slice needs no new split.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from coalmine.datasets.partitions import partition_bytes
from coalmine.errors import NotFound

_SPLIT = "split.json"


@dataclass(frozen=True)
class Side:
    partitions: tuple[str, ...]
    rows: int
    without_target: int  # rows left out because nobody knows the answer
    incomplete: int  # rows left out by `rows: complete`


@dataclass(frozen=True)
class SplitRecord:
    """What the later stages know of the dataset: they do not read its dataset.yaml."""

    dataset: str
    train: Side
    test: Side
    group: str | None
    time: str | None

    @property
    def test_label(self) -> str:
        """What to call the test rows in a sentence."""
        return "the test rows" if self.time is None else ", ".join(self.test.partitions)


def prepared_folder(model: str) -> Path:
    """From the top of the repository."""
    return Path("models") / model / "prepared"


def write_prepared(folder: Path, train: pd.DataFrame, test: pd.DataFrame, record: SplitRecord) -> None:
    """Law: equal rows and records give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.parquet").write_bytes(partition_bytes(train))
    (folder / "test.parquet").write_bytes(partition_bytes(test))
    (folder / _SPLIT).write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")


def read_train(folder: Path) -> pd.DataFrame:
    """
    Raises:
        NotFound: `prepare` has not run.
    """
    return _read(folder / "train.parquet")


def read_test(folder: Path) -> pd.DataFrame:
    """
    Raises:
        NotFound: `prepare` has not run.
    """
    return _read(folder / "test.parquet")


def read_split(folder: Path) -> SplitRecord:
    """
    Raises:
        NotFound: `prepare` has not run.
    """
    try:
        content = json.loads((folder / _SPLIT).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise _not_prepared(folder / _SPLIT) from error
    sides = {
        side: Side(**{**content[side], "partitions": tuple(content[side]["partitions"])})
        for side in ("train", "test")
    }
    return SplitRecord(**{**content, **sides})


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except FileNotFoundError as error:
        raise _not_prepared(path) from error


def _not_prepared(path: Path) -> NotFound:
    return NotFound(
        f"{path} does not exist. Make it: dvc repro {path.parent.parent / 'dvc.yaml'} (or dvc pull)"
    )
