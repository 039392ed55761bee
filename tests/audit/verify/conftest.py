from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from coalmine.operations.verify import Verified, verify
from coalmine.operations.workspace import Workspace
from tests.simulators.history import FastImport, History


@dataclass(frozen=True)
class Moment:
    """Where main and the tags stood."""

    commit: str
    tags: frozenset[str]


@dataclass(frozen=True)
class Shop:
    """A clone with releases and rollouts of two models, and the DVC remote beside it, to tamper with."""

    folder: Path
    moments: Mapping[str, Moment]

    @property
    def top(self) -> Path:
        return self.folder / "work"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.top, capture_output=True, text=True, check=True, input=stdin
        )
        return done.stdout.strip()

    def read(self, path: str) -> str:
        return (self.top / path).read_text(encoding="utf-8")

    def write(self, files: Mapping[str, str | bytes | None]) -> None:
        for path, content in files.items():
            place = self.top / path
            if content is None:
                place.unlink()
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, files: Mapping[str, str | bytes | None], message: str = "by hand") -> str:
        self.write(files)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-F", "-", stdin=message)
        return self.head

    def edit(self, path: str, old: str, new: str, message: str = "by hand") -> str:
        """`old` in the file, which must be there, by `new`, in a commit."""
        text = self.read(path)
        assert old in text
        return self.commit({path: text.replace(old, new)}, message)

    def amend(self, files: Mapping[str, str | bytes | None], old: str = "", new: str = "") -> None:
        """HEAD made anew with other files, and `new` for `old` in its message; its own tags follow, as with
        somebody who knows how."""
        was, message = self.head, self.git("log", "-1", "--format=%B")
        assert old in message
        self.write(files)
        self.git("add", "-A")
        self.git("commit", "-q", "--amend", "-F", "-", stdin=message.replace(old, new) if old else message)
        for tag in self.git("tag", "--points-at", was).split():
            self.retag(tag, self.head)

    def retag(self, tag: str, commit: str) -> None:
        self.git("tag", "-f", "-a", "-m", tag, tag, commit)

    def go_back_to(self, moment: str) -> Shop:
        """As if nothing had happened since."""
        then = self.moments[moment]
        self.git("reset", "-q", "--hard", then.commit)
        for tag in set(self.git("tag").split()) - then.tags:
            self.git("tag", "-d", tag)
        return self

    def verify(
        self,
        model: str | None = None,
        environment: str | None = None,
        *,
        pinned: str | None = None,
        data: bool = False,
    ) -> Verified:
        workspace = Workspace.open(self.top)
        return verify(workspace, model, environment, pinned=pinned, data=data)


def _write(folder: Path) -> dict[str, Moment]:
    moments: dict[str, Moment] = {}
    tags: set[str] = set()
    history = History(FastImport(folder / "work"), folder / "store")

    def moment(name: str, commit: str, *new: str) -> None:
        tags.update(new)
        moments[name] = Moment(commit, frozenset(tags))

    begun = history.begin("delays", "credit")
    moment("begun", begun)
    history.release("delays", "1.0.0")
    history.put("delays", "1.0.0")
    moment("first", history.close("delays", "first"), "delays@v1.0.0", "delays#local#1")
    history.write_code("pipelines/features.py", "# another feature\n")
    moment("released", history.release("delays", "1.1.0"), "delays@v1.1.0")
    moment("handed over", history.put("delays", "1.1.0"))
    moment("promoted", history.close("delays"), "delays#local#2")
    history.take_in("2013-02")
    moment("kept", history.keep("delays", "1.1.0"))
    history.release("delays", "2.0.0")
    history.put("delays", "2.0.0")
    moment("rejected", history.close("delays", "rejected"), "delays@v2.0.0")
    moment("rolled back", history.roll_back("delays", "1.0.0")[-1], "delays#local#3")
    history.release("credit", "1.0.0")
    history.put("credit", "1.0.0")
    other = history.close("credit", "first")
    moment("other model", other, "credit@v1.0.0", "credit#local#1")
    # A person's commit that was not pushed when others were, joined as decision 0005 says.
    side = {"pipelines/joined.py": "# from another branch\n"}
    history.code = history.git.commit("On another branch\n", side, begun)
    moment("joined", history.git.commit("Merge origin/main\n", side, other, history.code))
    moment("end", history.release("delays", "2.1.0"), "delays@v2.1.0")  # and not delivered
    history.git.close()
    return moments


@pytest.fixture(scope="session")
def _written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Moment]]:
    folder = tmp_path_factory.mktemp("shop")
    return folder, _write(folder)


@pytest.fixture
def shop(_written: tuple[Path, dict[str, Moment]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    (tmp_path / "gitconfig").write_text("[user]\nname = Eve\nemail = eve@example.com\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    shutil.copytree(_written[0], tmp_path / "shop")
    return Shop(tmp_path / "shop", _written[1])
