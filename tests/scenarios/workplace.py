"""A user's repository in a folder of its own, seen through the command line and plain Git."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from coalmine.local.stack import LocalStack
from coalmine.settings import Environment
from tests.ports import reserved_port

MODEL, DATASET = "late-payment", "loans"
WITHIN_S = 150.0
LAUNCHER = Path(__file__).with_name("killed.py")


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Workplace:
    """env: what its commands find in their environment beside everything else."""

    top: Path
    env: Mapping[str, str] = field(default_factory=dict)

    # --- coalmine ----------------------------------------------------------------------

    def run(self, *words: str, status: int = 0, cwd: Path | None = None) -> Ran:
        """`coalmine words`, which must end with `status` and never with a trace."""
        process = self.start(*words, cwd=cwd)
        ran = self.ended(process)
        assert ran.status == status, f"coalmine {' '.join(words)}: {ran}"
        return ran

    def start(self, *words: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        """`coalmine words` as the head of a process group of its own."""
        return self._python("-m", "coalmine.cli", *words, cwd=cwd)

    def ended(self, process: subprocess.Popen[str], within_s: float = WITHIN_S) -> Ran:
        out, err = process.communicate(timeout=within_s)
        assert "Traceback" not in err, err
        return Ran(process.returncode, out, err)

    def run_killed(self, point: str, *words: str) -> None:
        """`coalmine words`, ended by SIGKILL at `point` (see killed.py)."""
        process = self._python(str(LAUNCHER), point, *words)
        out, err = process.communicate(timeout=WITHIN_S)
        assert process.returncode == -signal.SIGKILL, f"never came to: {point}\n{out}\n{err}"

    def dvc(self, *words: str) -> Ran:
        ran = self.ended(self._python("-m", "dvc", *words))
        assert ran.status == 0, ran
        return ran

    def _python(self, *words: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=cwd or self.top,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # As in a person's shell: what a script starts in its background is deaf to Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    # --- Git ---------------------------------------------------------------------------

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.top, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"git {' '.join(words)}: {done.stderr}"
        return done.stdout.rstrip("\n")

    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def pushed(self) -> str:
        """The commit that the remote's branch holds."""
        return self.git("ls-remote", "origin", "refs/heads/main").split()[0]

    def tags(self) -> dict[str, str]:
        """Tag to the subject of the commit that it stands on; the same on the remote."""
        names = self.git("tag").split()
        there = {line.split("refs/tags/")[1].removesuffix("^{}") for line in self._remote_tags()}
        assert there == set(names)
        return {name: self.git("log", "-1", "--format=%s", f"{name}^{{commit}}") for name in names}

    def _remote_tags(self) -> list[str]:
        return self.git("ls-remote", "--tags", "origin").splitlines()

    def trailers(self, commit: str = "HEAD") -> dict[str, str]:
        lines = self.git("log", "-1", "--format=%(trailers:only,unfold)", commit).splitlines()
        pairs = (line.partition(": ") for line in lines if line)
        return {key: value for key, _, value in pairs}

    def subjects(self, since: str) -> list[str]:
        """Oldest first."""
        return self.git("log", "--reverse", "--format=%s", f"{since}..HEAD").splitlines()

    def files_of(self, commit: str = "HEAD") -> set[str]:
        """The files that the commit changed."""
        return set(self.git("show", "--format=", "--name-only", commit).split())

    def commit(self, message: str) -> None:
        """Everything that a person has changed, pushed."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        self.git("push", "--quiet")

    # --- files -------------------------------------------------------------------------

    def read_yaml(self, path: str) -> Any:
        return yaml.safe_load((self.top / path).read_text(encoding="utf-8"))

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.top / path).read_text(encoding="utf-8")
        assert old in text, f"{path} has no {old!r}"
        (self.top / path).write_text(text.replace(old, new), encoding="utf-8")

    @property
    def slots(self) -> dict[str, Any]:
        """Role to version, as the working tree has it."""
        content = self.read_yaml(f"k8s/environments/local/{MODEL}/slots.yaml")
        return {
            role: content[role] and content["releases"][content[role]]["version"]
            for role in ("stable", "candidate")
        }

    # --- users -------------------------------------------------------------------------

    @property
    def address(self) -> str:
        return str(self.read_yaml("coalmine.yaml")["environments"]["local"]["address"])

    @property
    def url(self) -> str:
        return f"http://{self.address}/v2/models/{MODEL}/infer"

    def weights(self) -> dict[str, int]:
        """Version to percent of the users, as the route shows it."""
        (status,) = self.run("status", "--json").json
        assert status["weights"] is not None, status
        weights: dict[str, int] = status["weights"]
        return weights


def copied(template: Path, into: Path) -> Workplace:
    """`template` as another person's repository: remotes and address of its own."""
    shutil.copytree(template, into, symlinks=True)
    work = Workplace(into)
    work.git("remote", "set-url", "origin", str(into / ".coalmine/remotes/git.git"))
    settings = into / "coalmine.yaml"
    address = f"address: 127.0.0.1:{reserved_port()}"
    settings.write_text(re.sub(r"address: \S+", address, settings.read_text(encoding="utf-8")))
    work.commit("Serve on a port of one's own")
    return work


@contextmanager
def stopped_at_the_end(work: Workplace) -> Iterator[Workplace]:
    try:
        yield work
    finally:
        # Not by the command, which a story may have left without a readable coalmine.yaml.
        LocalStack(work.top, "local", Environment()).down()


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C: the terminal sends it to the whole group."""
    os.killpg(process.pid, signal.SIGINT)
