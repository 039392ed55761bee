"""`coalmine up`: flows on a real Prefect server and worker, a real model and proxy, as people run them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from coalmine.journals import journal
from coalmine.operations import platform
from coalmine.operations.status import RolloutStatus, status
from coalmine.operations.workspace import Workspace
from coalmine.scaffold.repository import init
from tests.ports import reserved_port

MODEL = "credit-risk"
WITHIN_S = 180.0
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


@dataclass(frozen=True)
class Office:
    """A repository whose platform is up, and the Prefect API as any program sees it."""

    workspace: Workspace
    api: httpx.Client

    @property
    def top(self) -> Path:
        return self.workspace.top

    def ask(self, deployment: str, **parameters: object) -> str:
        """Start a run of `deployment`; its id."""
        found = self._answer("GET", f"deployments/name/{deployment}")
        started = self._answer(
            "POST", f"deployments/{found['id']}/create_flow_run", json={"parameters": parameters}
        )
        return str(started["id"])

    def state(self, run: str) -> dict[str, Any]:
        state: dict[str, Any] = self._answer("GET", f"flow_runs/{run}")["state"]
        return state

    def ended(self, run: str) -> dict[str, Any]:
        eventually(lambda: self.state(run)["type"] in FINAL, f"run {run} does not end")
        return self.state(run)

    def cancel(self, run: str) -> None:
        state = {"type": "CANCELLING", "name": "Cancelling"}
        self._answer("POST", f"flow_runs/{run}/set_state", json={"state": state})

    def runs(self) -> list[dict[str, Any]]:
        """Those that have started, newest first."""
        wanted = {"sort": "START_TIME_DESC", "flow_runs": {"start_time": {"is_null_": False}}}
        runs: list[dict[str, Any]] = self._answer("POST", "flow_runs/filter", json=wanted)
        return runs

    def artifact(self, run: str, key: str) -> str:
        wanted = {"artifacts": {"flow_run_id": {"any_": [run]}, "key": {"any_": [key]}}}
        return str(self._answer("POST", "artifacts/filter", json=wanted)[0]["data"])

    def _answer(self, method: str, path: str, **request: Any) -> Any:
        answer = self.api.request(method, path, **request)
        assert answer.is_success, answer.text
        return answer.json()

    # --- the repository ----------------------------------------------------------------

    def rollout(self) -> RolloutStatus | None:
        return next(each.rollout for each in status(self.workspace, "local") if each.model == MODEL)

    def weights(self) -> dict[str, int] | None:
        return next(each.weights for each in status(self.workspace, "local") if each.model == MODEL)

    def runner(self) -> int:
        lease = self.top / ".coalmine/rollouts/local" / MODEL / "lease"
        return int(json.loads(lease.read_text())["pid"])

    def processes(self) -> dict[str, int | None]:
        folder = self.top / ".coalmine/local/status"
        return {path.stem: json.loads(path.read_text())["pid"] for path in folder.glob("*.json")}

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.top, check=True, capture_output=True, text=True)
        return done.stdout.strip()


def eventually(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.2)


def alive(top: Path) -> list[str]:
    """The processes of this machine that work for the repository at `top`."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "environ"]):
        environ, words = process.info["environ"] or {}, process.info["cmdline"] or []
        if str(top) in " ".join([*words, environ.get("PREFECT_HOME", "")]):
            found.append(f"{process.info['pid']} {' '.join(words)}"[:200])
    return found


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "GIT_"))]:
        monkeypatch.delenv(name)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Ada Miller")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "ada@example.com")
    top = tmp_path / "office"
    init(top, examples=[MODEL])
    settings = yaml.safe_load((top / "coalmine.yaml").read_text())
    settings["environments"]["local"]["address"] = f"127.0.0.1:{reserved_port()}"
    (top / "coalmine.yaml").write_text(yaml.safe_dump(settings))
    return top


@pytest.fixture
def office(repository: Path) -> Iterator[Office]:
    workspace = Workspace.open(repository)
    try:
        url = platform.up(workspace, "local", print).prefect
        with httpx.Client(base_url=f"{url}/api/", timeout=30) as api:
            yield Office(workspace, api)
    finally:
        platform.down(workspace, "local")
        sys.path.remove(str(repository))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_releases_from_the_first_to_one_that_is_killed_and_cancelled_as_prefect_s_users_see_them(
    office: Office,
) -> None:
    # Up again: nothing is started twice or anew, and every deployment is there.
    before = office.processes()
    platform.up(office.workspace, "local", print)
    assert office.processes() == before
    listed = office.api.post("deployments/filter", json={}).json()
    declared = yaml.safe_load((office.top / "prefect.yaml").read_text())["deployments"]
    assert {each["name"] for each in listed} == {each["name"] for each in declared}

    # A run asked of the API ends with a promoted model, and the record says who asked.
    first = office.ask("retrain-and-deliver/retrain-and-deliver", model=MODEL, data="all", asked_by="Ada")
    assert office.ended(first)["name"] == "Promoted"
    assert office.weights() == {"1.0.0": 100}
    assert "promoted" in office.artifact(first, f"rollout-{MODEL}-local")
    manifest = yaml.safe_load((office.top / f"models/{MODEL}/manifest.yaml").read_text())
    assert manifest["trigger"] == {"kind": "person", "who": "Ada", "proof": "claimed", "run": first}

    # The next release waits in its canary for users who do not come ...
    spec = office.top / f"models/{MODEL}/model.yaml"
    spec.write_text(spec.read_text().replace("C: 0.3", "C: 0.2"))
    office.git("commit", "--quiet", "--all", "--message", "Regularise more")
    office.git("push", "--quiet")
    second = office.ask("retrain-and-deliver/retrain-and-deliver", model=MODEL)
    eventually(lambda: bool(office.weights() and len(office.weights() or {}) == 2), "no canary begins")
    assert "running" in office.artifact(second, f"rollout-{MODEL}-local")

    # ... and meanwhile another delivery does not get in its way.
    another = office.ended(office.ask("deliver/deliver", model=MODEL))
    assert another["type"] == "CANCELLED"
    assert "is running already" in another["message"]

    # Its process is killed: the run has crashed, and another goes on with the rollout.
    killed = office.runner()
    os.kill(killed, signal.SIGKILL)
    assert office.ended(second)["type"] == "CRASHED"
    eventually(
        lambda: (found := office.rollout()) is not None and found.runner_alive and office.runner() != killed,
        "nobody goes on with the rollout",
    )
    assert len(journal.rollouts(office.top, "local", MODEL)) == 2  # the first release's, and this one
    successor = next(each for each in office.runs() if "after-crash" in each["tags"])

    # That one is cancelled: the users are back on stable, and the record is closed.
    office.cancel(successor["id"])
    assert office.ended(successor["id"])["type"] == "CANCELLED"
    assert office.weights() == {"1.0.0": 100}
    assert office.rollout() is None
    assert office.git("log", "-1", "--format=%s") == f"Reject {MODEL} 1.1.0 in local"
    assert office.git("status", "--porcelain", "--untracked-files=no") == ""

    # Down in the middle of a third: nothing of it is left, and up again, its rollout goes on.
    third = office.ask("deliver/deliver", model=MODEL, retry=True)
    eventually(lambda: bool(office.weights() and len(office.weights() or {}) == 2), "no canary begins")
    platform.down(office.workspace, "local")
    assert alive(office.top) == []
    platform.up(office.workspace, "local", print)
    assert office.state(third)["type"] == "CRASHED"
    eventually(lambda: (found := office.rollout()) is not None and found.runner_alive, "nobody goes on")
