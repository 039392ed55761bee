from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
import yaml

from coalmine.datasets.ingest import ingest
from coalmine.datasets.partitions import partition_bytes
from coalmine.spec import load_dataset_spec
from pipelines.validate import main


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two months of sales, ingested; the working directory is its top."""
    (tmp_path / "data/sales").mkdir(parents=True)
    spec = {
        "name": "sales",
        "source": {"files": "sales.csv"},
        "period": "month",
        "time": "sold",
        "columns": {"sold": {"type": "datetime"}, "price": {"type": "number", "minimum": 0}},
    }
    (tmp_path / "data/sales/dataset.yaml").write_text(yaml.safe_dump(spec))
    (tmp_path / "sales.csv").write_text("sold,price\n2013-01-05,1\n2013-01-06,2\n2013-02-07,3\n")
    ingest(tmp_path, load_dataset_spec(tmp_path, "sales"), None, date(2013, 3, 1))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_good_dataset_is_reported_the_same_way_every_time(repository: Path) -> None:
    assert main(["data/sales"]) == 0
    path = repository / "data/sales/report.json"
    first = path.read_bytes()
    assert json.loads(first)["rows"] == 3
    assert main(["data/sales/"]) == 0
    assert path.read_bytes() == first


def test_faults_of_all_partitions_are_told_and_no_report_is_written(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for month in ("2013-01", "2013-02"):
        rows = pd.DataFrame({"sold": [pd.Timestamp("2013-01-01")], "price": [-1.0]})
        (repository / f"data/sales/partitions/{month}.parquet").write_bytes(partition_bytes(rows))
    assert main(["data/sales"]) == 2
    said = capsys.readouterr().err
    assert said.count("column `price` must be at least 0") == 2
    assert said.count("must lie within 2013-02") == 1
    assert not (repository / "data/sales/report.json").exists()


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "usage: "),
        (["data/sails"], "data/sails/dataset.yaml does not exist. There are: sales."),
    ],
    ids=["no dataset", "unknown dataset"],
)
def test_a_wrong_call_says_how_to_mend_it(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_dataset_without_partitions_says_how_to_take_some(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (repository / "data/sales/partitions").iterdir():
        path.unlink()
    assert main(["data/sales"]) == 2
    assert "coalmine ingest sales" in capsys.readouterr().err
