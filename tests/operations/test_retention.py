"""Garbage is collected and nothing else is: over a real Git remote and a real DVC remote in a folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coalmine.cli import app
from coalmine.errors import AlreadyRunning, NotFound, PushRejected
from coalmine.manifest import Trigger
from coalmine.operations.leftovers import Kind
from coalmine.operations.retention import Collected, collect
from coalmine.operations.workspace import Workspace
from coalmine.registry.object_stores import ObjectStore
from coalmine.registry.scratch import scratch_clone
from tests.journals.fake_rollouts import STARTED_AT_S, FakeRollout, write_rollout
from tests.operations.conftest import as_kim

KIM = Trigger(kind="person", who="Kim", proof="claimed")
FOLDER = Path("data/flights/partitions")
POINTER = "data/flights/partitions.dvc"
SETTINGS = """\
git: {remote: origin, branch: main}
retention: {dvc_remote_is_ours: true}
environments:
  local: {reconciler: processes, router: envoy, telemetry: scrape}
"""
DVC_CONFIG = """\
[core]
    analytics = false
    check_update = false
    remote = store
['remote "store"']
    url = ../../store
"""
NEW_S, OLD_S = 60.0, 40 * 86400.0


@dataclass(frozen=True)
class Place:
    """A clone with one dataset, its Git remote and its DVC remote."""

    folder: Path

    @property
    def top(self) -> Path:
        return self.folder / "work"

    @property
    def workspace(self) -> Workspace:
        return Workspace.open(self.top)

    def git(self, *arguments: str, top: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=top or self.top, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        (self.top / path).parent.mkdir(parents=True, exist_ok=True)
        (self.top / path).write_text(text)

    def take_in(self, *partitions: str, push: bool = True) -> set[str]:
        """Each file holds its name; `partitions.dvc` says so, in no commit yet. The objects that are new."""
        dvc, folder = self.workspace.dvc, self.top / FOLDER
        before = dvc.listing(FOLDER) if (self.top / POINTER).exists() else {}
        for name in partitions:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).unlink(missing_ok=True)  # it may be a link into DVC's cache
            (folder / name).write_text(name)
        digest = dvc.add_partitions(FOLDER, partitions)
        if push:
            dvc.push([Path(POINTER)])
        return {digest, *(md5 for name, md5 in dvc.listing(FOLDER).items() if name not in before)}

    def give_up(self) -> None:
        """What is in no commit, as if it had never been."""
        self.git("checkout", "-q", "--", "data")

    def commit(self, *paths: str, message: str = "by hand") -> str:
        self.git("add", "--", *paths)
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def abandoned(self, name: str) -> set[str]:
        """The objects of a try that nobody wrote down."""
        objects = self.take_in(name)
        self.give_up()
        return objects

    @property
    def store(self) -> Path:
        return self.folder / "store/files/md5"

    @property
    def cache(self) -> Path:
        return self.top / ".dvc/cache/files/md5"

    def remote_objects(self) -> set[str]:
        return _objects(self.store)

    def cached(self) -> set[str]:
        return _objects(self.cache)

    def age(self, seconds: float, *digests: str) -> None:
        """All objects, or those of `digests`, were written so long ago."""
        then = time.time() - seconds
        for root in (self.store, self.cache):
            for md5 in digests or _objects(root):
                if (root / md5[:2] / md5[2:]).exists():
                    os.utime(root / md5[:2] / md5[2:], (then, then))

    def collect(self, *, delete: bool = True) -> Collected:
        return collect(self.workspace, KIM, lambda _: None, delete=delete)


def _objects(root: Path) -> set[str]:
    return {path.parent.name + path.name for path in root.glob("*/*")}


@pytest.fixture(scope="module")
def _begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        place = _at_home(folder, patch)
        as_kim(patch)
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(folder / "remote.git")], check=True)
        subprocess.run(["git", "init", "-q", "-b", "main", str(place.top)], check=True)
        place.git("remote", "add", "origin", "../remote.git")
        place.write("coalmine.yaml", SETTINGS)
        place.write(".dvc/config", DVC_CONFIG)
        place.write(".dvc/.gitignore", "/tmp\n/cache\n")
        place.write(".gitignore", "/.coalmine/\n")
        place.take_in("2013-01")
        place.commit(".", message="First commit")
        place.git("push", "-q", "-u", "origin", "main")
    return folder


@pytest.fixture
def place(_begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    shutil.copytree(_begun, tmp_path / "place", symlinks=True)
    return _at_home(tmp_path / "place", monkeypatch)


def _at_home(folder: Path, patch: pytest.MonkeyPatch) -> Place:
    patch.setenv("DVC_SITE_CACHE_DIR", str(folder / "site-cache"))
    patch.syspath_prepend(str(folder))  # opening a workspace adds its top; this takes it off again
    return Place(folder)


# --- what goes -------------------------------------------------------------------------


def test_what_nobody_wrote_down_goes_and_all_that_a_commit_names_stays(place: Place) -> None:
    place.take_in("2013-02")
    place.commit(POINTER)
    place.git("revert", "--no-edit", "HEAD")  # named by the past alone
    place.take_in("2013-03")
    place.commit(POINTER)
    place.git("push", "-q")
    named = place.remote_objects()
    abandoned = place.abandoned("mistake")
    place.age(OLD_S)
    found = place.collect()
    assert {each.md5 for each in found.remote.unneeded} == abandoned
    assert place.remote_objects() == place.cached() == named
    assert found.remote.needed == len(named)
    assert place.collect().is_empty


def test_nothing_goes_before_it_is_asked_for(place: Place) -> None:
    abandoned = place.abandoned("mistake")
    place.age(OLD_S)
    there, head = place.remote_objects(), place.git("rev-parse", "HEAD")
    found = place.collect(delete=False)
    assert not found.deleted
    assert {each.md5 for each in found.remote.unneeded} == abandoned
    assert {each.size_bytes for each in found.remote.unneeded if each.md5[-4:] != ".dir"} == {len("mistake")}
    assert (place.remote_objects(), place.git("rev-parse", "HEAD")) == (there, head)


def test_what_is_new_stays_where_training_runs_and_commits_wait(place: Place) -> None:
    abandoned = place.abandoned("mistake")
    place.age(NEW_S)
    found = place.collect()
    assert found.is_empty
    assert found.remote.young == 2
    assert abandoned <= place.remote_objects()


def test_an_older_file_of_a_newer_folder_stays(place: Place) -> None:
    # DVC uploads it no second time, and takes the listing's word that it is there.
    abandoned = place.abandoned("mistake")
    place.age(OLD_S)
    (listing,) = (md5 for md5 in abandoned if md5.endswith(".dir"))
    place.age(NEW_S, listing)
    place.collect()
    assert abandoned <= place.remote_objects()


def test_a_try_that_is_made_again_later_reaches_the_remote(place: Place) -> None:
    abandoned = place.abandoned("mistake")
    place.age(OLD_S)
    place.collect()
    assert not abandoned & place.remote_objects()
    assert place.take_in("mistake") <= place.remote_objects()


# --- who may name it -------------------------------------------------------------------


def _on_another_branch(place: Place) -> None:
    """Of another person's clone, whose branch this one has never heard of."""
    place.git("switch", "-q", "-c", "theirs")
    place.commit(POINTER)
    place.git("push", "-q", "origin", "theirs")
    _forget(place, "theirs")


