"""A model that is made of something that has changed in Git since it was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from coalmine.triggers.cause import Cause


@dataclass(frozen=True)
class Edit:
    """One file of what a model is made of, and the commit that changed it. author: "Name <mail>".

    keys: of the YAML file, where the model is made of single ones.
    """

    path: Path
    keys: tuple[str, ...]
    commit: str
    author: str

    def __str__(self) -> str:
        what = f"{', '.join(self.keys)} in {self.path}" if self.keys else str(self.path)
        return f"{what} by {self.author} in {self.commit[:12]}"


def cause_of(edits: Sequence[Edit]) -> Cause:
    """edits: one or more, those of the newest commit first; its author is who retrains."""
    newest = edits[0]
    because = f"changed since it was trained: {'; '.join(map(str, edits))}"
    return Cause(kind="change", who=newest.author, because=because, key=f"change-{newest.commit}")


def version_that_changed(versions: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> int:
    """The newest of a file's versions, which come newest first, that changed one of `keys`.

    Where none of them did, what reads the file has changed: the newest.
    """
    for number, (newer, older) in enumerate(pairwise(versions)):
        # A nested key is DVC's own way to write one: `estimator.params`.
        if any(newer.get(key.split(".")[0]) != older.get(key.split(".")[0]) for key in keys):
            return number
    return 0
