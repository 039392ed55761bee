"""What people do to a rollout that another process runs, and to one whose process is gone.

No users send requests, so no rollout ends by itself: its first stage holds, for want of evidence.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from coalmine.cli import ROLLED_BACK
from coalmine.errors import Conflict, InputError
from tests.local.harness import eventually
from tests.scenarios.lending import LOANS
from tests.scenarios.users import asking
from tests.scenarios.workplace import MODEL, Ran, Workplace, interrupt


def begin(work: Workplace, *options: str) -> subprocess.Popen[str]:
    """A delivery in another process, in its first stage."""
    before = len(rollouts(work))
    process = work.start("deliver", MODEL, *options)
    await_first_stage(work, before + 1)
    return process


def await_first_stage(work: Workplace, number: int) -> None:
    """Of the rollout of that number in this repository."""
    eventually(lambda: len(rollouts(work)) == number and "Stage 1" in told(work), "the first stage began")


def rollouts(work: Workplace) -> list[Path]:
    """The journals, oldest first."""
    return sorted((work.top / f".coalmine/rollouts/local/{MODEL}").glob("*/events.jsonl"))


def told(work: Workplace) -> str:
    """The events of the newest rollout."""
    return rollouts(work)[-1].read_text(encoding="utf-8")


def ended(work: Workplace, process: subprocess.Popen[str], status: int) -> Ran:
    ran = work.ended(process)
    assert ran.status == status, ran
    return ran


def test_a_person_pauses_resumes_aborts_and_promotes_and_a_newer_release_supersedes(
    serving: Workplace,
) -> None:
    work = serving
    older = begin(work, "--version", "1.2.0")
    again = work.run("deliver", MODEL, "--version", "1.2.0", status=Conflict.exit_code)
    assert f"A rollout of {MODEL} in local is running already" in again.err

    newer = work.start("deliver", MODEL, "--version", "1.1.0")
    assert "superseded by a newer release" in ended(work, older, ROLLED_BACK).out
    await_first_stage(work, 3)
    for verb, event in (("pause", "Paused by Kim"), ("resume", "Resumed by Kim"), ("promote", "Promoted.")):
        work.run(verb, MODEL)
        eventually(lambda event=event: event in told(work), event)
    ended(work, newer, 0)
    assert work.slots == {"stable": "1.1.0", "candidate": None}
    assert "Promoted early by Kim <kim@example.org>" in work.git("log", "-1", "--format=%B")

    aborted = begin(work, "--version", "1.2.0", "--retry")
    work.run("abort", MODEL)
    assert "aborted by Kim <kim@example.org>" in ended(work, aborted, ROLLED_BACK).out
    assert work.weights() == {"1.1.0": 100}
    nothing = work.run("abort", MODEL, status=InputError.exit_code)
    assert f"No rollout of {MODEL} is under way" in nothing.err
    assert work.pushed() == work.head()


def test_a_rollout_whose_runner_was_killed_is_seen_and_brought_back(serving: Workplace) -> None:
    with asking(serving.url, serving.top / LOANS) as users:
        killed = begin(serving, "--version", "1.1.0")
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        assert "its runner is gone" in serving.run("status").out

        # And whoever brings it back is killed too, with the closing commit here and not on the remote.
        serving.run_killed("before coalmine.registry.upstream:Upstream.push", "abort", MODEL)
        assert serving.weights() == {"1.0.0": 100}
        assert serving.pushed() != serving.head()
        serving.run("abort", MODEL, status=ROLLED_BACK)
    assert users.failures == {}
    assert serving.pushed() == serving.head()
    assert serving.slots == {"stable": "1.0.0", "candidate": None}
    assert serving.git("log", "-1", "--format=%s") == f"Reject {MODEL} 1.1.0 in local"
    (status,) = serving.run("status", "--json").json
    assert status["rollout"] is None


@pytest.mark.parametrize("stop", [interrupt, subprocess.Popen.terminate], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_rollout_brings_its_users_back_and_is_recorded(serving: Workplace, stop) -> None:  # type: ignore[no-untyped-def]
    before = serving.head()
    with asking(serving.url, serving.top / LOANS) as users:
        process = begin(serving, "--version", "1.1.0")
        stop(process)
        ran = serving.ended(process)
        assert ran.status not in (0, None)
        assert "bringing the users back" in ran.out
        assert serving.weights() == {"1.0.0": 100}
        users.await_requests(20)
    assert users.failures == {}
    assert serving.slots == {"stable": "1.0.0", "candidate": None}
    assert serving.subjects(before)[-1] == f"Reject {MODEL} 1.1.0 in local"
    assert "(interrupt)" in serving.git("log", "-1", "--format=%B")
    assert serving.pushed() == serving.head()
    (status,) = serving.run("status", "--json").json
    assert status["rollout"] is None
