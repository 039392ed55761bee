"""The page of a rollout, from its journal on this machine."""

from __future__ import annotations

from pathlib import Path

from coalmine.audit import journal
from coalmine.audit.report import write_report
from coalmine.errors import NotFound
from coalmine.operations.champion import release
from coalmine.operations.workspace import Workspace


def newest_report(workspace: Workspace, model: str, environment: str) -> Path:
    """
    Raises:
        NotFound: no rollout of `model` began on this machine.
    """
    folders = journal.rollouts(workspace.top, environment, model)
    if not folders:
        raise NotFound(f"No rollout of {model} in {environment} began on this machine.")
    about = journal.read_about(folders[-1])
    return write_report(folders[-1], release(workspace.repository, model, about.candidate).manifest)
