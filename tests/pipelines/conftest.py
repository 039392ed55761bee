"""A small repository with one partitioned dataset and one model, as the stages find it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from coalmine.datasets.partitions import partition_bytes

DATASET: dict[str, Any] = {
    "name": "visits",
    "source": {"files": "visits-{partition}.csv"},
    "period": "month",
    "time": "at",
    "group": "day",
    "columns": {
        "at": {"type": "datetime"},
        "day": {"type": "string"},
        "minutes": {"type": "number", "missing": 0.3},
        "pages": {"type": "integer"},
        "shop": {"type": "string"},
        "bought": {"type": "integer"},
        "spent": {"type": "number"},
    },
}
MODEL: dict[str, Any] = {
    "name": "buyers",
    "dataset": "visits",
    "task": "binary",
    "target": "bought",
    "features": ["minutes", "pages"],
    "split": {"train_partitions": 2},
    "estimator": {"class": "sklearn.ensemble.HistGradientBoostingClassifier", "params": {"max_iter": 5}},
    "tuning": None,
    "evaluation": {
        "metrics": ["roc_auc", "log_loss"],
        "slices": {"columns": ["shop"], "minimum_rows": 50},
        "resamples": 100,
    },
}
LOOKUP_FILES = ("dataset.yaml", "partitions", "report.json")


class Workshop:
    """The repository's files, and how a test changes them."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.model = top / "models/buyers"
        self.model.mkdir(parents=True)
        self.partitions = top / "data/visits/partitions"
        self.partitions.mkdir(parents=True)
        self.write_dataset()
        self.write_model()

    def write_dataset(self, **changes: Any) -> None:
        (self.partitions.parent / "dataset.yaml").write_text(yaml.safe_dump({**DATASET, **changes}))

    def write_model(self, **changes: Any) -> None:
        (self.model / "model.yaml").write_text(yaml.safe_dump({**MODEL, **changes}))

    def write_stages(self, *lookups: str) -> None:
        """dvc.yaml, as far as a stage reads it."""
        files = [f"data/{name}/{file}" for name in lookups for file in LOOKUP_FILES]
        keys = ["features", *(["lookups"] if lookups else [])]
        stage = {"deps": files, "params": [{"models/buyers/model.yaml": keys}]}
        (self.model / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"prepare": stage}}))

    def write_lookup(self, name: str, columns: dict[str, Any] | None, rows: pd.DataFrame) -> None:
        """A dataset of one partition; columns: None leaves dataset.yaml as it is."""
        folder = self.top / "data" / name
        (folder / "partitions").mkdir(parents=True, exist_ok=True)
        if columns is not None:
            spec = {"name": name, "source": {"files": "x.csv"}, "columns": columns}
            (folder / "dataset.yaml").write_text(yaml.safe_dump(spec))
        (folder / "partitions/all.parquet").write_bytes(partition_bytes(rows))

    def write_partition(self, name: str, rows: pd.DataFrame) -> None:
        (self.partitions / f"{name}.parquet").write_bytes(partition_bytes(rows))


def visits(month: str, count: int = 560) -> pd.DataFrame:
    chance = np.random.default_rng(int(month[-2:]))
    at = pd.Timestamp(month) + pd.to_timedelta(np.arange(count) * 28 * 24 // count, unit="h")
    minutes = chance.exponential(5, count)
    bought = (minutes + chance.normal(0, 4, count) > 5).astype("int64")
    return pd.DataFrame(
        {
            "at": at.astype("datetime64[us]"),
            "day": at.strftime("%Y-%m-%d"),
            "minutes": np.where(chance.random(count) < 0.1, np.nan, minutes),
            "pages": chance.integers(1, 9, count),
            "shop": chance.choice(["north", "south"], count),
            "bought": bought,
            "spent": bought * chance.exponential(20, count),
        }
    )


@pytest.fixture
def make_visits() -> Callable[..., pd.DataFrame]:
    return visits


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    made = Workshop(tmp_path)
    for month in ("2013-01", "2013-02", "2013-03", "2013-04"):
        made.write_partition(month, visits(month))
    return made
