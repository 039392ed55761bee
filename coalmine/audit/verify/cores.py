"""The same computation for thousands of files, on all cores of the machine.

For pure functions of what Git holds: it is read by the process that asks.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Self, TypeVar

from coalmine.errors import MachineUnready

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 50  # items that go to a process together
WORTH_A_PROCESS = 200  # items, below which its start takes longer than it saves
_MOST = 8  # processes, of 80 MB each


class Cores:
    """Processes that start when there is enough to do, and end with this object, or with this process."""

    def __init__(self) -> None:
        self._processes: list[tuple[SpawnProcess, Connection]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, connection in self._processes:
            connection.close()
        for process, _ in self._processes:
            process.join()

    def map(self, function: Callable[[T], R], items: Iterable[T], number: int) -> Iterator[R]:
        """`function` of each of `items`, in order; a few batches of them are in memory at once.

        function: of a module's top level, and pure. number: how many items there are.

        Raises:
            MachineUnready: a process was ended from outside.
        """
        wanted = min(_cores(), _MOST, number // WORTH_A_PROCESS)
        if wanted < 2:
            yield from map(function, items)
            return
        while len(self._processes) < wanted:
            self._processes.append(_start())
        try:
            yield from _spread(function, iter(items), [connection for _, connection in self._processes])
        except (EOFError, ConnectionError) as error:
            raise MachineUnready(
                "A process that checked a part of the record was ended by something else, such as a machine "
                "without memory left. Nothing was changed: run again"
            ) from error


def _spread(function: Callable[[T], R], items: Iterator[T], connections: Iterable[Connection]) -> Iterator[R]:
    # A process gets its next batch only when it has handed over the last one: neither side ever waits for
    # the other to read.
    batches = iter(lambda: list(islice(items, AT_ONCE)), [])
    busy: deque[Connection] = deque()
    for connection, batch in zip(connections, batches, strict=False):
        connection.send((function, batch))
        busy.append(connection)
    while busy:
        connection = busy.popleft()
        done = connection.recv()
        if batch := next(batches, []):  # before its results are used: it works meanwhile
            connection.send((function, batch))
            busy.append(connection)
        yield from done


def _cores() -> int:
    """Those that this process may use, where the system says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start() -> tuple[SpawnProcess, Connection]:
    context = multiprocessing.get_context("spawn")  # numpy's threads do not survive a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _work(batches: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asked
    with suppress(EOFError, ConnectionError):  # no more to do, or nobody there to take it
        while True:
            function, items = batches.recv()
            batches.send([function(item) for item in items])
