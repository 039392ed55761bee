"""The texts that a new repository, dataset or model starts with.

The files beside this module are templates with `$name` places; `dataset` and `model` fill in
what depends on the data.
"""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import Any

import yaml


def fill(file: str, /, **values: str) -> str:
    """The starter `file` with `values` in its places."""
    return Template((Path(__file__).parent / file).read_text(encoding="utf-8")).substitute(values)


def flow(content: Any) -> str:
    """`content` as YAML on one line."""
    text: str = yaml.safe_dump(
        content, default_flow_style=True, width=float("inf"), sort_keys=False, allow_unicode=True
    )
    return text.strip()


def scalar(text: str) -> str:
    """`text` as YAML reads it back inside a line: quoted only where it must be."""
    return flow([text])[1:-1]
