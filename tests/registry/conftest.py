"""A bare remote, and clones of it that people and coalmine share."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from coalmine.registry.repository import Repository

FIRST_FILES = {
    "README.md": "a repository\n",
    "models/delay/model.yaml": "name: delay\n",
    "models/delay/manifest.yaml": "version: 1.0.0\n",
    "models/delay/old.json": "{}\n",
    "notes.txt": "line 1\n",
}


@dataclass(frozen=True)
class Clone:
    """One person's clone, seen through the plain git program."""

    top: Path

    @property
    def repository(self) -> Repository:
        return Repository.open(self.top)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.top, capture_output=True, text=True, check=True)
        return done.stdout.rstrip("\n")

    def write(self, path: str, text: str) -> Path:
        file = self.top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def commit(self, path: str, text: str, message: str = "by hand") -> str:
        self.write(path, text)
        self.git("add", path)
        self.git("commit", "-qm", message, "--", path)
        return self.git("rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def _own_git_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "gitconfig"
    config.write_text("[user]\nname = Ada\nemail = ada@example.com\n[init]\ndefaultBranch = main\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def remote(tmp_path: Path) -> Clone:
    """The bare repository that all push to, with one commit."""
    bare = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True)
    seed = Clone(tmp_path / "seed")
    seed.top.mkdir()
    seed.git("init", "-q", "-b", "main")
    for path, text in FIRST_FILES.items():
        seed.write(path, text)
    seed.git("add", "-A")
    seed.git("commit", "-qm", "First commit")
    seed.git("push", "-q", str(bare), "main")
    return Clone(bare)


@pytest.fixture
def new_clone(tmp_path: Path, remote: Clone) -> Callable[[str], Clone]:
    def make(name: str) -> Clone:
        subprocess.run(["git", "clone", "-q", str(remote.top), str(tmp_path / name)], check=True)
        return Clone(tmp_path / name)

    return make


@pytest.fixture
def clone(new_clone: Callable[[str], Clone]) -> Clone:
    return new_clone("clone")


DVC_CONFIG = """\
[core]
    analytics = false
    check_update = false
    remote = store
['remote "store"']
    url = {url}
"""

# Two stages over a `wdir` at the top, as every model has; the second needs the first.
DVC_YAML = """\
stages:
  prepare:
    wdir: ../..
    cmd: python prepare.py
    deps: [prepare.py, params.txt]
    outs: [models/delay/prepared]
  train:
    wdir: ../..
    cmd: python train.py
    deps: [train.py, models/delay/prepared]
    outs: [models/delay/model.skops]
    metrics:
      - models/delay/metrics.json: {cache: false}
"""
PREPARE = """\
import pathlib
folder = pathlib.Path("models/delay/prepared")
folder.mkdir(parents=True, exist_ok=True)
(folder / "train.txt").write_text(pathlib.Path("params.txt").read_text())
print("prepared rows: 3")
"""
TRAIN = """\
import pathlib
rows = pathlib.Path("models/delay/prepared/train.txt").read_text()
pathlib.Path("models/delay/model.skops").write_text("model of " + rows)
pathlib.Path("models/delay/metrics.json").write_text("{}")
print("trained")
"""


@pytest.fixture
def project(clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """The clone with DVC, a DVC remote and one pipeline that has not run yet."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site-cache"))
    clone.write(".dvc/config", DVC_CONFIG.format(url=tmp_path / "store"))
    clone.write(".dvc/.gitignore", "/config.local\n/tmp\n/cache\n")
    clone.write("models/delay/dvc.yaml", DVC_YAML)
    clone.write("prepare.py", PREPARE)
    clone.write("train.py", TRAIN)
    clone.write("params.txt", "1\n")
    clone.git("add", "-A")
    clone.git("commit", "-qm", "A pipeline")
    clone.git("push", "-q")
    return clone
