"""JSON Schemas of the files that people write, for editors.

They lie in docs/schemas/ of every repository, so that the comment at the head of model.yaml,
dataset.yaml and coalmine.yaml finds them without a network. The code is their only source.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel

from coalmine.settings import Settings
from coalmine.spec import DatasetSpec, ModelSpec

FOLDER = Path("docs/schemas")

_KINDS: dict[str, type[BaseModel]] = {"model": ModelSpec, "dataset": DatasetSpec, "coalmine": Settings}


def schema_files() -> dict[Path, str]:
    """Path from the top of the repository to text."""
    return {
        FOLDER / f"{name}.json": json.dumps(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **kind.model_json_schema()}, indent=2
        )
        + "\n"
        for name, kind in _KINDS.items()
    }
