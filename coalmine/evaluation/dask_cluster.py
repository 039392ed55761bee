"""Work on a Dask cluster: its workers checked, given the repository's code, and joblib told of them.

One training at a time has a cluster's workers: they hold one version of `pipelines/`, and two
trainings side by side would be done no sooner. Dask runs whatever reaches its scheduler, so who can
connect to it is the network's matter (k8s/components/dask).

Imported only where a model asks for it: Dask is no part of a plain installation.
"""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, InvalidStateError, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import distributed
from joblib import parallel_config
from joblib._dask import DaskDistributedBackend

from coalmine.errors import MachineUnready, Unavailable

T = TypeVar("T")
Tell = Callable[[str], None]

CONNECTED_WITHIN_S = 20.0
WORKERS_WITHIN_S = 60.0  # a pod that has to be scheduled, or a worker that its nanny starts again
ATTEMPTS = 3
# What a model's bytes depend on, and what carries the work over.
LIBRARIES = (
    *("coalmine", "numpy", "pandas", "scikit-learn", "scipy"),
    *("cloudpickle", "dask", "distributed", "joblib"),
)

_CODE = "coalmine-code"
_TURN = "coalmine-training"
_LOOK_EVERY_S = 1.0
_SAID_EVERY_S = 30.0
# A scheduler that ends, or a worker that alone had some rows, cancels what was asked for.
_LOST = (CancelledError, OSError, TimeoutError)

_dask: Any = distributed  # most of it has no types


def work_there(scheduler: str | None, code: Path, tell: Tell, work: Callable[[], T]) -> T:
    """What `work` gives, its parts spread by joblib over the workers of `scheduler`, or of this machine.

    Raises:
        MachineUnready: workers with other libraries or several threads, or that one part takes down.
        Unavailable: no scheduler, or no workers for a minute.
    """
    where = scheduler or "this machine"
    with _connected(scheduler) as client:
        _await_workers(client, where)
        _require_same_libraries(client, where)
        with _turn(client, where, tell), _code_on_workers(client, code):
            tell(f"Training on {len(client.nthreads())} workers of {where}.")
            return _worked(client, where, tell, work)


def _worked(client: Any, where: str, tell: Tell, work: Callable[[], T]) -> T:
    attempt = 1
    while True:
        try:
            return _watched(client, work)
        except distributed.KilledWorker as error:
            raise MachineUnready(
                f"One part of the training ended every worker of {where} that took it up, most likely for "
                f"want of memory; the last was {error.last_worker.address}, whose log may say more. Give the "
                "workers more, or train with `engine: local`"
            ) from error
        except _LOST as error:
            if client.status != "running" or attempt == ATTEMPTS:
                raise _away(where, "was lost amid the training") from error
        attempt += 1
        tell("A worker ended and took rows along: the stage begins again with those that are left.")
        _await_workers(client, where)


def _watched(client: Any, work: Callable[[], T]) -> T:
    """What `work` gives, joblib's backend being the cluster.

    joblib would wait without end for a part that Dask gave up, or whose workers or scheduler are gone. Then
    it is left to wait, in a thread that ends with the process.

    Raises:
        KilledWorker: a part ended one worker after the other.
        CancelledError: the scheduler is gone, or there was no worker for WORKERS_WITHIN_S.
    """
    ended: Future[T] = Future()

    def fail(error: BaseException) -> None:
        with suppress(InvalidStateError):
            ended.set_exception(error)

    def run() -> None:
        try:
            with parallel_config(backend=_Backend(client, fail)):
                result = work()
        except BaseException as error:
            fail(error)
        else:
            with suppress(InvalidStateError):
                ended.set_result(result)

    threading.Thread(target=run, name="training", daemon=True).start()
    seen = time.monotonic()
    while not wait([ended], timeout=_LOOK_EVERY_S).done:
        if client.status != "running":
            raise CancelledError
        if client.nthreads():
            seen = time.monotonic()
        elif time.monotonic() - seen > WORKERS_WITHIN_S:
            raise CancelledError
    return ended.result()


class _Backend(DaskDistributedBackend):  # type: ignore[misc]
    """joblib's own, which tells nobody of a part that Dask gave up."""

    def __init__(self, client: Any, fail: Callable[[BaseException], None]) -> None:
        super().__init__(client=client)
        self._fail = fail

    def submit(self, func: Any, callback: Any = None) -> Any:
        part = super().submit(func, callback)
        part.add_done_callback(self._look)
        return part

    def _look(self, part: Future[Any]) -> None:
        error = part.exception()
        if error is not None:
            self._fail(error)


# --- the cluster -----------------------------------------------------------------------


