"""YAML that people write, with one thing changed: comments, quotes and everything else stay as they are."""

from __future__ import annotations

import io
from collections.abc import Callable

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq


def edited(text: str, edit: Callable[[CommentedMap], None]) -> str:
    """`text`, a mapping of keys, after `edit`."""
    yaml = YAML()
    yaml.width = 1000
    yaml.preserve_quotes = True
    content = yaml.load(text) or CommentedMap()
    dash = _dash_column(content)
    yaml.indent(mapping=2, sequence=dash + 2, offset=dash)
    edit(content)
    out = io.StringIO()
    yaml.dump(content, out)
    return out.getvalue()


def mapping(content: CommentedMap, key: str) -> CommentedMap:
    """What stands under `key`, for an edit to add to."""
    # An empty mapping is written as {} and would stay on one line for ever.
    content[key] = content.get(key) or CommentedMap()
    found: CommentedMap = content[key]
    return found


def _dash_column(content: CommentedMap) -> int:
    """How far the dashes of lists stand in from their keys: both ways are common."""
    for value in content.values():
        if isinstance(value, CommentedSeq) and not value.fa.flow_style():
            return int(value.lc.col - content.lc.col)
    return 2
