"""Pull requests: by the Git host's own program (`gh`, `glab`), by the push, or by a person at a URL."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit

HostKind = Literal["github", "gitlab"]
_ANSWERS_WITHIN_S = 60.0
_SHORT = re.compile(r"(?:[^@/]+@)?(?P<host>[^:/]+):(?P<path>[^/].*)")  # as ssh takes it: git@host:owner/name


@dataclass(frozen=True)
class PullRequest:
    """The branch `source`, which the branch `target` is to take in."""

    source: str
    target: str
    title: str
    body: str


@dataclass(frozen=True)
class GitHost:
    """kind: None: one that this module does not know, or no host at all."""

    kind: HostKind | None
    host: str
    path: str  # of the repository on it: owner/name

    @classmethod
    def of(cls, address: str, kind: HostKind | None = None) -> GitHost:
        """address: of the Git remote. kind: where its name does not tell."""
        short = _SHORT.fullmatch(address)
        if short is not None and "://" not in address:
            host, path = short["host"], short["path"]
        else:
            host, path = urlsplit(address).hostname or "", urlsplit(address).path
        path = path.strip("/").removesuffix(".git")
        kinds: tuple[HostKind, ...] = ("github", "gitlab")
        return cls(kind or next((each for each in kinds if each in host), None), host, path)

    @property
    def program(self) -> str | None:
        """The host's own, where this machine has it."""
        wanted = {"github": "gh", "gitlab": "glab"}.get(self.kind or "")
        return wanted and shutil.which(wanted)

    def push_options(self, request: PullRequest) -> tuple[str, ...]:
        """What makes the push itself open the pull request, where no program does."""
        if self.kind != "gitlab" or self.program is not None:
            return ()
        return (
            "merge_request.create",
            f"merge_request.target={request.target}",
            f"merge_request.title={request.title}",
        )

    def open(self, request: PullRequest, top: Path) -> str:
        """Open it, if it is not open; what is to be said of it, as a sentence without a full stop."""
        if self.program is not None:
            return self._by_program(self.program, request, top)
        if self.kind == "gitlab":
            return f"The merge request of {request.source} is asked for: {self._url(request)}"
        if self.kind == "github":
            return f"Open the pull request: {self._url(request)}"
        return f"Open a pull request of the branch {request.source} to {request.target}"

    def _by_program(self, program: str, request: PullRequest, top: Path) -> str:
        repository = f"{self.host}/{self.path}"
        if self.kind == "github":
            where = ["--repo", repository, "--head", request.source, "--base", request.target]
            listed = ["pr", "list", *where, "--state", "open", "--json", "url", "--jq", ".[0].url // empty"]
            create = ["pr", "create", *where, "--title", request.title, "--body", request.body]
        else:
            where = ["--repo", f"https://{repository}", "--source-branch", request.source]
            listed = ["mr", "list", *where, "--target-branch", request.target]
            create = ["mr", "create", *where, "--target-branch", request.target, "--yes"]
            create += ["--title", request.title, "--description", request.body]
        found = _run([program, *listed], top)
        url = _url_in(found.stdout)
        if found.returncode == 0 and url is not None:
            return f"The pull request waits: {url}"
        made = _run([program, *create], top)
        if made.returncode == 0:
            return f"The pull request waits: {_url_in(made.stdout) or self._url(request)}"
        said = " ".join((made.stderr or made.stdout).split())
        return f"{Path(program).name} opens no pull request ({said}). Open it: {self._url(request)}"

    def _url(self, request: PullRequest) -> str:
        """Where a person opens it."""
        source, target = quote(request.source, safe=""), quote(request.target, safe="")
        if self.kind == "gitlab":
            asked = f"merge_request[source_branch]={source}&merge_request[target_branch]={target}"
            return f"https://{self.host}/{self.path}/-/merge_requests/new?{asked}"
        return f"https://{self.host}/{self.path}/compare/{target}...{source}?expand=1"


def _run(command: Sequence[str], top: Path) -> subprocess.CompletedProcess[str]:
    """It never asks: nobody may be there to answer."""
    try:
        return subprocess.run(
            command,
            cwd=top,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ANSWERS_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def _url_in(text: str) -> str | None:
    found = re.search(r"https?://\S+", text)
    return found and found[0]
