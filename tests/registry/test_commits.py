"""Publishing beside people, against a remote that moves, with a process that dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coalmine.errors import AlreadyRunning, CoalmineError, PushRejected, RemoteUnavailable, RepositoryUnready
from coalmine.registry import commits
from coalmine.registry.commits import Change, Tag, catch_up, publish
from coalmine.registry.repository import Repository

NewClone = Callable[[str], Any]

MANIFEST = Path("models/delay/manifest.yaml")
RELEASE = Change(
    paths=(MANIFEST, Path("models/delay/old.json"), Path("models/delay/plots"), Path("models/delay/never")),
    subject="delay 1.0.1: retrained on 2013-04",
    body="The challenger gains 0.024 on AUC.",
    trailers={"Model": "delay", "Version": "1.0.1", "Triggered-By": "schedule"},
    tags=(Tag("delay@v1.0.1", "delay 1.0.1"),),
)


def _prepare_release(clone: Any) -> None:
    """What a release leaves in the working tree: a changed, a deleted and a new file."""
    clone.write(str(MANIFEST), "version: 1.0.1\n")
    (clone.top / "models/delay/old.json").unlink(missing_ok=True)
    clone.write("models/delay/plots/roc.json", "[]\n")


def _publish(clone: Any, change: Change = RELEASE) -> str:
    return publish(clone.repository, change, "origin", "main")


def _files_of(clone: Any, commit: str) -> set[str]:
    """The files that `commit` changed."""
    return set(clone.git("diff-tree", "--root", "-r", "--name-only", "--no-commit-id", commit).splitlines())


RELEASED_FILES = {str(MANIFEST), "models/delay/old.json", "models/delay/plots/roc.json"}


# --- the commit ------------------------------------------------------------------------


def test_one_commit_with_the_changes_paths_reaches_the_remote_with_its_tag(clone: Any, remote: Any) -> None:
    before = clone.git("rev-parse", "HEAD")
    _prepare_release(clone)

    sha = _publish(clone)

    assert remote.git("rev-parse", "main", "delay@v1.0.1^{commit}") == f"{sha}\n{sha}"
    assert clone.git("rev-parse", "HEAD", "HEAD^") == f"{sha}\n{before}"
    assert _files_of(clone, sha) == RELEASED_FILES
    assert clone.git("status", "--porcelain") == ""
    assert remote.git("cat-file", "-t", "refs/tags/delay@v1.0.1") == "tag"


def test_the_commit_says_what_the_change_says(clone: Any) -> None:
    _prepare_release(clone)

    commit = clone.repository.commit(_publish(clone))

    assert (commit.subject, dict(commit.trailers)) == (RELEASE.subject, dict(RELEASE.trailers))
    assert clone.git("log", "-1", "--format=%B").split("\n\n")[1] == RELEASE.body
    assert commit.author == "Ada <ada@example.com>"


def _work_of_a_person(clone: Any) -> None:
    """Staged, staged and edited again, edited, deleted and untracked work, also beside the release."""
    clone.write("staged.txt", "staged\n")
    clone.write("notes.txt", "line 1\nstaged line\n")
    clone.git("add", "staged.txt", "notes.txt")
    clone.write("notes.txt", "line 1\nstaged line\nunstaged line\n")
    clone.write("models/delay/model.yaml", "name: delay # trying something\n")
    (clone.top / "README.md").unlink()
    clone.write("models/delay/untracked.txt", "mine\n")


def _state_of_work(clone: Any) -> tuple[str, str, dict[str, bytes]]:
    """What is staged, what differs from that, and the bytes in the working tree."""
    files = {
        str(path.relative_to(clone.top)): path.read_bytes()
        for path in clone.top.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }
    return clone.git("diff", "--cached", "--binary"), clone.git("status", "--porcelain", "-uall"), files


def test_what_a_person_has_staged_changed_or_left_untracked_stays_theirs(clone: Any) -> None:
    _work_of_a_person(clone)
    staged, status, files = _state_of_work(clone)
    _prepare_release(clone)

    sha = _publish(clone)

    assert _files_of(clone, sha) == RELEASED_FILES
    after = _state_of_work(clone)
    assert after[:2] == (staged, status)
    work = {"staged.txt", "notes.txt", "models/delay/model.yaml", "models/delay/untracked.txt"}
    assert {name: after[2][name] for name in work} == {name: files[name] for name in work}
    assert "README.md" not in after[2]


def test_a_release_path_that_a_person_had_staged_ends_as_released(clone: Any) -> None:
    clone.write(str(MANIFEST), "version: draft\n")
    clone.git("add", str(MANIFEST))
    _prepare_release(clone)

    _publish(clone)

    assert clone.git("status", "--porcelain") == ""
    assert clone.git("show", f"HEAD:{MANIFEST}") == "version: 1.0.1"


def test_publishing_again_adds_nothing_and_names_the_same_commit(clone: Any, remote: Any) -> None:
    _prepare_release(clone)
    sha = _publish(clone)
    clone.commit("models/delay/plots/notes.md", "a person goes on, in a folder of the release\n")

    assert _publish(clone) == sha
    assert remote.git("rev-list", "--count", "main") == "3"
    assert remote.git("rev-parse", "delay@v1.0.1^{commit}") == sha


def test_a_tag_may_stand_on_an_earlier_commit(clone: Any, remote: Any) -> None:
    _prepare_release(clone)
    release = _publish(clone)
    clone.write("k8s/environments/local/delay/slots.yaml", "stable: blue\n")
    promotion = Change(
        paths=(Path("k8s/environments/local/delay/slots.yaml"),),
        subject="delay 1.0.1 is stable in local",
        tags=(Tag("delay#local#1", "promoted", commit=release),),
    )

    sha = _publish(clone, promotion)

    assert remote.git("rev-parse", "main", "delay#local#1^{commit}") == f"{sha}\n{release}"


def test_a_change_without_paths_still_brings_its_tags(clone: Any, remote: Any) -> None:
    head = clone.git("rev-parse", "HEAD")

    assert _publish(clone, Change(paths=(), subject="x", tags=(Tag("delay@v1.0.0", "first"),))) == head
    assert remote.git("rev-parse", "delay@v1.0.0^{commit}") == head


def test_a_tag_that_others_have_is_never_moved_and_nothing_is_recorded(clone: Any) -> None:
    clone.git("tag", "-a", "delay@v1.0.1", "-m", "taken")
    clone.git("push", "-q", "origin", "delay@v1.0.1")
    head = clone.git("rev-parse", "HEAD")
    _prepare_release(clone)

    with pytest.raises(PushRejected, match=r"delay@v1.0.1 stands on commit"):
        _publish(clone)
    assert clone.git("rev-parse", "HEAD", "delay@v1.0.1^{commit}") == f"{head}\n{head}"


# --- not ready -------------------------------------------------------------------------


def _detach(clone: Any) -> None:
    clone.git("checkout", "-q", "--detach")


def _switch(clone: Any) -> None:
    clone.git("switch", "-q", "-c", "experiment")


def _drop_remote(clone: Any) -> None:
    clone.git("remote", "remove", "origin")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(_detach, "detached HEAD", id="detached head"),
        pytest.param(_switch, "git switch main", id="another branch"),
        pytest.param(_drop_remote, "git remote add origin", id="no remote"),
    ],
)
def test_a_clone_that_is_not_ready_is_left_as_it_is(
    clone: Any, spoil: Callable[[Any], None], says: str
) -> None:
    spoil(clone)
    _prepare_release(clone)
    before = (clone.git("rev-parse", "HEAD"), _state_of_work(clone))

    with pytest.raises(RepositoryUnready, match=says):
        _publish(clone)
    assert (clone.git("rev-parse", "HEAD"), _state_of_work(clone)) == before


# --- the remote ------------------------------------------------------------------------


def test_an_unreachable_remote_leaves_the_commit_here_and_the_next_publish_brings_it(
    clone: Any, remote: Any
) -> None:
    _prepare_release(clone)
    away = remote.top.rename(remote.top.with_suffix(".away"))
    with pytest.raises(RemoteUnavailable, match="run again"):
        _publish(clone)
    release = clone.git("rev-parse", "HEAD")
    assert _files_of(clone, release) == RELEASED_FILES

    away.rename(remote.top)
    clone.write("notes.txt", "another change\n")
    later = _publish(clone, Change(paths=(Path("notes.txt"),), subject="Another change"))

    assert (
        remote.git("rev-parse", "main", "main^", "delay@v1.0.1^{commit}") == f"{later}\n{release}\n{release}"
    )


def test_a_retry_with_other_bytes_replaces_the_commit_that_never_left(clone: Any, remote: Any) -> None:
    _prepare_release(clone)
    away = remote.top.rename(remote.top.with_suffix(".away"))
    with pytest.raises(RemoteUnavailable):
        _publish(clone)
    away.rename(remote.top)
    clone.write(str(MANIFEST), "version: 1.0.1 # made a minute later\n")

    sha = _publish(clone)

    assert remote.git("rev-list", "--count", "main") == "2"
    assert remote.git("rev-parse", "main", "delay@v1.0.1^{commit}") == f"{sha}\n{sha}"
    assert "a minute later" in remote.git("show", f"main:{MANIFEST}")


def test_a_remote_that_moved_on_gets_the_same_change_on_top(
    clone: Any, new_clone: NewClone, remote: Any
) -> None:
    other = new_clone("other")
    other.write("models/credit/model.yaml", "name: credit\n")
    other.git("add", "-A")
    other.git("rm", "-q", "notes.txt")
    other.git("commit", "-qm", "theirs")
    other.git("push", "-q")
    theirs = other.git("rev-parse", "HEAD")
    _prepare_release(clone)

    sha = _publish(clone)

    assert remote.git("rev-parse", "main", "main^", "delay@v1.0.1^{commit}") == f"{sha}\n{theirs}\n{sha}"
    assert _files_of(clone, sha) == RELEASED_FILES
    assert clone.git("rev-parse", "HEAD") == sha
    assert clone.git("status", "--porcelain") == ""
    assert (clone.top / "models/credit/model.yaml").is_file()
    assert not (clone.top / "notes.txt").exists()


def test_a_persons_work_survives_the_remotes_changes(clone: Any, new_clone: NewClone) -> None:
    new_clone("other").commit("models/credit/model.yaml", "name: credit\n")
    Repository.open(clone.top.parent / "other").git("push", "-q", "origin", "main")
    _work_of_a_person(clone)
    staged, status, _ = _state_of_work(clone)
    _prepare_release(clone)

    sha = _publish(clone)

    assert clone.git("rev-parse", "HEAD") == sha
    assert _state_of_work(clone)[:2] == (staged, status)
    assert (clone.top / "notes.txt").read_text() == "line 1\nstaged line\nunstaged line\n"
    assert (clone.top / "models/credit/model.yaml").is_file()


def _state(clone: Any) -> tuple[str, str, str, dict[str, bytes]]:
    _, status, files = _state_of_work(clone)
    return clone.git("rev-parse", "HEAD"), clone.git("tag"), status, files


@pytest.mark.parametrize(
    ("theirs", "mine", "names"),
    [
        pytest.param(str(MANIFEST), None, str(MANIFEST), id="both released the model"),
        pytest.param("models/delay/plots/roc.json", None, "plots/roc.json", id="both made a file"),
        pytest.param("notes.txt", "notes.txt", "notes.txt", id="a file that a person is editing"),
        pytest.param("new.txt", "new.txt", "new.txt", id="a file that a person made, untracked"),
    ],
)
def test_what_cannot_be_joined_is_named_and_nothing_is_recorded(
    clone: Any, new_clone: NewClone, remote: Any, theirs: str, mine: str | None, names: str
) -> None:
    other = new_clone("other")
    there = other.commit(theirs, "from the other side\n", "theirs")
    other.git("push", "-q")
    if mine is not None:
        clone.write(mine, "uncommitted work\n")
    _prepare_release(clone)
    before = _state(clone)

    with pytest.raises(PushRejected, match=names):
        _publish(clone)

    assert _state(clone) == before
    assert remote.git("rev-parse", "main") == there
    assert remote.git("tag") == ""


def test_the_same_version_released_by_two_clones_is_refused_to_the_second(
    clone: Any, new_clone: NewClone
) -> None:
    other = new_clone("other")
    other.write("elsewhere.txt", "1\n")
    _publish(other, Change(paths=(Path("elsewhere.txt"),), subject="theirs", tags=RELEASE.tags))
    _prepare_release(clone)
    before = _state(clone)

    with pytest.raises(PushRejected, match="released meanwhile"):
        _publish(clone)
    assert _state(clone) == before


LOCK = Path("models/dvc.lock")


def _lock(**stages: str) -> str:
    body = "".join(f"  {name}:\n    cmd: {name} {digest}\n" for name, digest in stages.items())
    return f"schema: '2.0'\nstages:\n{body}"


def test_a_lock_that_both_changed_is_joined_by_stage(clone: Any, new_clone: NewClone, remote: Any) -> None:
    clone.commit(str(LOCK), _lock(a="1", b="1"))
    clone.git("push", "-q")
    other = new_clone("other")
    other.commit(str(LOCK), _lock(a="2", b="1", c="1"))
    other.git("push", "-q")
    clone.write(str(LOCK), _lock(a="1", b="2"))

    _publish(clone, Change(paths=(LOCK,), subject="b again"))

    assert remote.git("show", f"main:{LOCK}") + "\n" == _lock(a="2", b="2", c="1")
    assert (clone.top / LOCK).read_text() == _lock(a="2", b="2", c="1")
    assert clone.git("status", "--porcelain") == ""


def test_a_stage_that_both_changed_is_refused(clone: Any, new_clone: NewClone) -> None:
    clone.commit(str(LOCK), _lock(a="1"))
    clone.git("push", "-q")
    other = new_clone("other")
    other.commit(str(LOCK), _lock(a="2"))
    other.git("push", "-q")
    clone.write(str(LOCK), _lock(a="3"))

    with pytest.raises(PushRejected, match=r"models/dvc\.lock"):
        _publish(clone, Change(paths=(LOCK,), subject="a again"))


def test_a_persons_own_commits_travel_along_unaltered(clone: Any, new_clone: NewClone, remote: Any) -> None:
    theirs = new_clone("other").commit("models/credit/model.yaml", "name: credit\n")
    Repository.open(clone.top.parent / "other").git("push", "-q", "origin", "main")
    mine = clone.commit("notes.txt", "my experiment\n")  # the manifest names it as its code
    _prepare_release(clone)

    sha = _publish(clone)

    assert clone.git("rev-parse", "HEAD^1", "HEAD^2", "HEAD^1^") == f"{sha}\n{theirs}\n{mine}"
    assert remote.git("rev-parse", "main") == clone.git("rev-parse", "HEAD")
    assert remote.git("rev-parse", "delay@v1.0.1^{commit}") == sha
    assert clone.git("status", "--porcelain") == ""


def test_a_commit_made_on_top_meanwhile_is_not_taken_back(clone: Any, remote: Any) -> None:
    _prepare_release(clone)
    away = remote.top.rename(remote.top.with_suffix(".away"))
    with pytest.raises(RemoteUnavailable):
        _publish(clone)
    release = clone.git("rev-parse", "HEAD")
    mine = clone.commit("notes.txt", "mine\n")
    away.rename(remote.top)
    _refuse_pushes(remote, "closed for today")

    with pytest.raises(PushRejected, match="closed for today"):
        _publish(clone)
    assert clone.git("rev-parse", "HEAD", "HEAD^") == f"{mine}\n{release}"


def _catch_up(clone: Any) -> None:
    catch_up(clone.repository, "origin", "main")


def test_catching_up_brings_what_others_recorded_and_leaves_a_persons_work(
    clone: Any, new_clone: NewClone
) -> None:
    other = new_clone("other")
    theirs = other.commit("models/credit/model.yaml", "name: credit\n")
    other.git("push", "-q")
    _work_of_a_person(clone)
    staged, status, _ = _state_of_work(clone)

    _catch_up(clone)
    _catch_up(clone)

    assert clone.git("rev-parse", "HEAD") == theirs
    assert _state_of_work(clone)[:2] == (staged, status)
    assert (clone.top / "models/credit/model.yaml").is_file()


def test_catching_up_keeps_commits_that_were_not_pushed(clone: Any, new_clone: NewClone) -> None:
    other = new_clone("other")
    theirs = other.commit("models/credit/model.yaml", "name: credit\n")
    other.git("push", "-q")
    mine = clone.commit("notes.txt", "my experiment\n")

    _catch_up(clone)

    assert clone.git("rev-parse", "HEAD^1", "HEAD^2") == f"{mine}\n{theirs}"
    assert clone.git("status", "--porcelain") == ""


def test_where_nobody_was_quicker_catching_up_changes_nothing(clone: Any) -> None:
    clone.commit("notes.txt", "my experiment\n")
    before = _state(clone)
    _catch_up(clone)
    assert _state(clone) == before


def test_what_cannot_be_caught_up_with_is_named_and_all_stays(clone: Any, new_clone: NewClone) -> None:
    other = new_clone("other")
    other.commit("notes.txt", "from the other side\n")
    other.git("push", "-q")
    clone.write("notes.txt", "uncommitted work\n")
    before = _state(clone)

    with pytest.raises(PushRejected, match=r"notes\.txt"):
        _catch_up(clone)

    assert _state(clone) == before


def test_a_remote_out_of_reach_cannot_be_caught_up_with(clone: Any, remote: Any) -> None:
    remote.top.rename(remote.top.with_name("gone.git"))
    with pytest.raises(RemoteUnavailable):
        _catch_up(clone)


def _refuse_pushes(remote: Any, reason: str) -> None:
    hook = remote.write("hooks/pre-receive", f"#!/bin/sh\necho '{reason}' >&2\nexit 1\n")
    hook.chmod(0o755)


def test_a_remote_that_refuses_is_quoted_and_the_commit_taken_back(clone: Any, remote: Any) -> None:
    _refuse_pushes(remote, "main is protected: open a pull request")
    _prepare_release(clone)
    before = _state(clone)

    with pytest.raises(PushRejected, match="main is protected"):
        _publish(clone)
    assert _state(clone) == before


def test_two_clones_that_publish_at_once_both_arrive(new_clone: NewClone, remote: Any) -> None:
    count = 4
    children = {}
    for number, side in enumerate((new_clone("one"), new_clone("two"))):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for turn in range(count):
                    path = f"models/m{number}/manifest.yaml"
                    side.write(path, f"version: {turn}\n")
                    tag = Tag(f"m{number}@v1.0.{turn}", "x")
                    _publish(side, Change(paths=(Path(path),), subject=f"m{number} {turn}", tags=(tag,)))
                status = 0
            finally:
                os._exit(status)
        children[number] = child

    assert [os.waitpid(child, 0)[1] for child in children.values()] == [0, 0]
    subjects = remote.git("log", "--format=%s", "main").splitlines()
    assert sorted(subjects[:-1]) == [f"m{n} {t}" for n in (0, 1) for t in range(count)]
    assert len(remote.git("tag").splitlines()) == 2 * count
    for number in (0, 1):
        own = remote.git("log", "--format=%s", "--reverse", "main", "--", f"models/m{number}").splitlines()
        assert own == [f"m{number} {turn}" for turn in range(count)]


def test_a_second_publish_from_the_same_clone_waits_its_turn(
    clone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "_LOCK_WAIT_S", 0.0)
    _prepare_release(clone)
    with (
        commits.exclusive(clone.top / ".git/coalmine.lock", "x", "Sam"),
        pytest.raises(AlreadyRunning, match="Sam"),
    ):
        _publish(clone)


# --- a process that dies ---------------------------------------------------------------


def _publish_until_killed(clone: Any, start: str, survived: int) -> bool:
    """Publish in a child that is killed in place of a git command: number `survived` from `start` on.

    Returns whether it got there; every step of publishing is a git command.
    """
    child = os.fork()
    if child == 0:
        run = Repository.try_git
        done: list[str] = []

        def dying(self: Repository, *arguments: str, **options: Any) -> Any:
            if done or arguments[0] == start:
                done.append(arguments[0])
            if len(done) > survived:
                os.kill(os.getpid(), signal.SIGKILL)
            return run(self, *arguments, **options)

        Repository.try_git = dying  # type: ignore[method-assign]
        try:
            _publish(clone)
        except CoalmineError:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize(
    ("start", "remote_moves"),
    [
        pytest.param("read-tree", False, id="from the first tree to the push"),
        pytest.param("push", True, id="from a push that is refused, as the remote moved on, to the next"),
    ],
)
def test_killed_before_any_of_its_steps_the_next_publish_ends_the_same(
    new_clone: NewClone, remote: Any, start: str, remote_moves: bool
) -> None:
    other = new_clone("other")
    step, killed = 0, True
    while killed:
        clone = new_clone(f"clone{step}")
        if remote_moves:
            other.git("pull", "-q", "--rebase")
            other.commit("theirs.txt", f"{step}\n", "theirs")
            other.git("push", "-q")
        before = remote.git("rev-parse", "main")
        _work_of_a_person(clone)
        staged, status, _ = _state_of_work(clone)
        _prepare_release(clone)

        killed = _publish_until_killed(clone, start, step)

        after = remote.git("rev-parse", "main")
        assert (after == before) == (remote.git("tag") == ""), f"step {step}: half done"
        sha = _publish(clone)
        assert _files_of(clone, sha) == RELEASED_FILES, f"step {step}"
        assert remote.git("rev-parse", "main", "main^", "delay@v1.0.1^{commit}").split() == [sha, before, sha]
        assert _state_of_work(clone)[:2] == (staged, status), f"step {step}: a person's work"
        remote.git("update-ref", "refs/heads/main", before)
        remote.git("update-ref", "-d", "refs/tags/delay@v1.0.1")
        step += 1
    assert step > 12
