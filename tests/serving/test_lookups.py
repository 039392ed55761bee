"""What a release's datasets add to a request, and what they refuse."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from coalmine.datasets.join import join_lookups
from coalmine.datasets.partitions import partition_bytes
from coalmine.errors import IntegrityError
from coalmine.evaluation import signature
from coalmine.manifest import LookupTable, Manifest, ReleaseFile, Tensor, parse_manifest
from coalmine.serving.lookups import Lookups
from coalmine.serving.refusal import FailureKind, Refusal
from coalmine.spec import DatasetSpec, Lookup, ModelSpec
from tests.journals.fake_rollouts import make_manifest
from tests.serving.releases import rewrite

KEY = ("origin", "hour")
ADDED = ("temp", "gusts", "sky", "night")
INPUTS = (Tensor(name="origin", datatype="BYTES"), Tensor(name="hour", datatype="INT64"))
WEATHER = DatasetSpec.model_validate(
    {
        "name": "weather",
        "source": {"files": "x.csv"},
        "columns": {
            "origin": {"type": "string"},
            "hour": {"type": "integer"},
            "temp": {"type": "number", "missing": 0.5},
            "gusts": {"type": "integer"},
            "sky": {"type": "string", "missing": 0.5},
            "night": {"type": "boolean"},
        },
    }
)


def weather(first_hour: int, hours: int = 6) -> pd.DataFrame:
    chance = np.random.default_rng(first_hour)
    hour = np.repeat(np.arange(first_hour, first_hour + hours), 2)
    count = len(hour)
    rows = pd.DataFrame(
        {
            "origin": np.tile(["EWR", "JFK"], hours),
            "hour": hour,
            "temp": np.where(chance.random(count) < 0.3, np.nan, chance.normal(50, 9, count)),
            "gusts": chance.integers(0, 40, count),
            "sky": pd.Series(chance.choice(["clear", "fog"], count), dtype="str"),
            "night": hour % 24 < 6,
        }
    )
    rows.loc[3, "sky"] = None
    return rows


MONTHS = {"2013-01": weather(0), "2013-02": weather(6)}
COMPLETE = 8  # the hour in which JFK lacks nothing


class Case:
    """A release with its lookup, and the same lookup as training joins it."""

    def __init__(
        self, top: Path, missing: str, partitions: dict[str, pd.DataFrame], key: tuple[str, ...]
    ) -> None:
        self.top = top
        self.missing = missing
        self.key = key
        folder = top / "files/data/weather/partitions"
        folder.mkdir(parents=True)
        for name, rows in partitions.items():
            (folder / f"{name}.parquet").write_bytes(partition_bytes(rows))
        self.lookup = Lookup.model_validate(
            {"dataset": "weather", "key": key, "columns": ADDED, "missing": missing}
        )

    def trained(self, rows: pd.DataFrame) -> pd.DataFrame:
        model = ModelSpec.model_construct(name="delays", lookups=(self.lookup,))
        (self.top / "data").exists() or (self.top / "data").symlink_to(self.top / "files/data")
        return join_lookups(self.top, rows, model, {"weather": WEATHER})

    def manifest(self, columns: tuple[Tensor, ...] | None = None) -> Manifest:
        paths = sorted((self.top / "files").rglob("*.parquet"))
        table = LookupTable(
            dataset="weather",
            md5="0" * 32,
            key=self.key,
            columns=columns or self.columns(),
            missing=self.lookup.missing,
            files=tuple(_file(path, self.top / "files") for path in paths),
        )
        return make_manifest().model_copy(update={"inputs": INPUTS, "lookups": (table,)})

    def columns(self) -> tuple[Tensor, ...]:
        """As a release has them that was trained on every row, and on one that finds nothing."""
        rows = pd.concat(MONTHS.values())[list(KEY)]
        if self.missing == "null":
            rows = pd.concat([rows, pd.DataFrame({"origin": ["EWR"], "hour": [-1]})], ignore_index=True)
        return signature.inputs(self.trained(rows.reset_index(drop=True)), ADDED)

    def load(self, columns: tuple[Tensor, ...] | None = None) -> Lookups:
        return Lookups.load(self.top, self.manifest(columns))


def _file(path: Path, files: Path) -> ReleaseFile:
    content = path.read_bytes()
    return ReleaseFile(
        path=path.relative_to(files).as_posix(),
        sha256=hashlib.sha256(content).hexdigest(),
        md5=hashlib.md5(content).hexdigest(),
        size_bytes=len(content),
    )


@pytest.fixture
def make(tmp_path: Path) -> Any:
    def _make(
        missing: str = "null", partitions: dict[str, pd.DataFrame] = MONTHS, key: tuple[str, ...] = KEY
    ) -> Case:
        return Case(tmp_path, missing, partitions, key)

    return _make


def asked(origins: list[Any], hours: list[Any]) -> dict[str, list[Any]]:
    return {"origin": origins, "hour": hours, "distance": [100.0] * len(hours)}


# --- what is found ---------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["refuse", "null"])
def test_a_request_gets_what_training_got(make: Any, missing: str) -> None:
    case = make(missing)
    lookups = case.load()
    rows = pd.concat(MONTHS.values())[list(KEY)].sample(frac=1, random_state=0)
    if missing == "null":
        rows = pd.concat([rows, pd.DataFrame({"origin": ["LGA", "EWR"], "hour": [0, 99]})])
    rows = rows.reset_index(drop=True)
    trained = signature.model_frame(case.trained(rows), ADDED)

    served = lookups.join(asked(rows["origin"].tolist(), rows["hour"].tolist()), len(rows))
    assert set(served) == set(ADDED)
    assert signature.rows(case.columns(), served)[list(ADDED)].equals(trained)

    for number in range(len(rows)):
        one = asked([rows["origin"][number]], [rows["hour"][number]])
        assert lookups.join(one, 1) == {name: [values[number]] for name, values in served.items()}


def test_values_are_plain_and_of_the_manifests_types(make: Any) -> None:
    found = make("refuse").load().join(asked(["JFK"], [COMPLETE]), 1)
    assert {name: type(values[0]) for name, values in found.items()} == {
        "temp": float, "gusts": int, "sky": str, "night": bool,
    }  # fmt: skip


def test_in_a_lookup_that_need_not_find_whole_numbers_and_truths_are_numbers(make: Any) -> None:
    found = make("null").load().join(asked(["JFK", "JFK"], [1, -1]), 2)
    assert [found["night"], found["gusts"][1]] == [[1.0, None], None]
    assert isinstance(found["gusts"][0], float)


def test_the_key_may_be_one_column(make: Any) -> None:
    rows = MONTHS["2013-01"].query("origin == 'EWR'").reset_index(drop=True)
    lookups = make("null", {"all": rows}, key=("hour",)).load()
    assert lookups.join({"hour": [4, 77]}, 2)["gusts"] == [float(rows["gusts"][4]), None]


@pytest.mark.parametrize("hour", [4, 4.0], ids=["INT64", "FP64: some were missing in training"])
def test_a_whole_number_is_found_as_either_kind_of_number(make: Any, hour: float) -> None:
    found = make("refuse").load().join(asked(["EWR"], [hour]), 1)
    assert found["gusts"] == [MONTHS["2013-01"]["gusts"][8]]


# --- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origins", "hours", "row", "shown"),
    [
        (["EWR"], [99], 0, "`origin` 'EWR', `hour` 99"),
        (["JFK", "EWR", "SFO"], [1, 2, 3], 2, "`origin` 'SFO', `hour` 3"),
        (["JFK", None], [1, 1], 1, "`origin` null, `hour` 1"),
    ],
    ids=["one row", "of several", "no key at all"],
)
def test_a_key_that_must_be_there_is_refused_by_name_row_and_value(
    make: Any, origins: list[Any], hours: list[Any], row: int, shown: str
) -> None:
    with pytest.raises(Refusal) as refused:
        make("refuse").load().join(asked(origins, hours), len(hours))
    assert (refused.value.kind, refused.value.status) == (FailureKind.MISSING_KEY, 422)
    assert f"row {row}: the dataset weather" in str(refused.value)
    assert f"no row of {shown}." in str(refused.value)
    assert "newer weather data" in str(refused.value)


@pytest.mark.parametrize("name", ADDED)
@pytest.mark.parametrize("rows", [1, 2])
def test_a_missing_value_that_the_model_never_met_is_refused(make: Any, name: str, rows: int) -> None:
    case = make("null")
    columns = tuple(each.model_copy(update={"nullable": each.name != name}) for each in case.columns())
    with pytest.raises(Refusal, match=f"no `{name}` for `origin` 'LGA', `hour` {COMPLETE}") as refused:
        case.load(columns).join(asked(["JFK", "LGA"][-rows:], [COMPLETE] * rows), rows)
    assert refused.value.kind is FailureKind.MISSING_VALUE
    assert str(refused.value).startswith(f"row {rows - 1}: ")


def test_a_gap_in_the_table_itself_is_refused_where_training_had_none(make: Any) -> None:
    case = make("refuse")
    strict = tuple(each.model_copy(update={"nullable": False}) for each in case.columns())
    lookups = case.load(strict)
    gap = MONTHS["2013-02"].query("temp.isna()").iloc[0]
    with pytest.raises(Refusal, match="no `temp`"):
        lookups.join(asked([gap["origin"]], [int(gap["hour"])]), 1)


# --- at load ---------------------------------------------------------------------------


@pytest.mark.parametrize("within", ["one partition", "two partitions"])
def test_two_rows_of_one_key_are_refused_with_the_key(make: Any, within: str) -> None:
    last = weather(6).tail(1)
    months = {
        "one partition": {"2013-01": pd.concat([weather(6), last])},
        "two partitions": {"2013-01": weather(6), "2013-02": last},
    }
    case = make("null", months[within])
    columns = tuple(Tensor(name=name, datatype="FP64", nullable=True) for name in ("temp", "gusts"))
    with pytest.raises(IntegrityError, match=r"two rows of one key \(origin, hour: \('JFK', 11\)\)"):
        case.load(columns)


@pytest.mark.parametrize("fault", ["no file", "no Parquet", "no column", "other type"])
def test_a_partition_that_cannot_be_looked_up_in_is_named(make: Any, fault: str) -> None:
    case = make("null")
    columns, path = case.columns(), case.top / "files/data/weather/partitions/2013-02.parquet"
    manifest = case.manifest(columns)
    match fault:
        case "no file":
            path.unlink()
        case "no Parquet":
            path.write_bytes(b"rows")
        case "no column":
            path.write_bytes(partition_bytes(weather(6).drop(columns="sky")))
        case "other type":
            path.write_bytes(partition_bytes(weather(6).assign(temp="warm")))
    with pytest.raises(IntegrityError, match=r"2013-02\.parquet cannot be looked up in"):
        Lookups.load(case.top, manifest)


def test_looking_up_needs_no_pandas(make: Any) -> None:
    case = make("null")
    rewrite(case.top, case.manifest())
    code = """
import sys
from pathlib import Path
from coalmine.manifest import parse_manifest
from coalmine.serving.lookups import Lookups
folder = Path(sys.argv[1])
manifest = parse_manifest((folder / "manifest.yaml").read_text(), "manifest")
print(Lookups.load(folder, manifest).join({"origin": ["JFK"], "hour": [3]}, 1)["gusts"])
print(sorted({"pandas", "sklearn", "scipy"} & set(sys.modules)))
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, str(case.top)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines() == [f"[{float(MONTHS['2013-01']['gusts'][7])}]", "[]"]
    assert parse_manifest((case.top / "manifest.yaml").read_text(), "").lookups == case.manifest().lookups
