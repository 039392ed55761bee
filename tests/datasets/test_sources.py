from __future__ import annotations

import functools
import http.server
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from coalmine.datasets.schema import check_partition
from coalmine.datasets.sources import Source, open_source
from coalmine.errors import CoalmineError, DataRefused, NotFound, SpecError, Unavailable, Unsupported
from coalmine.spec import DatasetSpec

HEADER = "ordered,order,price,country,coupons,new,email\n"


def source_of(repository: Path, orders: dict[str, Any], **changes: Any) -> Source:
    return open_source(repository, DatasetSpec.model_validate(orders | changes))


# --- files -----------------------------------------------------------------------------


def test_files_by_pattern_are_listed_by_time_and_loaded_by_name(
    repository: Path, orders: dict[str, Any], offer: Callable[..., None]
) -> None:
    offer("2013-02", rows=2)
    offer("2012-12", rows=1)
    source = source_of(repository, orders)
    assert source.partitions() == ["2012-12", "2013-02"]
    assert len(source.load("2013-02")) == 2


def test_an_unknown_partition_is_refused_with_those_on_offer(
    repository: Path, orders: dict[str, Any], offer: Callable[..., None]
) -> None:
    offer("2013-01")
    with pytest.raises(NotFound, match=r"no partition 2013-05\. It offers: 2013-01"):
        source_of(repository, orders).load("2013-05")


def test_a_file_whose_name_is_no_partition_is_refused(
    repository: Path, orders: dict[str, Any], offer: Callable[..., None]
) -> None:
    offer("2013-1")
    with pytest.raises(DataRefused, match="`2013-1` does not name a partition"):
        source_of(repository, orders).partitions()


def test_csv_fields_keep_their_meaning(repository: Path, orders: dict[str, Any]) -> None:
    big = 2**60 + 1
    orders["columns"]["order"] = {"type": "integer", "missing": 0.5}
    orders["key"] = []
    text = f"{HEADER}2013-01-02T10:00:00Z,{big},1e3,NA,,true,007\n2013-01-03,NA,NA,DE,3,,\n"
    (repository / "incoming/orders-2013-01.csv").write_text(text)
    orders["columns"]["email"] = {"type": "string", "missing": 0.5}
    spec = DatasetSpec.model_validate(orders)
    rows = check_partition(open_source(repository, spec).load("2013-01"), spec, "2013-01", None)
    assert list(rows["country"]) == ["NA", "DE"]  # a country, no missing value
    assert rows["email"][0] == "007"
    assert rows["order"][0] == big
    assert rows["ordered"][0] == pd.Timestamp("2013-01-02T10:00:00")
    gaps = {name: list(rows[name].isna()) for name in rows if rows[name].isna().any()}
    assert gaps == {name: [False, True] for name in ("order", "price", "new", "email")} | {
        "coupons": [True, False]
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param("2013-01-01,1,1,DE,1,true,a,b\n", "cannot be read", id="more fields than columns"),
        pytest.param('2013-01-01,1,1,DE,1,true,"a\n', "cannot be read", id="open quote"),
    ],
)
def test_a_broken_csv_is_refused(repository: Path, orders: dict[str, Any], line: str, said: str) -> None:
    (repository / "incoming/orders-2013-01.csv").write_text(HEADER + line)
    with pytest.raises(DataRefused, match=said):
        source_of(repository, orders).load("2013-01")


def test_texts_that_are_no_dates_reach_the_checks_and_are_shown(
    repository: Path, orders: dict[str, Any]
) -> None:
    text = f"{HEADER}2013-01-01,1,1,DE,1,true,a\n31.01.2013,2,1,DE,1,true,b\n"
    (repository / "incoming/orders-2013-01.csv").write_text(text)
    spec = DatasetSpec.model_validate(orders)
    rows = open_source(repository, spec).load("2013-01")
    with pytest.raises(DataRefused, match=r"column `ordered` must hold times .*1 of 2 rows .*'31\.01\.2013'"):
        check_partition(rows, spec, "2013-01", None)


def test_parquet_and_packed_csv_are_read(
    repository: Path, orders: dict[str, Any], frame: pd.DataFrame
) -> None:
    frame.to_parquet(repository / "incoming/orders-2013-01.parquet")
    frame.to_csv(repository / "incoming/orders-2013-01.csv.gz", index=False)
    for ending in ("parquet", "csv.gz"):
        source = source_of(repository, orders, source={"files": f"incoming/orders-{{partition}}.{ending}"})
        assert len(source.load("2013-01")) == 4


def test_one_file_is_told_apart_by_time(repository: Path, orders: dict[str, Any]) -> None:
    lines = [
        "2013-02-01,1,1,DE,1,true,a",
        "2013-01-31T23:59:59,2,1,DE,1,true,b",
        "2013-02-09,3,1,DE,1,true,c",
    ]
    (repository / "incoming/orders.csv").write_text(HEADER + "\n".join(lines))
    source = source_of(repository, orders, source={"files": "incoming/orders.csv"})
    assert source.partitions() == ["2013-01", "2013-02"]
    assert list(source.load("2013-02")["order"]) == [1, 3]


