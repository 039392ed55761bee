"""One server through one round: started, saturated, then asked at fixed rates."""

from __future__ import annotations

import json
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from benchmarks.serving.contenders import ROOT, Contender, Server
from benchmarks.serving.load import Measured, Plan
from benchmarks.serving.process import Running, cores, free_ports, pinned, running

SATURATING, WAITING = 16, 64  # connections: closed loop; open loop, where they wait for a slow answer


@dataclass(frozen=True)
class Seconds:
    warm_up: float
    saturation: float
    at_rate: float


@dataclass(frozen=True)
class Rates:
    """Requests per second. half: of the server's own saturation; common: what all servers can take."""

    half: float
    common: float | None


@dataclass(frozen=True)
class Load:
    """cpu_us: processor time of the server's processes per request. latencies_s: of every request."""

    measured: Measured
    rate: float | None
    cpu_us: float
    latencies_s: array[float]

    def to_json(self) -> dict[str, object]:
        return {"rate": self.rate, "cpu_us": self.cpu_us, **asdict(self.measured)}


@dataclass(frozen=True)
class Round:
    """One server, once. Memory is the proportional set size, before any request and after all."""

    server: str
    case: str
    ready_s: float
    idle_mib: float
    loaded_mib: float
    saturation: Load
    half: Load
    common: Load | None

    @property
    def loads(self) -> list[Load]:
        return [load for load in (self.saturation, self.half, self.common) if load is not None]

    @property
    def failed(self) -> int:
        """Requests without a correct answer."""
        return sum(load.measured.failed for load in self.loads)

    def to_json(self) -> dict[str, object]:
        plain = ("server", "case", "ready_s", "idle_mib", "loaded_mib")
        return {
            **{name: getattr(self, name) for name in plain},
            "saturation": self.saturation.to_json(),
            "half": self.half.to_json(),
            "common": None if self.common is None else self.common.to_json(),
        }


def measure_round(contender: Contender, rates: Rates, seconds: Seconds) -> Round:
    with started(contender) as server:
        idle_mib = server.memory_mib()
        return Round(
            contender.name,
            contender.case,
            server.ready_s,
            idle_mib,
            saturation=_load(contender, server, seconds),
            half=_load(contender, server, seconds, rates.half),
            common=None if rates.common is None else _load(contender, server, seconds, rates.common),
            loaded_mib=server.memory_mib(),
        )


def saturation_per_second(contender: Contender, seconds: Seconds) -> float:
    """Found once, before the rounds, to fix the rates. Every answer is compared with scikit-learn's.

    Raises:
        RuntimeError: an answer that is not the model's.
    """
    with started(contender) as server:
        measured = _load(contender, server, seconds, check_every=1).measured
    if measured.failed:
        raise RuntimeError(
            f"{contender.name} gave {measured.failed} of {measured.asked} answers that are not the model's "
            f"({contender.case}; statuses {measured.statuses}, {measured.wrong} wrong values)"
        )
    return measured.per_second


def seconds_to_ready(server: Server) -> float:
    with started(server) as running_server:
        return running_server.ready_s


@contextmanager
def started(server: Server) -> Iterator[Running]:
    [port] = free_ports(1)
    log = server.folder / "server.log"
    with running(
        server.command(port), server.ready_path, port, server.environment, server.folder, log
    ) as found:
        yield found


def _load(
    contender: Contender,
    server: Running,
    seconds: Seconds,
    rate: float | None = None,
    check_every: int = 50,
) -> Load:
    latencies = contender.folder / "latencies.f64"
    plan = Plan(
        port=server.port,
        requests=str(contender.requests),
        connections=SATURATING if rate is None else WAITING,
        warm_up_s=seconds.warm_up,
        measured_s=seconds.saturation if rate is None else seconds.at_rate,
        rate=rate,
        check_every=check_every,
        latencies=str(latencies),
    )
    before_s = server.cpu_s()
    measured = _ask(plan)
    used_s = server.cpu_s() - before_s
    values = array("d")
    values.frombytes(latencies.read_bytes())
    return Load(measured, rate, used_s / max(measured.all_answers, 1) * 1e6, values)


def _ask(plan: Plan) -> Measured:
    """In a process of its own, on its own core."""
    with pinned(cores()[0]):
        ran = subprocess.run(
            [sys.executable, "-m", "benchmarks.serving.load"],
            input=json.dumps(asdict(plan)),
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
    if ran.returncode != 0:
        raise RuntimeError(f"the load generator failed: {ran.stderr[-3000:]}")
    return Measured(**json.loads(ran.stdout))
