"""The page of a rollout, from its journal."""

from __future__ import annotations

from pathlib import Path

from coalmine.audit.record import closing_commit
from coalmine.audit.report import Commits, write_report
from coalmine.errors import NotFound
from coalmine.journals import journal
from coalmine.operations.champion import release
from coalmine.operations.environments import open_environment
from coalmine.operations.workspace import Workspace


def newest_report(workspace: Workspace, model: str, environment: str) -> Path:
    """
    Raises:
        NotFound: this machine knows of no rollout of `model`.
    """
    rollouts = open_environment(workspace, environment).rollouts
    rollouts.refresh(model)
    folders = rollouts.folders(model)
    if not folders:
        raise NotFound(f"No rollout of {model} in {environment} began on this machine.")
    return page_of(workspace, folders[-1])


def page_of(workspace: Workspace, folder: Path) -> Path:
    """The page of the rollout in `folder`, written anew."""
    about = journal.read_about(folder)
    released = release(workspace.repository, about.model, about.candidate)
    ending = closing_commit(workspace.repository, about)
    known = Commits(
        code=released.manifest.code,
        release=released.commit,
        ending=None if ending is None else ending.sha,
        remote=workspace.repository.remote_url(workspace.settings.git.remote),
    )
    return write_report(folder, released.manifest, known)
