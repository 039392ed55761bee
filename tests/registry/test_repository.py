"""What can be asked of the Git repository."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coalmine.errors import AlreadyRunning, NotFound, RepositoryUnready
from coalmine.registry import repository as repository_module
from coalmine.registry.repository import Repository


def test_a_folder_without_git_says_how_to_make_it_a_repository(tmp_path: Path) -> None:
    with pytest.raises(RepositoryUnready, match="git init"):
        Repository.open(tmp_path)


def test_a_folder_inside_a_repository_is_not_its_top(clone: Any) -> None:
    with pytest.raises(RepositoryUnready, match="not the top"):
        Repository.open(clone.top / "models")


def test_head_and_branch_are_those_that_git_names(clone: Any) -> None:
    assert clone.repository.head() == clone.git("rev-parse", "HEAD")
    assert clone.repository.branch() == "main"


def test_a_repository_without_a_commit_says_so(tmp_path: Path, clone: Any) -> None:
    clone.git("init", "-q", str(tmp_path / "new"))

    with pytest.raises(RepositoryUnready, match="no commit yet"):
        Repository.open(tmp_path / "new").head()


def test_a_detached_head_is_refused_with_the_way_back(clone: Any) -> None:
    clone.git("checkout", "-q", "--detach")

    with pytest.raises(RepositoryUnready, match=r"detached HEAD.*git switch"):
        clone.repository.branch()


def _edit(clone: Any) -> None:
    clone.write("models/delay/model.yaml", "name: other\n")


def _stage_edit(clone: Any) -> None:
    _edit(clone)
    clone.git("add", "-A")


def _delete(clone: Any) -> None:
    (clone.top / "models/delay/model.yaml").unlink()


def _add(clone: Any) -> None:
    clone.write("models/delay/new file.yaml", "x: 1\n")


@pytest.mark.parametrize(
    ("dirty", "named"),
    [
        pytest.param(_edit, "models/delay/model.yaml", id="changed"),
        pytest.param(_stage_edit, "models/delay/model.yaml", id="staged"),
        pytest.param(_delete, "models/delay/model.yaml", id="deleted"),
        pytest.param(_add, "models/delay/new file.yaml", id="untracked"),
    ],
)
def test_files_in_no_commit_are_named(clone: Any, dirty: Callable[[Any], None], named: str) -> None:
    dirty(clone)

    with pytest.raises(RepositoryUnready, match=named) as refusal:
        clone.repository.require_clean(["models/delay"])
    assert "git stash" in str(refusal.value)


def test_dirt_elsewhere_is_nobodys_business(clone: Any) -> None:
    clone.write("notes.txt", "mine\n")

    clone.repository.require_clean(["models/delay", "pipelines"])


def test_an_unknown_remote_names_the_known_ones(clone: Any) -> None:
    clone.repository.require_remote("origin")
    with pytest.raises(RepositoryUnready, match="There are: origin"):
        clone.repository.require_remote("upstream")


def test_the_identity_is_the_one_git_would_sign_with(clone: Any) -> None:
    assert clone.repository.identity() == "Ada <ada@example.com>"


def test_without_an_identity_git_is_not_left_to_guess(clone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)

    with pytest.raises(RepositoryUnready, match=r"git config --global user\.name"):
        clone.repository.identity()


def test_a_file_is_read_as_a_commit_holds_it_to_the_byte(clone: Any) -> None:
    (clone.top / "raw").write_bytes(b"\x00\xff\r\n\n")
    clone.git("add", "raw")
    clone.git("commit", "-qm", "raw")
    (clone.top / "raw").write_bytes(b"later")

    assert clone.repository.read(clone.git("rev-parse", "HEAD"), "raw") == b"\x00\xff\r\n\n"


def test_a_file_that_a_commit_lacks_is_not_found(clone: Any) -> None:
    with pytest.raises(NotFound, match="no file nowhere"):
        clone.repository.read(clone.git("rev-parse", "HEAD"), "nowhere")


def test_an_export_holds_the_commits_files_and_no_others(clone: Any, tmp_path: Path) -> None:
    clone.write("pipelines/train.py", "x = 1\n")
    clone.write("pipelines/sources/flights.py", "y = 2\n")
    clone.git("add", "-A")
    clone.git("commit", "-qm", "code")
    commit = clone.git("rev-parse", "HEAD")
    clone.write("pipelines/train.py", "x = 'edited since'\n")
    clone.write("pipelines/untracked.py", "")

    clone.repository.export(commit, ["pipelines"], tmp_path / "out")

    found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert found == {"pipelines/train.py", "pipelines/sources/flights.py"}
    assert (tmp_path / "out/pipelines/train.py").read_text() == "x = 1\n"


def test_an_export_of_what_is_not_there_is_refused(clone: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing at pipelines"):
        clone.repository.export(clone.git("rev-parse", "HEAD"), ["pipelines"], tmp_path / "out")


def test_the_log_is_sieved_by_trailer_exactly_and_by_path(clone: Any) -> None:
    clone.commit("a.txt", "1", "Release\n\nWhy it was.\n\nModel: delay\nVersion: 1.0.0")
    clone.commit("b.txt", "1", "Release\n\nModel: delay-long\nVersion: 1.0.0")
    clone.commit("a.txt", "2", "About Model: delay in its text\n\nDecision: none")
    log = clone.repository.log

    assert [c.trailers for c in log(trailers={"Model": "delay"})] == [{"Model": "delay", "Version": "1.0.0"}]
    assert [c.subject for c in log(paths=["a.txt"])] == ["About Model: delay in its text", "Release"]
    assert list(log(paths=["b.txt"], trailers={"Model": "delay"})) == []


def test_a_commit_tells_who_and_when(clone: Any) -> None:
    sha = clone.commit("a.txt", "1", "Say: it")

    commit = next(clone.repository.log())

    assert (commit.sha, commit.author, commit.subject) == (sha, "Ada <ada@example.com>", "Say: it")
    assert commit.at.timestamp() == int(clone.git("log", "-1", "--format=%ct"))
    assert commit == clone.repository.commit("HEAD")


def test_tags_lead_to_commits_whether_annotated_or_not(clone: Any) -> None:
    clone.git("tag", "light")
    clone.git("tag", "-a", "delay@v1.0.0", "-m", "first")
    head = clone.git("rev-parse", "HEAD")

    assert clone.repository.tags() == {"light": head, "delay@v1.0.0": head}


def test_an_index_that_a_dead_process_holds_says_how_to_free_it(
    clone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository_module, "_INDEX_LOCK_WAIT_S", 0.0)
    (clone.top / ".git/index.lock").touch()

    with pytest.raises(AlreadyRunning, match=r"rm .*index\.lock"):
        clone.repository.git("add", "README.md")


def test_many_files_are_read_in_order_with_nothing_for_those_that_are_not_there(
    clone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository_module, "_BLOBS_AT_ONCE", 2)
    clone.write("empty", "")
    clone.write("lines", "a\n\nb")
    clone.git("add", "-A")
    clone.git("commit", "-qm", "Files")
    names = [f"HEAD:{path}" for path in ("lines", "gone", "empty", "lines", "no commit:either")]
    assert list(clone.repository.read_all(names)) == [b"a\n\nb", None, b"", b"a\n\nb", None]
    assert list(clone.repository.read_all([])) == []


def test_what_a_clone_lets_stand_in_for_a_commit_is_not_looked_at(clone: Any) -> None:
    first = clone.git("rev-parse", "HEAD")
    author = clone.repository.commit(first).author
    forged = clone.git("commit-tree", f"{first}^{{tree}}", "-m", "Another story")
    clone.git("replace", first, forged)
    assert clone.git("log", "-1", "--format=%s", first) == "Another story"

    (newest, *_) = clone.repository.log()
    assert (newest.sha, newest.author) == (first, author)
    assert newest.subject != "Another story"
