"""A small dataset of orders by month, and a repository that it can be ingested into."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from coalmine.spec import DatasetSpec

ORDERS: dict[str, Any] = {
    "name": "orders",
    "source": {"files": "incoming/orders-{partition}.csv"},
    "period": "month",
    "time": "ordered",
    "key": ["order"],
    "columns": {
        "ordered": {"type": "datetime"},
        "order": {"type": "integer", "minimum": 1, "maximum": 1000},
        "price": {"type": "number", "missing": 0.5},
        "country": {"type": "string", "values": ["DE", "NA", "US"]},
        "coupons": {"type": "integer", "missing": 0.5},
        "new": {"type": "boolean", "missing": 0.5},
        "email": {"type": "string", "unique": True},
    },
}


@pytest.fixture
def orders() -> dict[str, Any]:
    """dataset.yaml as a mapping, to be changed by a test."""
    return copy.deepcopy(ORDERS)


@pytest.fixture
def spec(orders: dict[str, Any]) -> DatasetSpec:
    return DatasetSpec.model_validate(orders)


@pytest.fixture
def frame() -> pd.DataFrame:
    """Four good rows of 2013-01."""
    return pd.DataFrame(
        {
            "ordered": pd.to_datetime(["2013-01-01T00", "2013-01-02T10", "2013-01-31T23", "2013-01-05T08"]),
            "order": [1, 2, 3, 4],
            "price": [1.5, None, 3.0, 2.0],
            "country": ["DE", "NA", "US", "DE"],
            "coupons": [None, 2, None, 0],
            "new": [True, None, False, True],
            "email": ["a@x", "b@x", "c@x", "d@x"],
        }
    )


@pytest.fixture
def repository(tmp_path: Path, orders: dict[str, Any]) -> Path:
    (tmp_path / "data/orders").mkdir(parents=True)
    (tmp_path / "data/orders/dataset.yaml").write_text(yaml.safe_dump(orders))
    (tmp_path / "incoming").mkdir()
    return tmp_path


@pytest.fixture
def offer(repository: Path) -> Callable[..., None]:
    """Put one good month into the source; `rows` are its order numbers."""

    def put(month: str, rows: int = 3, price: float = 1.5) -> None:
        lines = [f"{month}-{day + 1:02},{day + 1},{price},DE,1,true,{day}@x" for day in range(rows)]
        text = "ordered,order,price,country,coupons,new,email\n" + "\n".join(lines) + "\n"
        (repository / f"incoming/orders-{month}.csv").write_text(text)

    return put
