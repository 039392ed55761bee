"""The users of the demo: real later flights, sent at an open-loop rate, their labels arriving late.

A request is sent when its time has come, whether or not earlier ones were answered. What the
users saw is counted here and nowhere else; the gates never read it.

python -m coalmine.demo.traffic REPOSITORY MODEL URL RATE SCORES PARTITION...
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import orjson
import pandas as pd

from coalmine.datasets.lookups import request_inputs
from coalmine.datasets.sources import open_source
from coalmine.spec import load_dataset_spec, load_model_spec

TIMEOUT_S = 5.0
LABEL_DELAY_S = 10.0
WRITE_EVERY_S = 0.5
RECENT = 2000  # requests whose durations the percentiles are taken from
NOBODY = "nobody"  # who served a request that no model server answered


@dataclass
class Served:
    requests: int = 0
    failures: int = 0


@dataclass
class Scores:
    """What the users saw so far. by_version: version to its requests and failures."""

    started_s: float
    at_s: float = 0.0
    requests: int = 0
    failures: int = 0
    labels: int = 0
    labels_refused: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    by_version: dict[str, Served] = field(default_factory=dict)
    first_by_version_s: dict[str, float] = field(default_factory=dict)
    last_by_version_s: dict[str, float] = field(default_factory=dict)
    failure_kinds: dict[str, int] = field(default_factory=dict)


def read_scores(path: Path) -> Scores | None:
    """None before the first were written."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    served = {version: Served(**each) for version, each in content["by_version"].items()}
    return Scores(**{**content, "by_version": served})


@dataclass(frozen=True)
class Flight:
    body: bytes
    label: Any


class Users:
    def __init__(self, url: str, model: str, scores: Path) -> None:
        self._infer = f"{url}/v2/models/{model}/infer"
        self._feedback = f"{url}/v2/models/{model}/feedback"
        self._path = scores
        self._scores = Scores(time.time())
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._running: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()

    async def send(self, flights: Iterator[Flight], per_s: float) -> None:
        """Until SIGTERM; then what is under way ends first."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopped.set)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
            writer = asyncio.create_task(self._keep_writing())
            started = loop.time()
            for count, flight in enumerate(flights):
                await self._wait(started + count / per_s - loop.time())
                if self._stopped.is_set():
                    break
                self._start(self._ask(session, f"flight-{count}", flight))
            await asyncio.gather(*self._running)
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer
            self._write()

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), seconds)

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _ask(self, session: aiohttp.ClientSession, request: str, flight: Flight) -> None:
        sent, headers = time.perf_counter(), {"content-type": "application/json", "x-request-id": request}
        try:
            async with session.post(self._infer, data=flight.body, headers=headers) as answer:
                await answer.read()
                version, slot = (
                    answer.headers.get("x-coalmine-version", NOBODY),
                    answer.headers.get("x-coalmine-slot"),
                )
                kind = None if answer.status == 200 else str(answer.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            version, slot, kind = NOBODY, None, type(error).__name__
        self._recent.append(time.perf_counter() - sent)
        self._count(version, kind)
        if kind is None and slot is not None:
            self._start(self._tell_the_truth(session, request, slot, flight.label))

    async def _tell_the_truth(
        self, session: aiohttp.ClientSession, request: str, slot: str, label: Any
    ) -> None:
        """The label arrives late, at the slot that answered."""
        await self._wait(LABEL_DELAY_S)
        body = orjson.dumps({"id": request, "label": label})
        headers = {"content-type": "application/json", "x-coalmine-slot": slot}
        try:
            async with session.post(self._feedback, data=body, headers=headers) as answer:
                taken = answer.status < 300
        except (aiohttp.ClientError, TimeoutError):
            taken = False
        self._scores.labels += taken
        self._scores.labels_refused += not taken

    def _count(self, version: str, kind: str | None) -> None:
        scores, now = self._scores, time.time()
        served = scores.by_version.setdefault(version, Served())
        scores.requests += 1
        served.requests += 1
        scores.first_by_version_s.setdefault(version, now)
        scores.last_by_version_s[version] = now
        if kind is not None:
            scores.failures += 1
            served.failures += 1
            scores.failure_kinds[kind] = scores.failure_kinds.get(kind, 0) + 1

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            self._write()

    def _write(self) -> None:
        scores = self._scores
        scores.at_s = time.time()
        if self._recent:
            scores.p50_ms, scores.p99_ms = (float(q) * 1000 for q in np.quantile(self._recent, [0.5, 0.99]))
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(scores)), encoding="utf-8")
        os.replace(temporary, self._path)


def flights(repository: Path, model: str, partitions: Sequence[str]) -> Iterator[Flight]:
    """The rows of `partitions` as requests, mixed, so that every minute sees the same kind of users;
    over and over."""
    spec = load_model_spec(repository, model)
    source = open_source(repository, load_dataset_spec(repository, spec.dataset))
    rows = pd.concat([source.load(name) for name in partitions]).sample(frac=1, random_state=0)
    columns = {
        name: (_datatype(rows[name]), rows[name].astype(object).where(rows[name].notna(), None).tolist())
        for name in request_inputs(spec)
    }
    labels = rows[spec.target].tolist()
    bodies = [
        orjson.dumps(
            {
                "inputs": [
                    {"name": name, "shape": [1], "datatype": datatype, "data": [values[row]]}
                    for name, (datatype, values) in columns.items()
                ]
            },
            option=orjson.OPT_SERIALIZE_NUMPY,
        )
        for row in range(len(rows))
    ]
    while True:
        yield from (Flight(body, label) for body, label in zip(bodies, labels, strict=True))


def _datatype(column: pd.Series[Any]) -> str:
    if pd.api.types.is_integer_dtype(column.dtype) and not column.isna().any():
        return "INT64"
    return "FP64" if pd.api.types.is_numeric_dtype(column.dtype) else "BYTES"


def main() -> None:
    repository, model, url, per_s, scores, *partitions = sys.argv[1:]
    sys.path.insert(0, repository)
    users = Users(url, model, Path(scores))
    asyncio.run(users.send(flights(Path(repository), model, partitions), float(per_s)))


if __name__ == "__main__":
    main()
