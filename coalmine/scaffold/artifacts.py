"""The models' names in dvc.yaml, by which GTO and `dvc artifacts get` know them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from coalmine.scaffold.edited import edited, mapping

FILE = Path("dvc.yaml")


def with_artifact(text: str, name: str, artifact: Mapping[str, Any]) -> str:
    def add(content: CommentedMap) -> None:
        mapping(content, "artifacts")[name] = artifact

    return edited(text, add)


def without_artifacts(text: str, names: Iterable[str]) -> str:
    def remove(content: CommentedMap) -> None:
        artifacts = mapping(content, "artifacts")
        for name in names:
            artifacts.pop(name, None)

    return edited(text, remove)
