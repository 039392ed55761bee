"""The largest bodies that are read, made to cost the most: none costs much more than its reading.

Time is the processor's, in units of the time that it takes to read 8 MiB of plain JSON numbers.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from coalmine.serving.http import MAX_BODY_BYTES
from tests.serving.in_process import Client
from tests.serving.releases import Built

LARGE = MAX_BODY_BYTES - 1000
MOST_UNITS = 5

INFER = "/v2/models/delays/infer"
FEEDBACK = "/v2/models/delays/feedback"

Sent = tuple[str, bytes, dict[str, str]]  # path, body, headers


def many(piece: bytes, before: bytes = b"[", after: bytes = b"]") -> bytes:
    """As much of it as there is room for, as a list."""
    return before + b",".join([piece] * (LARGE // (len(piece) + 1))) + after


def beside_binary(head: bytes, data: bytes) -> Sent:
    return INFER, head + data, {"inference-header-content-length": str(len(head))}


def in_binary(datatype: str, data: bytes) -> Sent:
    about = {"name": "distance", "shape": [1], "datatype": datatype}
    tensor = {**about, "parameters": {"binary_data_size": len(data)}}
    return beside_binary(orjson.dumps({"inputs": [tensor]}), data)


ONE_ROW = orjson.dumps(
    [
        {"name": name, "datatype": datatype, "shape": [1], "data": [value]}
        for name, datatype, value in [
            ("distance", "INT64", 1),
            ("pressure", "FP64", 1.0),
            ("carrier", "BYTES", "UA"),
            ("weekend", "BOOL", True),
        ]
    ]
)
COLUMN = b'{"inputs":[{"name":"distance","datatype":"INT64","shape":[1],'
CASES: dict[str, Callable[[], Sent]] = {  # made when they are sent: together they are large
    "a list that never ends": lambda: (INFER, b"[" * LARGE, {}),
    "an object that never ends": lambda: (INFER, b'{"a":' * (LARGE // 5), {}),
    "empty tensors": lambda: (INFER, many(b"{}", b'{"inputs":[', b"]}"), {}),
    "tensors of one name": lambda: (INFER, many(b'{"name":"distance"}', b'{"inputs":[', b"]}"), {}),
    "tensors that are lists": lambda: (INFER, many(b"[]", b'{"inputs":[', b"]}"), {}),
    "values that are lists": lambda: (INFER, many(b"[]", COLUMN + b'"data":[', b"]}]}"), {}),
    "values": lambda: (INFER, many(b"1", COLUMN + b'"data":[', b"]}]}"), {}),
    "a shape": lambda: (INFER, many(b"1", COLUMN + b'"data":[1],"shape":[', b"]}]}"), {}),
    "outputs": lambda: (
        INFER,
        many(b'{"name":"label"}', b'{"inputs":' + ONE_ROW + b',"outputs":[', b"]}"),
        {},
    ),
    "a name": lambda: (INFER, b'{"inputs":[{"name":"' + b"a" * LARGE + b'"}]}', {}),
    "an id": lambda: (INFER, b'{"id":"' + b"a" * LARGE + b'","inputs":[]}', {}),
    "a number": lambda: (INFER, b'{"inputs":' + b"9" * LARGE + b"}", {}),
    "parameters": lambda: (INFER, orjson.dumps({"parameters": {f"k{at}": 1 for at in range(500_000)}}), {}),
    "binary texts": lambda: in_binary("BYTES", bytes(LARGE // 4 * 4)),
    "binary booleans": lambda: in_binary("BOOL", bytes(LARGE)),
    "binary bytes": lambda: in_binary("INT8", bytes(LARGE)),
    "binary numbers that are missing": lambda: in_binary("FP16", b"\xff" * (LARGE // 2 * 2)),
    "tensors beside binary data": lambda: beside_binary(many(b"{}", b'{"inputs":[', b"]}"), bytes(8)),
    "records": lambda: ("/predict", many(b"{}"), {}),
    "a record": lambda: ("/predict", orjson.dumps({f"k{at}": 1 for at in range(500_000)}), {}),
    "labels": lambda: (FEEDBACK, many(b"{}"), {}),
    "a request's labels": lambda: (FEEDBACK, many(b"true", b'{"id":"a","label":[', b"]}"), {}),
    "several requests' labels": lambda: (
        FEEDBACK,
        orjson.dumps([{"id": "a", "label": [True] * 150}] * 10_000),
        {},
    ),
    "a bomb": lambda: (INFER, gzip.compress(b"[" * 2**26), {"content-encoding": "gzip"}),
    "packed blanks": lambda: (INFER, gzip.compress(b" " * LARGE), {"content-encoding": "gzip"}),
}


def cpu_s(do: Callable[[], Any]) -> float:
    """The better of two times."""
    took = []
    for _ in range(2):
        started_s = time.process_time()
        do()
        took.append(time.process_time() - started_s)
    return min(took)


@pytest.fixture(scope="module")
def unit_s() -> float:
    body = many(b"1")
    return cpu_s(lambda: orjson.loads(body))


@pytest.mark.parametrize("made", CASES.values(), ids=CASES)
def test_no_body_costs_much_more_than_its_reading(
    made: Callable[[], Sent], compiled: Built, unit_s: float
) -> None:
    client, statuses = Client(compiled), []
    path, content, headers = made()

    def send() -> None:
        statuses.append(client.request("POST", path, content=content, headers=headers).status_code)

    assert cpu_s(send) < MOST_UNITS * unit_s
    assert set(statuses) <= {400, 413}
