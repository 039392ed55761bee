"""What a model's stages need, from the DVC remote into a fresh clone: its data, and what they made last.

With what they made last a retraining finds out that nothing has changed, and trains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coalmine.datasets.lookups import datasets_of
from coalmine.operations.ingest import partitions_folder
from coalmine.operations.workspace import Tell, Workspace
from coalmine.spec import load_model_spec


@dataclass(frozen=True)
class Pulled:
    """datasets: name to DVC's digest of its partitions."""

    model: str
    commit: str
    datasets: dict[str, str]


def pull(workspace: Workspace, model: str, tell: Tell) -> Pulled:
    """
    Raises:
        NotFound: no such model, or a file that the remote does not have.
        RemoteUnavailable: safe to repeat.
    """
    spec = load_model_spec(workspace.top, model)
    folders = [Path("models") / model, *(Path("data") / name for name in datasets_of(spec))]
    made = [folder / "dvc.yaml" for folder in folders if (workspace.top / folder / "dvc.lock").exists()]
    digests, pointers = {}, []
    for name in datasets_of(spec):
        folder = partitions_folder(name)
        pointer = folder.with_name(f"{folder.name}.dvc")
        if (workspace.top / pointer).exists():
            pointers.append(pointer)
            digests[name] = workspace.dvc.dataset_digest(folder)
    workspace.dvc.pull([*pointers, *made])
    for name, digest in digests.items():
        tell(f"data/{name}: {digest}")
    return Pulled(model, workspace.repository.head(), digests)
