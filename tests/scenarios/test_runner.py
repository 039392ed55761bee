"""The runner service: what is handed to it, how it is followed, and what happens when it goes."""

from __future__ import annotations

import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from coalmine.cli import ROLLED_BACK
from coalmine.errors import Conflict
from coalmine.journals.journal import FileJournal
from coalmine.journals.runner_lock import FileRunnerLock
from coalmine.rollout.ports import Ask, Request
from tests.local.harness import eventually
from tests.ports import reserved_port
from tests.scenarios.lending import LOANS
from tests.scenarios.test_steering import await_first_stage, begin, ended, rollouts, told
from tests.scenarios.users import asking
from tests.scenarios.workplace import MODEL, Workplace, interrupt


@contextmanager
def running(work: Workplace, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A runner service, ended by SIGTERM when the block ends, unless the block ended it."""
    process = work.start("runner", *options)
    try:
        eventually(FileRunnerLock(work.top, "local").is_held, "the runner is there")
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            work.ended(process)


def test_a_delivery_is_the_same_whether_it_drives_the_rollout_or_follows_the_service(
    serving: Workplace,
) -> None:
    with asking(serving.url, serving.top / LOANS) as users, running(serving) as runner:
        followed = serving.run("deliver", MODEL, "--version", "1.1.0")
        refused = serving.run("deliver", MODEL, "--version", "1.2.0", status=ROLLED_BACK)
        runner.terminate()
        by_service = serving.ended(runner).out
        alone = serving.run("deliver", MODEL, "--version", "1.0.0")
    assert _plot(followed.out) == _plot(alone.out)
    assert "1.2.0 was rolled back" in refused.out
    assert by_service.startswith("Driving the rollouts of local.\n")
    assert f"{MODEL} 1.1.0 was promoted" in by_service
    assert by_service.endswith("Ended. To be gone on with: nothing.\n")
    assert {version for version, _ in users.failures} == {"1.2.0"}
    assert serving.pushed() == serving.head()


def test_the_service_obeys_and_ends_without_ending_the_rollout_and_the_next_one_goes_on(
    serving: Workplace,
) -> None:
    with running(serving) as runner:
        again = serving.run("runner", status=Conflict.exit_code)
        assert again.err.count("\n") == 1
        assert "The runner service of local is already running: process " in again.err
        delivery = _paused_in_the_first_stage(serving)
        delivery.terminate()  # whoever asked may go: the rollout is the service's
        ran = serving.ended(delivery)
        assert ran.status == 128 + signal.SIGTERM
        assert "Ended: the runner goes on with the rollout." in ran.out
        runner.send_signal(signal.SIGTERM)
        assert serving.ended(runner).out.endswith(f"To be gone on with: {MODEL}.\n")
    assert serving.weights() == {"1.0.0": 70, "1.1.0": 30}
    assert "its runner is gone" in serving.run("status").out
    with asking(serving.url, serving.top / LOANS) as users:
        with running(serving):
            eventually(lambda: serving.run("status", "--json").json[0]["rollout"]["runner_alive"], "driven")
            serving.run("resume", MODEL)
            eventually(lambda: "Promoted." in told(serving), "the rollout ends")
        assert serving.weights() == {"1.1.0": 100}
    assert users.failures == {}
    assert "Paused by Kim" in told(serving)
    assert len(rollouts(serving)) == 2  # the first release's, and this one


def test_a_delivery_drives_the_rollout_itself_when_the_service_that_it_follows_is_killed(
    serving: Workplace,
) -> None:
    with running(serving) as runner:
        delivery = begin(serving, "--version", "1.1.0")
        runner.kill()
        runner.communicate()
        serving.run("promote", MODEL)
        ran = ended(serving, delivery, 0)
    assert "Promoted early by Kim" in serving.git("log", "-1", "--format=%B")
    assert "was promoted" in ran.out


def test_an_interrupted_delivery_has_the_service_bring_the_users_back(serving: Workplace) -> None:
    with running(serving):
        delivery = begin(serving, "--version", "1.1.0")
        interrupt(delivery)
        ran = serving.ended(delivery)
        assert ran.status not in (0, None)
        assert "bringing the users back" in ran.out
        assert serving.weights() == {"1.0.0": 100}
    assert "(interrupt)" in serving.git("log", "-1", "--format=%B")
    assert serving.pushed() == serving.head()


def test_what_stops_the_service_from_driving_a_rollout_reaches_whoever_follows_it(
    serving: Workplace,
) -> None:
    with running(serving) as runner:
        delivery = begin(serving, "--version", "1.1.0")
        slots = f"k8s/environments/local/{MODEL}/slots.yaml"
        taken_away = serving.read_yaml(slots)
        serving.edit(slots, "candidate: green", "candidate: null")
        assert taken_away["candidate"] == "green"
        serving.commit("Somebody takes the candidate out")
        promote = Request(Ask.PROMOTE, "Kim", time.time())  # the command would say that there is no rollout
        FileJournal(rollouts(serving)[-1].parent).ask(promote)
        ran = ended(serving, delivery, Conflict.exit_code)
        assert "holds no candidate" in ran.err
        assert ran.err.count("\n") == 1
        runner.terminate()
        assert f"The rollout of {MODEL} cannot be driven, again in 1 s: " in serving.ended(runner).out


def test_the_service_tells_its_numbers_and_that_it_is_well(serving: Workplace) -> None:
    port = reserved_port()
    with running(serving, "--metrics-port", str(port)):
        delivery = begin(serving, "--version", "1.1.0")
        assert _get(port, "/healthz") == "ok\n"
        eventually(
            lambda: 'coalmine_runner_rollouts{phase="progressing"} 1.0' in _get(port, "/metrics"), "it"
        )
        serving.run("abort", MODEL)
        ended(serving, delivery, ROLLED_BACK)
        none_under_way = 'coalmine_runner_rollouts{phase="progressing"} 0.0'
        eventually(lambda: none_under_way in _get(port, "/metrics"), "none is under way")
        numbers = dict(line.rsplit(" ", 1) for line in _get(port, "/metrics").splitlines() if line[0] != "#")
        assert float(numbers["coalmine_runner_tick_seconds_count"]) > 3
        assert float(numbers["coalmine_runner_last_success_timestamp_seconds"]) > 0
        taken = serving.run("runner", "--metrics-port", str(port), status=Conflict.exit_code)
        assert "is already running" in taken.err
    with running(serving, "--metrics-port", str(port)):
        other = serving.run("runner", "-e", "nowhere", status=2)
        assert "no environment `nowhere`" in other.err


def _paused_in_the_first_stage(work: Workplace) -> subprocess.Popen[str]:
    before = len(rollouts(work))
    process = work.start("deliver", MODEL, "--version", "1.1.0")
    await_first_stage(work, before + 1)
    work.run("pause", MODEL)
    eventually(lambda: "Paused by Kim" in told(work), "paused")
    return process


def _plot(out: str) -> list[str]:
    """What a delivery told, but for times, versions, numbers, and whether the end or the last event was
    quicker to be printed."""
    lines = [line.split("  ")[-1] for line in out.splitlines() if not line.startswith("Report:")]
    return sorted(
        re.sub(r"blue|green", "SLOT", re.sub(r"[\d.,]+", "N", line.split(" (")[0])) for line in lines
    )


def _get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        text: str = answer.read().decode()
    return text
