"""A clone of the repository for a pod: made once at its start, in a folder that ends with it.

It keeps no credential. Git asks for one whenever it reaches the remote, and the clone's own helper answers
with what the environment holds then, GIT_USERNAME and GIT_PASSWORD, in whichever process that is.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import git

from coalmine.errors import InputError, NotFound, RemoteUnavailable
from coalmine.registry.faults import machine_fault_in, without_credentials
from coalmine.registry.repository import Repository

REMOTE = "origin"
_HELPER = (
    '!f() { test "$1" != get || printf "username=%s\\npassword=%s\\n" "$GIT_USERNAME" "$GIT_PASSWORD"; }; f'
)
_OURS = "coalmine.clone"  # in its configuration: nobody works in it by hand
_SETTINGS = {
    _OURS: "true",
    "user.name": "coalmine",  # commits are its; who asked for them is in their trailers
    "user.email": "coalmine@localhost",
}


def clone(url: str, branch: str, into: Path) -> Repository:
    """`branch` of the repository at `url`, with its tags, in the folder `into`.

    A clone that this made before, in a container that ran before, gives way.

    Raises:
        InputError: `into` holds something else.
        NotFound: the repository has no such branch.
        RemoteUnavailable: it cannot be reached, or takes nobody without credentials.
    """
    if _is_ours(into):
        shutil.rmtree(into)
    if into.exists() and any(into.iterdir()):
        raise InputError(
            f"{into} is not empty, and no clone of this command: name a folder that may be filled"
        )
    half = into.with_name(f"{into.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    settings = dict(_SETTINGS)
    if os.environ.get("GIT_PASSWORD"):
        settings["credential.helper"] = _HELPER
    words = [f"--config={key}={value}" for key, value in settings.items()]
    command = [
        "git",
        "clone",
        "--quiet",
        "--branch",
        branch,
        "--origin",
        REMOTE,
        *words,
        "--",
        url,
        str(half),
    ]
    half.parent.mkdir(parents=True, exist_ok=True)
    status, _, said = git.cmd.Git().execute(
        command, with_extended_output=True, with_exceptions=False, env={"GIT_TERMINAL_PROMPT": "0"}
    )
    if status != 0:
        shutil.rmtree(half, ignore_errors=True)
        raise _fault(url, branch, without_credentials(said).strip(), into)
    if into.exists():
        into.rmdir()
    half.replace(into)
    return Repository.open(into)


def _is_ours(folder: Path) -> bool:
    if not (folder / ".git").is_dir():
        return False
    asked = Repository.open(folder).try_git("config", "--local", "--get", _OURS)
    return asked.text == "true"


def _fault(url: str, branch: str, said: str, into: Path) -> Exception:
    shown = without_credentials(url)
    if f"branch {branch} not found" in said:
        return NotFound(f"{shown} has no branch {branch}. Name the one that releases are recorded on")
    return machine_fault_in(said, into) or RemoteUnavailable(
        f"{shown} cannot be cloned. Run again when it is back; if it wants to know who asks, set "
        f"GIT_USERNAME and GIT_PASSWORD (in a cluster: the Secret `git`). Git said: {said}"
    )