def _in_a_pull_request(place: Place) -> None:
    place.git("switch", "-q", "-c", "theirs")
    place.commit(POINTER)
    place.git("push", "-q", "origin", "theirs:refs/pull/7/head")
    _forget(place, "theirs")


def _by_a_tag_alone(place: Place) -> None:
    place.git("switch", "-q", "-c", "theirs")
    place.commit(POINTER)
    place.git("tag", "kept")
    place.git("push", "-q", "origin", "kept")
    place.git("tag", "-d", "kept")
    _forget(place, "theirs")


def _forget(place: Place, branch: str) -> None:
    place.git("switch", "-q", "main")
    place.git("branch", "-q", "-D", branch)
    place.git("update-ref", "-d", f"refs/remotes/origin/{branch}")
    place.git("reflog", "expire", "--expire=now", "--expire-unreachable=now", "--all")
    place.git("gc", "-q", "--prune=now")


def _in_a_commit_that_waits(place: Place) -> None:
    place.commit(POINTER)


def _in_a_stash(place: Place) -> None:
    place.git("stash", "-q")


def _in_the_reflog(place: Place) -> None:
    place.commit(POINTER)
    place.git("reset", "-q", "--hard", "origin/main")


def _in_a_file(place: Place) -> None:
    """Of a training that is under way, say."""


