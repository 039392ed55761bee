"""SIGKILL of the runner service at random moments, under users, through the real Envoy and real servers.

Six kills here; COALMINE_TEST_KILLS=50 makes it fifty (some four minutes).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from coalmine.journals import journal
from coalmine.journals.runner_lock import FileRunnerLock
from coalmine.slots import Slot
from tests.local.harness import eventually
from tests.scenarios.lending import LOANS
from tests.scenarios.route_watch import RouteWatch, watching_routes
from tests.scenarios.users import asking
from tests.scenarios.workplace import MODEL, Workplace

KILLS = int(os.environ.get("COALMINE_TEST_KILLS", "6"))
LONGEST_LIFE_S = 2.5  # of a runner, from when it began to drive; a rollout here takes five to ten seconds

# Release, and how its rollout ends: each is the other's stable in turn.
RELEASES = (("1.1.0", "Promote"), ("1.2.0", "Reject"), ("1.0.0", "Promote"), ("1.2.0", "Reject"))


@pytest.mark.timeout(90 + 15 * KILLS)
def test_a_runner_killed_at_random_moments_loses_no_rollout_and_moves_no_weight_twice(
    serving: Workplace,
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"the moments are drawn with seed {seed}")
    kills = _Kills(serving, random.Random(seed))
    releases = cycle(RELEASES)
    with (
        asking(serving.url, serving.top / LOANS) as users,
        watching_routes(serving.top / ".coalmine/local/envoy", MODEL) as routes,
    ):
        while kills.done < KILLS:
            version, ending = next(releases)
            _roll_out_under_kills(serving, version, ending, kills, routes)
        kills.end()
    assert {version for version, _ in users.failures} <= {"1.2.0"}


def _roll_out_under_kills(
    work: Workplace, version: str, ending: str, kills: _Kills, routes: RouteWatch
) -> None:
    before, moved = work.head(), len(routes.splits)
    folder = _hand_over(work, version, kills)
    while not journal.has_ended(folder):
        kills.next(folder)
    eventually(lambda: not journal.is_driven(folder), "the runner has left it")

    assert work.subjects(before)[1:] == [f"{ending} {MODEL} {version} in local"], version
    assert work.pushed() == work.head()
    assert work.slots["candidate"] is None
    stable = Slot(work.read_yaml(f"k8s/environments/local/{MODEL}/slots.yaml")["stable"])
    candidate = stable if ending == "Promote" else stable.other
    assert routes.splits[-1] == {stable: 100, stable.other: 0}
    # Every file that Envoy was given moved the weight, and to where the story says, in its order.
    assert routes.weights_since(moved, candidate) == list(_weights_told(folder))
    # And nothing was seen or decided that the record does not hold.
    assert work.run("replay", folder.name).out.startswith("Equal: ")


def _weights_told(folder: Path) -> Iterator[int]:
    shown = 0
    for event in journal.read_events(folder):
        if event.weight_percent != shown:
            shown = event.weight_percent
            yield shown


def _hand_over(work: Workplace, version: str, kills: _Kills) -> Path:
    """A delivery that is killed as soon as the release is in its slot: the rest is the runner's."""
    kills.start()  # else the delivery would begin to drive the rollout itself
    known = set(journal.rollouts(work.top, "local", MODEL))
    delivery = work.start("deliver", MODEL, "--version", version, "--retry")
    eventually(lambda: work.slots["candidate"] == version and work.git("status", "--short") == "", version)
    delivery.kill()
    delivery.communicate()
    (folder,) = set(journal.rollouts(work.top, "local", MODEL)) - known
    return folder


class _Kills:
    """A runner service, killed and started again."""

    def __init__(self, work: Workplace, chance: random.Random) -> None:
        self._work = work
        self._chance = chance
        self._lock = FileRunnerLock(work.top, "local")
        self._runner: subprocess.Popen[str] | None = None
        self.done = 0

    def start(self) -> None:
        if self._runner is None:
            self._runner = self._work.start("runner")
            eventually(self._lock.is_held, "the runner is there")

    def next(self, folder: Path) -> None:
        """Let it live for a while, or until the rollout has ended, and kill it."""
        self.start()
        until = time.monotonic() + self._chance.uniform(0, LONGEST_LIFE_S)
        while time.monotonic() < until:
            time.sleep(0.005)
        if not journal.has_ended(folder) and self.done < KILLS:
            self._kill(signal.SIGKILL)
            self.done += 1

    def end(self) -> None:
        self._kill(signal.SIGTERM)

    def _kill(self, number: int) -> None:
        if self._runner is not None:
            self._runner.send_signal(number)
            _, err = self._runner.communicate(timeout=30)
            assert "Traceback" not in err, err
            self._runner = None
