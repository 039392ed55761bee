from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coalmine.audit.attribution import to_trailer
from coalmine.audit.record import GitRecord
from coalmine.manifest import Manifest, Trigger, dump_manifest, manifest_path
from coalmine.registry.commits import Change, Tag, publish
from coalmine.registry.repository import Repository
from coalmine.registry.tags import release_tag
from coalmine.settings import GitSettings
from coalmine.slots import SlotRelease, Slots, dump_slots, parse_slots, slots_path
from tests.journals.fake_rollouts import STARTED_AT_S, FakeRollout, make_manifest, write_rollout

MODEL, ENVIRONMENT = "flight-delay", "local"
SLOTS = slots_path(ENVIRONMENT, MODEL)

FIRST = FakeRollout(version="1.0.0", stable_version=None, started_at_s=STARTED_AT_S - 7200)
GOOD = FakeRollout()
BAD = FakeRollout(
    version="2.0.0",
    stable_version="1.1.0",
    failure_rates=(0.12, 0.001),
    who="Sam",
    started_at_s=STARTED_AT_S + 7200,
)


@dataclass
class World:
    """A clone with a bare remote, in which releases and rollouts happen, one hour after the other."""

    top: Path
    remote: Path
    monkeypatch: pytest.MonkeyPatch
    now_s: float = STARTED_AT_S - 86_400
    releases: dict[str, SlotRelease] = field(default_factory=dict)

    @property
    def repository(self) -> Repository:
        return Repository.open(self.top)

    def at(self, now_s: float) -> None:
        """Commits made from now on are made at that time."""
        self.now_s = now_s
        date = datetime.fromtimestamp(now_s, UTC).isoformat()
        self.monkeypatch.setenv("GIT_COMMITTER_DATE", date)
        self.monkeypatch.setenv("GIT_AUTHOR_DATE", date)

    def git(self, *arguments: str, top: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=top or self.top, capture_output=True, text=True, check=True
        )
        return done.stdout.rstrip("\n")

    def publish(
        self, subject: str, contents: Mapping[Path, str], trailers: Mapping[str, str], *tags: Tag
    ) -> str:
        for path, text in contents.items():
            (self.top / path).parent.mkdir(parents=True, exist_ok=True)
            (self.top / path).write_text(text, encoding="utf-8")
        change = Change(tuple(contents), subject, trailers=trailers, tags=tags)
        return publish(self.repository, change, "origin", "main")

    def decide(
        self, version: str, decision: str, who: Trigger, made: Manifest | None = None, **more: str
    ) -> str:
        """made: default: the usual manifest. more: trailers."""
        self.at(self.now_s + 3600)
        manifest = made or make_manifest(version)
        model, digests = manifest.model, manifest.dataset_digests
        trailers = {
            "Model": model,
            "Version": version,
            "Dataset": ", ".join(f"{name} {digest}" for name, digest in digests.items()),
            "Decision": decision,
            "Triggered-By": to_trailer(who),
            **more,
        }
        if decision == "keep":
            report = Path("models") / model / "decision.yaml"
            return self.publish(
                f"Keep the champion of {model}", {report: f"kept against {version}\n"}, trailers
            )
        tag = Tag(release_tag(model, version), f"{model} {version}")
        text = dump_manifest(manifest)
        trailers["Digest"] = manifest.digest
        commit = self.publish(f"Release {model} {version}", {manifest_path(model): text}, trailers, tag)
        self.releases[version] = SlotRelease(
            version=version, commit=commit, model_digest=manifest.digest, dataset_digests=digests
        )
        return commit

    def slots(self, environment: str = ENVIRONMENT, model: str = MODEL) -> Slots:
        path = self.top / slots_path(environment, model)
        if not path.exists():
            return Slots(environment=environment, model=model)
        return parse_slots(path.read_text(), str(path))

    def commit_file(self, path: Path, text: str) -> str:
        """As a person does it, with git alone."""
        (self.top / path).write_text(text, encoding="utf-8")
        self.git("commit", "-qm", "by hand", "--", str(path))
        return self.git("rev-parse", "HEAD")

    def put_slots(self, slots: Slots, subject: str, trailers: Mapping[str, str]) -> str:
        return self.publish(
            subject, {slots_path(slots.environment, slots.model): dump_slots(slots)}, trailers
        )

    def start(self, fake: FakeRollout) -> Path:
        """The release in the candidate's slot, and the rollout's folder as its runner left it."""
        self.hand_over(fake)
        return write_rollout(self.top, fake)

    def hand_over(self, fake: FakeRollout, before_s: float = 0) -> None:
        """before_s: how long before its rollout starts."""
        who = fake.about.triggered_by
        if fake.version not in self.releases:
            self.decide(fake.version, "release", who)
        self.at(fake.started_at_s - before_s)
        slots = self.slots(fake.environment, fake.model).with_candidate(self.releases[fake.version])
        trailers = {
            "Model": fake.model,
            "Version": fake.version,
            "Environment": fake.environment,
            "Digest": self.releases[fake.version].model_digest,
            "Decision": "candidate",
            "Rollout": fake.about.id,
            "Triggered-By": to_trailer(who),
        }
        self.put_slots(slots, f"Put {fake.model} {fake.version} into {slots.candidate}", trailers)

    def record(self, folder: Path) -> GitRecord:
        return GitRecord(self.repository, folder, GitSettings())

    def promote(self, fake: FakeRollout) -> Path:
        folder = self.start(fake)
        self.at(fake.started_at_s + 120)
        self.record(folder).promote()
        return folder

    def reject(self, fake: FakeRollout, reason: str) -> Path:
        folder = self.start(fake)
        self.at(fake.started_at_s + 60)
        self.record(folder).reject(reason)
        return folder


def make_world(folder: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """One commit, pushed."""
    config = folder / "gitconfig"
    config.write_text("[user]\nname = Ada\nemail = ada@example.com\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    world = World(folder / "clone", folder / "remote.git", monkeypatch)
    world.at(world.now_s)
    world.top.mkdir()
    world.git("init", "-q", "-b", "main")
    world.git("init", "-q", "--bare", "-b", "main", str(world.remote))
    world.git("remote", "add", "origin", "../remote.git")
    (world.top / ".gitignore").write_text(".coalmine/\n")
    world.git("add", ".gitignore")
    world.git("commit", "-qm", "First commit")
    world.git("push", "-q", "origin", "main")
    return world


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def _served_once(tmp_path_factory: pytest.TempPathFactory) -> World:
    # The time of its commits ends with it: fixtures of several scopes do not end in the order of their start.
    with pytest.MonkeyPatch.context() as monkeypatch:
        world = make_world(tmp_path_factory.mktemp("served"), monkeypatch)
        world.promote(FIRST)
    return world


@pytest.fixture
def serving(_served_once: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world of the test's own in which 1.0.0 serves."""
    return copy_world(_served_once, tmp_path, monkeypatch)


def copy_world(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    shutil.copytree(world.top.parent, folder, dirs_exist_ok=True)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(folder / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    copy = World(folder / "clone", folder / "remote.git", monkeypatch, world.now_s, dict(world.releases))
    copy.at(copy.now_s)
    return copy