def _in_the_index(place: Place) -> None:
    place.git("add", POINTER)
    (place.top / POINTER).unlink()


def _in_a_manifest(place: Place) -> None:
    md5 = place.workspace.dvc.dataset_digest(FOLDER)
    place.give_up()
    place.write("models/delays/manifest.yaml", f"schema_version: 1000\nof the future: [{md5}]\n")
    place.commit("models")


def _in_a_trailer(place: Place) -> None:
    md5 = place.workspace.dvc.dataset_digest(FOLDER)
    place.give_up()
    place.git("commit", "-q", "--allow-empty", "-m", f"Keep delays\n\nDataset: flights {md5}")


@pytest.mark.parametrize(
    "name",
    [
        _on_another_branch,
        _in_a_pull_request,
        _by_a_tag_alone,
        _in_a_commit_that_waits,
        _in_a_stash,
        _in_the_reflog,
        _in_a_file,
        _in_the_index,
        _in_a_manifest,
        _in_a_trailer,
    ],
)
def test_what_is_named_stays(place: Place, name: Callable[[Place], None]) -> None:
    wanted = place.take_in("2013-02")
    name(place)
    place.age(OLD_S)
    references = place.git("for-each-ref")
    place.collect()
    assert wanted <= place.remote_objects()
    assert wanted <= place.cached()
    assert place.git("for-each-ref") == references


def test_a_branch_that_its_owner_deletes_names_nothing_more(place: Place) -> None:
    wanted = place.take_in("2013-02")
    _on_another_branch(place)
    place.age(OLD_S)
    assert place.collect(delete=False).is_empty
    place.git("push", "-q", "origin", ":theirs")
    place.collect()
    assert not wanted & place.remote_objects()


def test_what_was_named_while_it_was_being_written_down_stays(place: Place) -> None:
    abandoned = place.abandoned("mistake")
    place.age(OLD_S)

    def then(_: str) -> None:  # the record is made; nothing is deleted yet
        place.take_in("mistake", push=False)

    found = collect(place.workspace, KIM, then, delete=True)
    assert abandoned <= place.remote_objects()
    assert found.remote.unneeded == ()


# --- where it is not known -------------------------------------------------------------


def test_a_listing_that_nobody_has_stops_everything(place: Place) -> None:
    place.take_in("2013-02")
    place.commit(POINTER)
    abandoned = place.abandoned("mistake")
    place.age(OLD_S)
    listing = place.workspace.dvc.dataset_digest(FOLDER)
    for root in (place.store, place.cache):
        (root / listing[:2] / listing[2:]).unlink()
    with pytest.raises(NotFound, match=rf"1 folders of data.*{listing}.*lost_listings"):
        place.collect()
    assert abandoned <= place.remote_objects()
    lost = f"retention: {{dvc_remote_is_ours: true, lost_listings: [{listing}]}}"
    place.write("coalmine.yaml", SETTINGS.replace("retention: {dvc_remote_is_ours: true}", lost))
    place.collect()
    assert not abandoned & place.remote_objects()


def test_a_listing_that_was_changed_is_no_listing(place: Place) -> None:
    listing = place.workspace.dvc.dataset_digest(FOLDER)
    files = place.workspace.dvc.listing(FOLDER).values()
    place.age(OLD_S)
    for root in (place.store, place.cache):
        (root / listing[:2] / listing[2:]).chmod(0o644)
        (root / listing[:2] / listing[2:]).write_text("[]")
    with pytest.raises(NotFound, match=listing):
        place.collect()
    assert set(files) <= place.remote_objects()


def test_a_remote_that_others_may_use_is_left_alone(place: Place) -> None:
    place.write("coalmine.yaml", SETTINGS.replace("retention: {dvc_remote_is_ours: true}\n", ""))
    abandoned = place.abandoned("mistake")
    place.age(OLD_S)
    found = place.collect()
    assert "dvc_remote_is_ours" in found.remote.left
    assert abandoned <= place.remote_objects()
    assert not abandoned & place.cached()
    assert found.commit is None


def test_the_remote_that_init_made_is_ours(place: Place) -> None:
    abandoned = place.abandoned("mistake")
    place.age(OLD_S)
    own = place.top / ".coalmine/remotes/dvc"
    own.parent.mkdir(parents=True, exist_ok=True)
    (place.folder / "store").rename(own)
    place.write(".dvc/config", DVC_CONFIG.replace("../../store", "../.coalmine/remotes/dvc"))
    place.write("coalmine.yaml", SETTINGS.replace("retention: {dvc_remote_is_ours: true}\n", ""))
    assert place.collect().commit is not None
    assert not abandoned & _objects(own / "files/md5")


