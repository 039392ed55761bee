"""What a pod begins with: the code by Git commit, the data by DVC digest; and what it makes of the two."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.git_server import serving_git
from tests.scenarios.workplace import DATASET, MODEL, Workplace

PASSWORD = "s3cr3t-of-the-pod"


@pytest.fixture
def remote(work: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The Git remote, which lets nobody in but `pod`. This machine's user has neither a name nor a helper."""
    work.dvc("remote", "add", "--default", "--force", "shared", str(work.top / ".coalmine/remotes/dvc"))
    work.commit("A DVC remote that every clone reaches")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    with serving_git(work.top / ".coalmine/remotes", login=f"pod:{PASSWORD}") as url:
        yield f"{url}/git.git"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_USERNAME", "pod")
    monkeypatch.setenv("GIT_PASSWORD", PASSWORD)


def clone(remote: str, into: Path, *words: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "coalmine.cli", "clone", remote, "--into", str(into), *words]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == status, ran
    assert "Traceback" not in ran.stderr
    return ran.stdout + ran.stderr


@pytest.mark.usefixtures("known")
def test_a_pod_trains_from_a_clone_and_pushes_what_it_records(
    work: Workplace, remote: str, tmp_path: Path
) -> None:
    said = clone(remote, tmp_path / "code")
    assert work.head() in said
    pod = Workplace(tmp_path / "code")
    assert set(pod.tags()) == set(work.tags())
    assert not (pod.top / f"data/{DATASET}/partitions").exists()

    digest = work.read_yaml(f"data/{DATASET}/partitions.dvc")["outs"][0]["md5"]
    assert pod.run("pull", MODEL, "--json").json["datasets"] == {DATASET: digest}
    unchanged = pod.run("retrain", MODEL, "--json")
    assert unchanged.json["changed"] is False
    assert f"models/{MODEL}: nothing changed." in unchanged.err

    pod.edit(f"models/{MODEL}/model.yaml", "LogisticRegression", "LogisticRegression\n  params: {C: 0.5}")
    pod.git("commit", "-qam", "A stronger penalty")
    assert pod.run("retrain", MODEL, "--json").json["version"] == "1.3.0"
    assert pod.pushed() == pod.head()
    assert pod.git("log", "-1", "--format=%cn <%ce>") == "coalmine <coalmine@localhost>"


@pytest.mark.usefixtures("known")
def test_no_password_is_in_a_clone(remote: str, tmp_path: Path) -> None:
    clone(remote, tmp_path / "code")
    for folder, _, names in os.walk(tmp_path / "code"):
        for name in names:
            assert PASSWORD.encode() not in (Path(folder) / name).read_bytes()


@pytest.mark.usefixtures("known")
def test_a_container_that_runs_again_begins_anew(work: Workplace, remote: str, tmp_path: Path) -> None:
    clone(remote, tmp_path / "code")
    (tmp_path / "code/left-behind").write_text("by the one before")
    kim = ("-c", "user.name=Kim", "-c", "user.email=kim@example.org")
    work.git(*kim, "commit", "-q", "--allow-empty", "-m", "Meanwhile")
    work.git("push", "-q")
    assert work.head() in clone(remote, tmp_path / "code")
    assert not (tmp_path / "code/left-behind").exists()


@pytest.mark.usefixtures("known")
def test_what_somebody_works_in_is_never_taken(work: Workplace, remote: str) -> None:
    before = work.head()
    assert "is not empty" in clone(remote, work.top, status=2)
    assert work.head() == before
    assert work.run("pull", MODEL).status == 0


def test_whoever_is_not_known_is_told_how_to_be(remote: str, tmp_path: Path) -> None:
    said = clone(remote, tmp_path / "code", status=4)
    assert "set GIT_USERNAME and GIT_PASSWORD (in a cluster: the Secret `git`)" in said
    assert list(tmp_path.glob("code*")) == []


def test_a_wrong_password_is_not_said(remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_USERNAME", "pod")
    monkeypatch.setenv("GIT_PASSWORD", "wr0ng")
    assert "wr0ng" not in clone(remote, tmp_path / "code", status=4)


@pytest.mark.usefixtures("known")
def test_a_branch_that_is_not_there_is_named(remote: str, tmp_path: Path) -> None:
    assert "has no branch nightly" in clone(remote, tmp_path / "code", "--branch", "nightly", status=2)
    assert list(tmp_path.glob("code*")) == []


def test_a_remote_that_is_away_is_worth_another_try(tmp_path: Path) -> None:
    assert "cannot be cloned" in clone("http://127.0.0.1:1/git.git", tmp_path / "code", status=4)


@pytest.mark.usefixtures("known")
def test_a_pull_while_the_dvc_remote_is_away_is_worth_another_try(remote: str, tmp_path: Path) -> None:
    clone(remote, tmp_path / "code")
    pod = Workplace(tmp_path / "code")
    pod.dvc("remote", "add", "--local", "--default", "--force", "away", "http://127.0.0.1:1/dvc")
    assert "Run again" in pod.run("pull", MODEL, status=4).err
