"""Users at an open-loop rate, in a thread: a request goes out when its time has come, answered or not."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import aiohttp
import orjson
import pandas as pd

PER_S = 80.0
TIMEOUT_S = 10.0
FEATURES = {"income": "FP64", "age": "INT64", "debt": "FP64"}


class Users:
    """answers: by (version, status); a request without any answer counts as ("nobody", what happened).
    last_asked: when the newest request of those that a version answered went out, on the monotonic clock.
    """

    def __init__(
        self, url: str, bodies: list[bytes], per_s: float = PER_S, headers: Mapping[str, str] | None = None
    ) -> None:
        self.answers: Counter[tuple[str, int | str]] = Counter()
        self.last_asked: dict[str, float] = {}
        self._url, self._bodies, self._per_s = url, bodies, per_s
        self._headers = {"content-type": "application/json", **(headers or {})}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()), name="users")

    @property
    def failures(self) -> dict[tuple[str, int | str], int]:
        return {who: count for who, count in self.answers.items() if who[1] != 200}

    @property
    def requests(self) -> int:
        return sum(self.answers.values())

    def start(self) -> None:
        self._thread.start()

    def await_requests(self, count: int) -> None:
        """Return when `count` more requests were answered."""
        until = self.requests + count
        while self.requests < until:
            assert self._thread.is_alive()
            time.sleep(0.02)

    def await_version(self, version: str, within_s: float = 60.0) -> None:
        """Return when `version` has answered somebody."""
        deadline = time.monotonic() + within_s
        while (version, 200) not in self.answers:
            assert time.monotonic() < deadline, dict(self.answers)
            time.sleep(0.02)

    def end(self) -> None:
        """Every request was answered, or given up, when this returns."""
        self._ending.set()
        self._thread.join()

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        timeout, connector = aiohttp.ClientTimeout(total=TIMEOUT_S), aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            asked: set[asyncio.Task[None]] = set()
            started = loop.time()
            for count, body in enumerate(cycle(self._bodies)):
                await asyncio.sleep(max(0.0, started + count / self._per_s - loop.time()))
                if self._ending.is_set():
                    break
                task = asyncio.create_task(self._ask(session, body))
                asked.add(task)
                task.add_done_callback(asked.discard)
            await asyncio.gather(*asked)

    async def _ask(self, session: aiohttp.ClientSession, body: bytes) -> None:
        asked = time.monotonic()
        try:
            async with session.post(self._url, data=body, headers=self._headers) as answer:
                await answer.read()
                version = answer.headers.get("x-coalmine-version", "nobody")
                self.answers[version, answer.status] += 1
                self.last_asked[version] = max(asked, self.last_asked.get(version, asked))
        except (aiohttp.ClientError, TimeoutError) as error:
            self.answers["nobody", type(error).__name__] += 1


@contextmanager
def asking(
    url: str, rows: Path, per_s: float = PER_S, headers: Mapping[str, str] | None = None
) -> Iterator[Users]:
    """Users who send the rows of a CSV file, over and over, while the block runs."""
    users = Users(url, _bodies(rows), per_s, headers)
    users.start()
    try:
        yield users
    finally:
        users.end()


def _bodies(rows: Path) -> list[bytes]:
    frame = pd.read_csv(rows).astype(object)
    frame = frame.where(frame.notna(), None)
    return [
        orjson.dumps(
            {
                "inputs": [
                    {"name": name, "shape": [1], "datatype": datatype, "data": [row[name]]}
                    for name, datatype in FEATURES.items()
                ]
            }
        )
        for row in frame.to_dict("records")
    ]
