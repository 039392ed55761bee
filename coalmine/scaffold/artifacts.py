"""The models' names in dvc.yaml, by which GTO and `dvc artifacts get` know them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

FILE = Path("dvc.yaml")


def with_artifact(text: str, name: str, artifact: Mapping[str, Any]) -> str:
    def add(artifacts: CommentedMap) -> None:
        artifacts[name] = artifact

    return _edit_artifacts(text, add)


def without_artifacts(text: str, names: Iterable[str]) -> str:
    def remove(artifacts: CommentedMap) -> None:
        for name in names:
            artifacts.pop(name, None)

    return _edit_artifacts(text, remove)


def _edit_artifacts(text: str, edit: Callable[[CommentedMap], None]) -> str:
    """`text` with another `artifacts`; comments and everything else as they are."""
    yaml = YAML()
    yaml.width = 1000
    content = yaml.load(text) or CommentedMap()
    # An empty mapping is written as {} and would stay on one line for ever.
    artifacts = content.get("artifacts") or CommentedMap()
    edit(artifacts)
    content["artifacts"] = artifacts
    out = io.StringIO()
    yaml.dump(content, out)
    return out.getvalue()
