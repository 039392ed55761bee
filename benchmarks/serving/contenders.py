"""A server of the comparison, and ours among them: how each is started and asked.

The other projects' servers are set up in `peers`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving import bare, cases
from benchmarks.serving.cases import Case
from benchmarks.serving.load import Requests
from benchmarks.serving.process import free_ports, running
from coalmine.manifest import parse_manifest

ROOT = Path(__file__).parents[2]

OURS, SILENT, LAYER = "coalmine", "coalmine, no telemetry", "its HTTP layer, bare"
BARE, GRANIAN = "bare stack", "bare, Granian"
# Two threads of one library on one core only take turns.
_ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
_HERE = {"PYTHONPATH": str(ROOT)}

Command = Callable[[int], list[str]]  # from the port to listen on to the words


@dataclass(frozen=True, kw_only=True)
class Server:
    """folder: where it runs and writes."""

    name: str
    command: Command
    ready_path: str
    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {**_ONE_THREAD, **self.env}


@dataclass(frozen=True, kw_only=True)
class Contender(Server):
    """A server for one case. requests: a file of `Requests`.

    settings: how it is run, in words. note: what its figures must be read with.
    """

    case: str
    requests: Path
    settings: str
    note: str = ""


def own_server(release: Path, folder: Path) -> Server:
    """Our server for any release."""
    manifest = parse_manifest((release / "manifest.yaml").read_text(encoding="utf-8"), str(release))
    return Server(
        name=f"{OURS}, {manifest.model} {manifest.version}",
        command=_serve("coalmine.serving", release),
        ready_path=f"/v2/models/{manifest.model}/ready",
        folder=folder,
    )


def own(case: Case, release: Path, folder: Path) -> list[Contender]:
    """The bare stacks and our own server, with and without telemetry, the ones that are judged first.
    `folder` is theirs.

    Raises:
        RuntimeError: the bare stack does not write what our server writes.
    """
    path, ready = f"/v2/models/{case.name}/infer", f"/v2/models/{case.name}/ready"
    asked, unchecked, answer = folder / "requests.json", folder / "unchecked.json", folder / "answer.json"
    bodies = cases.requests(case, {})
    Requests(path, bodies, case.expected, "probability").save(asked)
    Requests(path, bodies, None, None).save(unchecked)

    def contender(
        name: str, command: Command, requests: Path, settings: str, env: Mapping[str, str] = _HERE
    ) -> Contender:
        return Contender(
            name=name,
            case=case.name,
            command=command,
            ready_path=ready,
            requests=requests,
            folder=folder,
            env=env,
            settings=settings,
        )

    ours = contender(
        OURS, _serve("coalmine.serving", release), asked, "one process, its defaults; telemetry on", {}
    )
    stack = contender(
        BARE,
        _answer("uvicorn", answer),
        unchecked,
        "an ASGI function on uvicorn, httptools and uvloop; the bytes of one recorded answer",
    )
    recorded = _one_answer(ours, path, bodies[0])
    recorded.save(answer)
    if _one_answer(stack, path, bodies[0]) != recorded:
        raise RuntimeError("the bare stack does not write what the server writes: they cannot be compared")
    return [
        stack,
        ours,
        contender(LAYER, _answer("own", answer), unchecked, "coalmine.serving.connection; the same bytes"),
        contender(
            SILENT,
            _serve("benchmarks.serving.silent", release),
            asked,
            "as coalmine, but its telemetry counts and observes nothing",
        ),
        contender(GRANIAN, _answer("granian", answer), unchecked, "RSGI on uvloop; the same bytes"),
    ]


def _serve(module: str, release: Path) -> Command:
    # Nobody routes to it: it need not linger when it is ended.
    how = ["--slot", "blue", "--drain-s", "0"]
    words = [sys.executable, "-m", module, "--release", str(release), *how, "--port"]
    return lambda port: [*words, str(port)]


def _answer(stack: str, answer: Path) -> Command:
    words = [sys.executable, "-m", "benchmarks.serving.bare", stack, str(answer)]
    return lambda port: [*words, str(port)]


def _one_answer(server: Server, path: str, body: str) -> bare.Recorded:
    [port] = free_ports(1)
    with running(
        server.command(port),
        server.ready_path,
        port,
        server.environment,
        server.folder,
        server.folder / "record.log",
    ):
        return bare.record(port, path, body)