def test_a_remote_that_cannot_be_listed_is_left_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    abandoned = place.abandoned("mistake")
    place.age(OLD_S)
    monkeypatch.setattr(ObjectStore, "can_be_listed", property(lambda store: store.is_below(place.top)))
    assert "does not say what it holds" in place.collect().remote.left
    assert abandoned <= place.remote_objects()
    assert not abandoned & place.cached()


def test_a_cache_that_others_may_use_is_left_alone(place: Place) -> None:
    abandoned = place.abandoned("mistake")
    place.age(OLD_S)
    place.cache.parents[1].rename(place.folder / "shared")
    place.write(".dvc/config.local", f"[cache]\n    dir = {place.folder / 'shared'}\n")
    found = place.collect()
    assert "outside of this repository" in found.cache.left
    assert abandoned <= _objects(place.folder / "shared/files/md5")
    assert not abandoned & place.remote_objects()


# --- the record ------------------------------------------------------------------------


def test_what_went_is_in_git_with_when_and_by_whom(place: Place) -> None:
    abandoned = place.abandoned("mistake")
    place.age(OLD_S)
    found = place.collect()
    remote = place.folder / "remote.git"
    assert place.git("rev-parse", "main", top=remote) == found.commit
    path = place.git("show", "--name-only", "--format=", "main", top=remote)
    head, *lines = map(json.loads, place.git("show", f"main:{path}", top=remote).splitlines())
    assert (head["triggered_by"]["who"], head["unneeded_days"]) == ("Kim", 30)
    assert {line["md5"] for line in lines} == abandoned
    message = place.git("log", "-1", "--format=%B", "main", top=remote)
    assert "Deleted: 2 objects" in message
    assert "Triggered-By: Kim (person, claimed)" in message
    assert place.git("status", "--porcelain") == ""


def test_without_its_record_nothing_is_deleted(place: Place) -> None:
    hook = place.folder / "remote.git/hooks/pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    abandoned = place.abandoned("mistake")
    place.age(OLD_S)
    with pytest.raises(PushRejected):
        place.collect()
    assert abandoned <= place.remote_objects()
    hook.unlink()
    place.collect()
    assert not abandoned & place.remote_objects()
    assert place.git("status", "--porcelain") == ""