def test_one_file_without_period_is_one_partition(repository: Path, orders: dict[str, Any]) -> None:
    (repository / "incoming/orders.csv").write_text(f"{HEADER}2013-02-01,1,1,DE,1,true,a\n")
    source = source_of(repository, orders, source={"files": "incoming/orders.csv"}, period="none")
    assert source.partitions() == ["all"]
    assert len(source.load("all")) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("order\n1\n", "has no column `ordered`", id="no time column"),
        pytest.param(
            f"{HEADER}2013-01-01,1\nsoon,2\n", "1 of 2 do not, such as row 1 with 'soon'", id="no date"
        ),
    ],
)
def test_one_file_whose_rows_cannot_be_told_apart_is_refused(
    repository: Path, orders: dict[str, Any], text: str, said: str
) -> None:
    (repository / "incoming/orders.csv").write_text(text)
    with pytest.raises(DataRefused, match=said):
        source_of(repository, orders, source={"files": "incoming/orders.csv"}).partitions()


def test_a_file_that_does_not_exist_is_named(repository: Path, orders: dict[str, Any]) -> None:
    source = source_of(repository, orders, source={"files": "incoming/nothing.csv"})
    with pytest.raises(NotFound, match=r"incoming/nothing\.csv"):
        source.partitions()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": {"files": "incoming/{partition}.xlsx"}}, "must end in .csv"),
        ({"source": {"files": "s3://bucket/{partition}.csv"}}, "only http and https"),
        ({"period": "none"}, "give the `period`"),
        ({"source": {"python": "no.such.module"}}, "cannot be imported"),
        ({"source": {"python": "coalmine.errors"}}, "has no function `partitions`"),
    ],
    ids=["format", "address", "placeholder without period", "module", "functions"],
)
def test_a_source_that_cannot_be_used_is_refused(
    repository: Path, orders: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        source_of(repository, orders, **changes)


# --- URLs ------------------------------------------------------------------------------


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def address(repository: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(repository / "incoming"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_files_behind_a_url_are_loaded_by_name_but_not_listed(
    repository: Path, orders: dict[str, Any], offer: Callable[..., None], address: str
) -> None:
    offer("2013-01")
    source = source_of(repository, orders, source={"files": f"{address}/orders-{{partition}}.csv"})
    assert len(source.load("2013-01")) == 3
    with pytest.raises(NotFound, match="HTTP 404"):
        source.load("2013-02")
    with pytest.raises(DataRefused, match="does not name a partition"):
        source.load("../secret")
    with pytest.raises(Unsupported, match="say which partitions"):
        source.partitions()


def test_a_url_that_does_not_answer_is_worth_a_retry(repository: Path, orders: dict[str, Any]) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Quiet, bind_and_activate=False) as server:
        server.server_bind()  # bound, but not listening: refused
        source = source_of(
            repository, orders, source={"files": f"http://127.0.0.1:{server.server_port}/{{partition}}.csv"}
        )
        with pytest.raises(Unavailable, match="cannot be reached"):
            source.load("2013-01")


# --- Python ----------------------------------------------------------------------------


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Writes an importable module and gives its name."""
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    written: list[str] = []

    def write(load: str) -> str:
        name = f"source_{abs(hash(load))}"
        (tmp_path / "code").mkdir(exist_ok=True)
        text = "import pandas as pd\nfrom coalmine.errors import Unavailable\n"
        text += f"def partitions():\n    return ['2013-02', '2013-01']\ndef load(partition):\n    {load}\n"
        (tmp_path / f"code/{name}.py").write_text(text)
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


def test_a_python_source_lists_and_loads(
    repository: Path, orders: dict[str, Any], write_module: Callable[[str], str]
) -> None:
    module = write_module("return pd.DataFrame({'a': [partition]})")
    source = source_of(repository, orders, source={"python": module})
    assert source.partitions() == ["2013-01", "2013-02"]
    assert source.load("2013-02")["a"][0] == "2013-02"
    with pytest.raises(NotFound, match="It offers: 2013-01, 2013-02"):
        source.load("2013-03")


@pytest.mark.parametrize(
    ("load", "raised", "said"),
    [
        ("raise KeyError('x')", DataRefused, r"load\('2013-01'\) failed: KeyError"),
        ("raise ConnectionError('gone')", Unavailable, "ConnectionError: gone"),
        ("raise Unavailable('later')", Unavailable, "^later$"),
        ("return [1]", DataRefused, "gave a list"),
    ],
    ids=["bug", "network", "own words", "no frame"],
)
def test_what_goes_wrong_in_a_python_source_is_told(
    repository: Path,
    orders: dict[str, Any],
    write_module: Callable[[str], str],
    load: str,
    raised: type[CoalmineError],
    said: str,
) -> None:
    source = source_of(repository, orders, source={"python": write_module(load)})
    with pytest.raises(raised, match=said):
        source.load("2013-01")
