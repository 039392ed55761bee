"""Who asked for a step, and what proves it."""

from __future__ import annotations

from coalmine.manifest import Trigger
from coalmine.operations.workspace import Workspace


def person(workspace: Workspace) -> Trigger:
    """The person at this terminal, as Git knows them: claimed, not proven."""
    return Trigger(kind="person", who=workspace.repository.identity(), proof="claimed")