def test_killed_in_the_middle_it_goes_on_and_no_listing_outlives_its_files(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    abandoned = place.abandoned("mistake") | place.abandoned("another")
    place.age(OLD_S)
    with monkeypatch.context() as patch:
        patch.setattr("coalmine.registry.object_stores._AT_ONCE", 1)
        one_by_one, deleted = ObjectStore._delete, []

        def until_killed(store: ObjectStore, digests: list[str]) -> None:
            if len(deleted) == 3:
                raise KeyboardInterrupt
            deleted.extend(digests)
            one_by_one(store, digests)

        patch.setattr(ObjectStore, "_delete", until_killed)
        with pytest.raises(KeyboardInterrupt):
            place.collect()
    left = abandoned & place.remote_objects()
    assert len(left) == 1
    assert not any(md5.endswith(".dir") for md5 in left)
    found = place.collect()
    assert {each.md5 for each in found.remote.unneeded} == left
    assert not abandoned & (place.remote_objects() | place.cached())
    assert place.collect().is_empty


def test_the_command_says_how_much_it_is(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.abandoned("mistake")
    place.age(OLD_S)
    monkeypatch.chdir(place.top)
    said = CliRunner().invoke(app, ["gc"]).output
    assert f"DVC remote {place.store}: 2 objects (" in said
    assert "that nothing has named for 30 days; 2 are named" in said
    assert said.endswith("Nothing was deleted. To delete it: coalmine gc --delete\n")
    assert CliRunner().invoke(app, ["gc", "--delete"]).output.endswith("Deleted.\n")
    assert CliRunner().invoke(app, ["gc", "--delete"]).output.endswith("There is nothing to delete.\n")
    assert json.loads(CliRunner().invoke(app, ["gc", "--json"]).stdout)["here"] == []


# --- beside others ---------------------------------------------------------------------


def test_one_at_a_time_and_not_beside_a_dvc_command(place: Place) -> None:
    with place.workspace.alone("collect garbage", "Robin"), pytest.raises(AlreadyRunning, match="Robin"):
        place.collect(delete=False)
    with place.workspace.dvc.stores(), pytest.raises(AlreadyRunning, match="DVC"):
        place.collect(delete=False)


# --- this machine ----------------------------------------------------------------------


def _old(path: Path) -> Path:
    then = time.time() - OLD_S
    for each in (*path.rglob("*"), path):
        os.utime(each, (then, then), follow_symlinks=False)
    return path


def _kinds(found: Collected) -> dict[Kind, set[str]]:
    return {
        kind: {each.path.name for each in found.here if each.kind is kind}
        for kind in {each.kind for each in found.here}
    }


def test_releases_that_are_in_no_slot_go(place: Place) -> None:
    releases = place.top / ".coalmine/releases/delays"
    for name in ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc", ".dddddddddddd-half"):
        (releases / name / "files").mkdir(parents=True)
        _old(releases / name)
    (releases / "eeeeeeeeeeee").mkdir()  # a new one
    place.write("k8s/environments/local/delays/slots.yaml", f"model_digest: {'a' * 64}\n")
    place.write(".coalmine/local/processes/delays-blue.json", '{"argv": ["--release", "/x/bbbbbbbbbbbb"]}')
    assert _kinds(place.collect()) == {Kind.RELEASE: {"cccccccccccc", ".dddddddddddd-half"}}
    assert {path.name for path in releases.iterdir()} == {"aaaaaaaaaaaa", "bbbbbbbbbbbb", "eeeeeeeeeeee"}
    assert list((place.top / ".coalmine/deleting").iterdir()) == []


def test_a_rollouts_journal_goes_when_git_has_its_evidence_and_a_newer_one_is_there(place: Place) -> None:
    first, second, newest = (
        write_rollout(place.top, FakeRollout(started_at_s=STARTED_AT_S + day * 86400)) for day in range(3)
    )
    for folder in (first, second, newest):
        _old(folder)
    about = f"Model: flight-delay\nEnvironment: local\nDecision: promoted\nRollout: {first.name}\n"
    place.git("commit", "-q", "--allow-empty", "-m", f"Promote\n\n{about}")
    assert place.collect().is_empty  # the evidence has not reached the remote
    place.git("push", "-q")
    assert _kinds(place.collect()) == {Kind.JOURNAL: {first.name}}
    assert sorted(path.name for path in first.parent.glob("*T*")) == [second.name, newest.name]


def test_what_dvc_remembers_of_runs_goes_with_what_they_made(place: Place) -> None:
    known = place.workspace.dvc.dataset_digest(FOLDER)
    for name, md5 in (("known", known), ("lost", "0" * 32)):
        place.write(f".dvc/cache/runs/ab/abcd/{name}", f"outs: [{{md5: {md5}}}]\n")
        _old(place.top / f".dvc/cache/runs/ab/abcd/{name}")
    assert _kinds(place.collect()) == {Kind.RUN: {"lost"}}
    assert [path.name for path in (place.top / ".dvc/cache/runs").rglob("*") if path.is_file()] == ["known"]


def test_a_clone_that_a_killed_process_left_goes_and_those_of_others_stay(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary/coalmine-scratch-of-others/code").mkdir(parents=True)
    repository = place.workspace.repository
    with scratch_clone(repository, repository.head(), keep=True) as top:
        left = top.parent
    assert place.collect().is_empty
    for folder in (tmp_path / "temporary").iterdir():
        _old(folder)
    assert _kinds(place.collect()) == {Kind.CLONE: {left.name}}
    assert [path.name for path in (tmp_path / "temporary").iterdir()] == ["coalmine-scratch-of-others"]


def test_a_deletion_that_was_killed_is_finished(place: Place) -> None:
    release = place.top / ".coalmine/releases/delays/cccccccccccc"
    (release / "files").mkdir(parents=True)
    _old(release)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.rmtree", _raise_interrupt)
        with pytest.raises(KeyboardInterrupt):
            place.collect()
    assert not release.exists()
    assert _kinds(place.collect(delete=False)) == {Kind.UNFINISHED: {"delays-cccccccccccc"}}
    place.collect()
    assert list((place.top / ".coalmine/deleting").iterdir()) == []


def _raise_interrupt(_: Path) -> None:
    raise KeyboardInterrupt
