"""Pushes that arrived in part, as remotes that know no atomic push leave them, and remotes that hang."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coalmine.errors import PushRejected, RemoteUnavailable
from coalmine.registry import upstream
from coalmine.registry.commits import Change, Tag, publish

MANIFEST = Path("models/delay/manifest.yaml")
TAG = "delay@v1.0.1"
RELEASE = Change(paths=(MANIFEST,), subject="Release delay 1.0.1", tags=(Tag(TAG, "delay 1.0.1"),))


@pytest.fixture
def half(clone: Any, remote: Any) -> Any:
    """A clone whose release is committed and tagged, and never reached the remote."""
    clone.write(str(MANIFEST), "version: 1.0.1\n")
    away = remote.top.rename(remote.top.with_suffix(".away"))
    with pytest.raises(RemoteUnavailable):
        publish(clone.repository, RELEASE, "origin", "main")
    away.rename(remote.top)
    return clone


@pytest.mark.parametrize(
    "arrived",
    [
        pytest.param("main", id="the commit, not its tag"),
        pytest.param(f"refs/tags/{TAG}", id="the tag, not the branch"),
    ],
)
def test_what_is_missing_is_brought_and_nothing_twice(half: Any, remote: Any, arrived: str) -> None:
    half.git("push", "--quiet", "origin", arrived)
    release = half.git("rev-parse", "HEAD")
    assert publish(half.repository, RELEASE, "origin", "main") == release
    assert remote.git("rev-parse", "main", f"{TAG}^{{commit}}") == f"{release}\n{release}"
    assert remote.git("rev-list", "--count", "main") == "2"


def test_a_tag_that_arrived_alone_is_never_moved_when_others_went_on(
    half: Any, remote: Any, new_clone: Callable[[str], Any]
) -> None:
    half.git("push", "--quiet", "origin", f"refs/tags/{TAG}")
    tagged = half.git("rev-parse", "HEAD")
    other = new_clone("other")
    other.write("notes.txt", "meanwhile\n")
    publish(other.repository, Change(paths=(Path("notes.txt"),), subject="Meanwhile"), "origin", "main")
    with pytest.raises(PushRejected, match=TAG):
        publish(half.repository, RELEASE, "origin", "main")
    assert remote.git("rev-parse", f"{TAG}^{{commit}}") == tagged


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a host that takes connections in and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"git://127.0.0.1:{server.getsockname()[1]}/shop.git"


def test_a_remote_that_hangs_is_given_up_with_one_clear_error(
    clone: Any, remote: Any, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "ANSWERS_WITHIN_S", 1.0)
    clone.write(str(MANIFEST), "version: 1.0.1\n")
    clone.git("remote", "set-url", "origin", silent)
    with pytest.raises(RemoteUnavailable, match=r"did not answer within 1 s.*run again"):
        publish(clone.repository, RELEASE, "origin", "main")
    clone.git("remote", "set-url", "origin", str(remote.top))
    release = publish(clone.repository, RELEASE, "origin", "main")
    assert remote.git("rev-parse", "main") == release
    assert remote.git("rev-list", "--count", "main") == "2"


@pytest.mark.parametrize("meanwhile", [0, 2])
def test_a_shallow_clone_releases_on_the_newest_commit(
    remote: Any, tmp_path: Path, new_clone: Callable[[str], Any], meanwhile: int
) -> None:
    seed = new_clone("seed-again")

    def note(number: int) -> None:
        seed.write("notes.txt", f"{number}\n")
        change = Change(paths=(Path("notes.txt"),), subject=f"Note {number}")
        publish(seed.repository, change, "origin", "main")

    note(0)
    note(1)
    where = tmp_path / "shallow"
    subprocess.run(["git", "clone", "-q", "--depth", "1", remote.top.as_uri(), str(where)], check=True)
    shallow = type(seed)(where)
    for number in range(meanwhile):
        note(2 + number)
    shallow.write(str(MANIFEST), "version: 1.0.1\n")
    release = publish(shallow.repository, RELEASE, "origin", "main")
    assert remote.git("rev-parse", "main", f"{TAG}^{{commit}}") == f"{release}\n{release}"
    assert remote.git("rev-list", "--count", "main") == str(4 + meanwhile)
