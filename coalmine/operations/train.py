"""Step 2: the DVC stages: validate the datasets; prepare, tune, train, evaluate and compile the
model.

The stages themselves are in pipelines/ and know nothing of this; `dvc repro` by hand gives the
same lock and the same digests.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coalmine.operations.workspace import Tell, Workspace


@dataclass(frozen=True)
class Stages:
    """ran: the stages of which anything that they depend on had changed."""

    ran: tuple[str, ...]


def validate(workspace: Workspace, dataset: str, tell: Tell) -> Stages:
    """Check every partition of `dataset` again, if any has changed.

    Raises:
        InputError: the stage refused its input; the message is the stage's own.
        AlreadyRunning: another DVC command holds the lock.
    """
    return _reproduce(workspace, Path("data") / dataset, tell)


def train(workspace: Workspace, model: str, tell: Tell) -> Stages:
    """Prepare, tune, train, evaluate and compile `model`, as far as anything has changed.

    All in one DVC process: each start of DVC costs about a second.

    Raises:
        InputError: a stage refused its input; the message is the stage's own.
        AlreadyRunning: another DVC command holds the lock.
    """
    return _reproduce(workspace, Path("models") / model, tell)


def _reproduce(workspace: Workspace, folder: Path, tell: Tell) -> Stages:
    runs = workspace.dvc.reproduce(folder / "dvc.yaml")
    ran = tuple(run.name for run in runs if run.ran)
    tell(f"{folder}: {', '.join(ran)} done." if ran else f"{folder}: nothing changed.")
    return Stages(ran)
