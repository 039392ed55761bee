"""A pod's clone while it lives: credentials that change meanwhile, and a container that died in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coalmine.errors import RemoteUnavailable
from coalmine.registry.cloning import clone as make
from coalmine.registry.commits import catch_up
from tests.cluster.git_server import serving_git
from tests.registry.conftest import Clone

PASSWORD = "s3cr3t-of-kim"


@pytest.fixture
def url(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of `clone`'s remote, which lets in whom the environment names."""
    monkeypatch.setenv("GIT_USERNAME", "kim")
    monkeypatch.setenv("GIT_PASSWORD", PASSWORD)
    remote = Path(clone.git("remote", "get-url", "origin"))
    with serving_git(remote.parent, login=f"kim:{PASSWORD}") as server:
        yield f"{server}/{remote.name}"


def test_it_sees_what_others_push_with_what_the_environment_holds_then(
    clone: Clone, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = make(url, "main", tmp_path / "code")
    sha = clone.commit("notes.txt", "of a person\n")
    clone.git("push", "-q")
    catch_up(repository, "origin", "main")
    assert repository.head() == sha
    monkeypatch.setenv("GIT_PASSWORD", "the one before")
    with pytest.raises(RemoteUnavailable):
        catch_up(repository, "origin", "main")


def test_what_a_container_left_half_done_gives_way(clone: Clone, url: str, tmp_path: Path) -> None:
    half = tmp_path / "code.half"
    half.mkdir()
    (half / "packfile").write_text("killed amid a clone\n")
    assert make(url, "main", tmp_path / "code").head() == clone.git("rev-parse", "HEAD")
    assert not half.exists()


def test_an_empty_folder_such_as_a_volume_is_filled(clone: Clone, url: str, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    assert make(url, "main", tmp_path / "code").head() == clone.git("rev-parse", "HEAD")


def test_a_password_in_the_url_is_not_said(tmp_path: Path) -> None:
    with pytest.raises(RemoteUnavailable) as told:
        make(f"http://kim:{PASSWORD}@127.0.0.1:1/git.git", "main", tmp_path / "code")
    assert PASSWORD not in str(told.value)
