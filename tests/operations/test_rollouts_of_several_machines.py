"""What a person and a runner do on one machine about a rollout that another machine began, on a cluster."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from coalmine.cluster.lease import Terms
from coalmine.errors import NotFound, RepositoryUnready
from coalmine.journals.journal import begin, keep_plan
from coalmine.manifest import Trigger, dump_manifest, manifest_path
from coalmine.operations import cluster_environment
from coalmine.operations.cluster_environment import ClusterEnvironment
from coalmine.operations.deliver import resume
from coalmine.operations.driving import Act
from coalmine.operations.runner import _Service
from coalmine.operations.runner_metrics import RunnerMetrics
from coalmine.operations.status import RolloutStatus, status
from coalmine.operations.steer import steer
from coalmine.operations.unfinished import Waiting
from coalmine.operations.workspace import Workspace
from coalmine.registry.commits import Change, Tag, publish
from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import Ask
from coalmine.rollout.runner import Ports
from coalmine.rollout_spec import Rollout
from coalmine.scaffold.repository import init
from coalmine.slots import Slot, SlotPod, SlotRelease, Slots, dump_slots, slots_path
from tests.contracts.journal import carry_out
from tests.journals.fake_rollouts import FakeRollout, make_manifest
from tests.operations.test_cluster_environment import MODEL, PRODUCTION
from tests.simulators.api_server import StateClient, StateServer

ENVIRONMENT = "production"
FAKE = FakeRollout(environment=ENVIRONMENT, model=MODEL)
QUICK = Terms(lasts_s=0.3, renewed_every_s=0.05, look_every_s=0.02)
KIM = Trigger(kind="person", who="Kim <kim@example.org>", proof="claimed")
POD = SlotPod(version="1.1.0", digest="d1", image="i", manifest="m", timeout_s="2", queue="8")


@dataclass
class Two:
    """Two clones on two machines: `first` has handed a release over, and `second` knows nothing of it."""

    server: StateServer
    first: Workspace
    second: Workspace
    clients: dict[Path, StateClient]

    def serving(self, workspace: Workspace) -> ClusterEnvironment:
        return ClusterEnvironment(workspace, ENVIRONMENT)

    @property
    def folder(self) -> Path:
        """Of the rollout, on the first machine."""
        return self.first.top / ".coalmine/rollouts" / ENVIRONMENT / MODEL / FAKE.about.id


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Two:
    init(tmp_path / "first", examples=(MODEL,))
    settings = tmp_path / "first/coalmine.yaml"
    settings.write_text(settings.read_text(encoding="utf-8").rstrip() + PRODUCTION, encoding="utf-8")
    first = Workspace.open(tmp_path / "first")
    git(first.top, "commit", "--quiet", "--all", "--message", "A cluster")
    git(first.top, "push", "--quiet", "origin", "main")
    remote = first.repository.remote_url("origin")
    subprocess.run(["git", "clone", "--quiet", remote, str(tmp_path / "second")], check=True)
    second = Workspace.open(tmp_path / "second")
    server = StateServer()
    made = Two(server, first, second, {each.top: server.client() for each in (first, second)})
    monkeypatch.setattr(ClusterEnvironment, "cluster", property(lambda env: made.clients[env._workspace.top]))
    shared = cluster_environment.ClusterRollouts
    monkeypatch.setattr(cluster_environment, "ClusterRollouts", lambda *about: shared(*about, QUICK))
    hand_over(made)
    return made


def git(top: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=top, check=True)


def hand_over(two: Two) -> None:
    """A release, its place in a slot, and a rollout that whoever looks will find."""
    workspace = two.first
    manifest = make_manifest(FAKE.version).model_copy(update={"model": MODEL})
    path = manifest_path(MODEL)
    (workspace.top / path).write_text(dump_manifest(manifest), encoding="utf-8")
    tag = Tag(f"{MODEL}@v{FAKE.version}", "A release")
    commit = publish(workspace.repository, Change((path,), "Release", tags=(tag,)), "origin", "main")
    stable = SlotRelease(version="1.0.0", commit=commit, model_digest="d0")
    slots = Slots(
        environment=ENVIRONMENT,
        model=MODEL,
        stable=Slot.BLUE,
        releases={Slot.BLUE: stable},
        pods={Slot.BLUE: POD},
    )
    candidate = SlotRelease(version=FAKE.version, commit=commit, model_digest=manifest.digest)
    path = slots_path(ENVIRONMENT, MODEL)
    (workspace.top / path).parent.mkdir(parents=True, exist_ok=True)
    (workspace.top / path).write_text(dump_slots(slots.with_candidate(candidate, POD)), encoding="utf-8")
    publish(workspace.repository, Change((path,), "Candidate"), "origin", "main")
    keep_plan(begin(workspace.top, FAKE.about), Plan.of(Rollout()))
    two.serving(workspace).rollouts.publish(two.folder)


class Reached(Exception):
    """The rollout would be driven now."""


def reach(ports: Ports, _: Act) -> NoReturn:
    with ports.journal.lease():
        pass
    raise Reached


def under_way(workspace: Workspace) -> RolloutStatus | None:
    (found,) = [each for each in status(workspace, ENVIRONMENT) if each.model == MODEL]
    return found.rollout


def test_status_shows_it_on_a_machine_whose_git_lacks_it_and_whether_it_is_driven(two: Two) -> None:
    with (journal := two.serving(two.first).rollouts.journal(two.folder)).lease():
        carry_out(journal, 0)
        shown = under_way(two.second)
        assert shown is not None
        assert (shown.rollout, shown.candidate, shown.runner_alive) == (FAKE.about.id, FAKE.version, True)
        assert shown.newest is not None
        assert shown.newest.sentence == "Sentence 0."
    shown = under_way(two.second)
    assert shown is not None
    assert not shown.runner_alive


def test_a_runner_finds_it_when_it_is_alone_and_catches_up_with_git_to_drive_it(two: Two) -> None:
    waiting = Waiting(two.second, two.serving(two.second))
    journal = two.serving(two.first).rollouts.journal(two.folder)
    with journal.lease():
        carry_out(journal, 0)
        assert list(waiting.models(frozenset())) == []
    assert list(waiting.models(frozenset())) == [MODEL]
    assert list(waiting.models(frozenset({MODEL}))) == []
    assert two.second.repository.head() != two.first.repository.head()
    with pytest.raises(Reached):
        resume(two.second, two.serving(two.second), MODEL, KIM, print, drive=reach)
    assert two.second.repository.head() == two.first.repository.head()


def test_where_git_is_out_of_reach_and_lacks_it_whoever_would_drive_it_is_told_so(two: Two) -> None:
    git(two.second.top, "remote", "set-url", "origin", "/nowhere")
    with pytest.raises(RepositoryUnready, match=f"{FAKE.about.id} of {MODEL} is under way .* git pull"):
        resume(two.second, two.serving(two.second), MODEL, KIM, print, drive=reach)


def test_where_git_is_out_of_reach_and_has_it_it_is_driven_all_the_same(two: Two) -> None:
    git(two.second.top, "pull", "--quiet")
    git(two.second.top, "remote", "set-url", "origin", "/nowhere")
    with pytest.raises(Reached):
        resume(two.second, two.serving(two.second), MODEL, KIM, print, drive=reach)


def test_what_a_person_asks_reaches_the_runner_on_the_other_machine(two: Two) -> None:
    with (journal := two.serving(two.first).rollouts.journal(two.folder)).lease():
        carry_out(journal, 0)
        told: list[str] = []
        assert steer(two.second, MODEL, ENVIRONMENT, Ask.ABORT, KIM, told.append) is None
        assert told == [f"Asked the rollout of {MODEL} to abort."]
        assert [(each.ask, each.who) for each in journal.take_requests()] == [(Ask.ABORT, KIM.who)]


def test_with_the_cluster_out_of_reach_status_says_so_and_a_runner_looks_again(two: Two) -> None:
    waiting = Waiting(two.second, two.serving(two.second))
    assert list(waiting.models(frozenset())) == [MODEL]
    two.clients[two.second.top].down = True
    assert under_way(two.second) is None
    assert list(waiting.models(frozenset())) == []
    service = _Service(two.second, two.serving(two.second), KIM, RunnerMetrics(ENVIRONMENT), print)
    service.failed(MODEL, NotFound("it cannot be driven"), 1.0)
    two.clients[two.second.top].down = False
    assert list(waiting.models(frozenset())) == [MODEL]