@contextmanager
def _connected(scheduler: str | None) -> Iterator[Any]:
    if scheduler is None:
        with (
            # One thread each: numerical libraries count threads for a whole process.
            _dask.LocalCluster(threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster,
            _dask.Client(cluster, set_as_default=False) as client,
        ):
            yield client
        return
    _require_answer(scheduler)
    try:
        client = _dask.Client(scheduler, timeout=CONNECTED_WITHIN_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise _away(scheduler, f"does not answer ({str(error) or type(error).__name__})") from error
    try:
        yield client
    finally:
        client.close(timeout=5)


def _require_answer(scheduler: str) -> None:
    """Asked before Dask's client is, which tells of one that is not there in many words and late."""
    url = urlsplit(scheduler)
    try:
        if url.scheme not in ("tcp", "tls") or url.hostname is None or url.port is None:
            raise ValueError
    except ValueError as error:
        raise MachineUnready(
            f"COALMINE_DASK_SCHEDULER is {scheduler}, which is no address of a Dask scheduler: write it as "
            "tcp://HOST:PORT, or tls://HOST:PORT"
        ) from error
    try:
        socket.create_connection((url.hostname, url.port), CONNECTED_WITHIN_S).close()
    except OSError as error:
        raise _away(scheduler, f"does not answer ({error})") from error


def _await_workers(client: Any, where: str) -> None:
    try:
        client.wait_for_workers(1, timeout=WORKERS_WITHIN_S)
    except TimeoutError as error:
        raise _away(where, f"has no worker, and got none within {WORKERS_WITHIN_S:g} s") from error


def _require_same_libraries(client: Any, where: str) -> None:
    found = client.get_versions(packages=list(LIBRARIES))
    here = _versions(found["client"])
    for address, said in sorted(found["workers"].items()):
        there = _versions(said)
        others = [f"{name} {there[name]} ({here[name]} here)" for name in here if there[name] != here[name]]
        if others:
            raise MachineUnready(
                f"The worker {address} of {where} has {', '.join(others)}. Models would differ by it: start "
                "the workers with the libraries of this machine, or all of them from one image"
            )


def _versions(said: Mapping[str, Any]) -> dict[str, str]:
    packages = said["packages"]
    return {name: packages.get(name) or "none" for name in ("python", *LIBRARIES)}


@contextmanager
def _turn(client: Any, where: str, tell: Tell) -> Iterator[None]:
    """The workers for this training alone; one that is killed loses them within half a minute."""
    turn = _dask.Semaphore(max_leases=1, name=_TURN, scheduler_rpc=client.scheduler, loop=client.loop)
    while not turn.acquire(timeout=_SAID_EVERY_S):
        tell(f"Another training has the workers of {where}: this one waits.")
    try:
        yield
    finally:
        if client.status == "running":
            with suppress(*_LOST):
                turn.release()


def _away(where: str, what: str) -> Unavailable:
    return Unavailable(
        f"The Dask cluster at {where} {what}. Nothing was written; run again when it is there. Its address "
        "is the environment variable COALMINE_DASK_SCHEDULER; without one, this machine's cores are used"
    )


# --- the code --------------------------------------------------------------------------


class Code(distributed.WorkerPlugin):
    """The repository's `pipelines/` on every worker, also on those that come later, ahead of any other."""

    name = _CODE

    def __init__(self, package: str, files: Mapping[str, bytes]) -> None:
        """files: path below the package to content."""
        self._package = package
        self._files = files

    def setup(self, worker: Any) -> None:
        _require_one_thread(worker)
        top = self._top(worker)
        shutil.rmtree(top, ignore_errors=True)
        for path, content in self._files.items():
            file = top / self._package / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        sys.path.insert(0, str(top))
        self._forget()

    def teardown(self, worker: Any) -> None:
        top = self._top(worker)
        sys.path[:] = [entry for entry in sys.path if entry != str(top)]
        shutil.rmtree(top, ignore_errors=True)
        self._forget()

    def _forget(self) -> None:
        """What is imported already is another commit's."""
        for name in [name for name in sys.modules if name.partition(".")[0] == self._package]:
            del sys.modules[name]
        importlib.invalidate_caches()

    @staticmethod
    def _top(worker: Any) -> Path:
        return Path(worker.local_directory) / _CODE


def _require_one_thread(worker: Any) -> None:
    """Sums in another order end in other digits."""
    if worker.state.nthreads != 1:
        raise MachineUnready(
            f"The Dask worker {worker.address} has {worker.state.nthreads} threads, and numerical libraries "
            "count theirs for a whole process: start it with --nthreads 1, and more workers instead"
        )
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise MachineUnready(
            f"The Dask worker {worker.address} lets numerical libraries start threads, and a model would "
            "depend on how many: start it with OMP_NUM_THREADS=1, or with a nanny, which sets that"
        )


@contextmanager
def _code_on_workers(client: Any, code: Path) -> Iterator[None]:
    files = {
        path.relative_to(code).as_posix(): path.read_bytes()
        for path in sorted(code.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    client.register_plugin(Code(code.name, files))
    try:
        yield
    finally:
        if client.status == "running":
            with suppress(*_LOST):
                client.unregister_worker_plugin(_CODE)
