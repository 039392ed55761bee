"""YAML as PyYAML's safe loader reads it, in half the time: most of what coalmine reads is texts and mappings.

What is neither text, nor a list, nor a mapping by text, PyYAML constructs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.resolver import BaseResolver, Resolver

_TEXT = BaseResolver.DEFAULT_SCALAR_TAG
_LIST = BaseResolver.DEFAULT_SEQUENCE_TAG
_MAPPING = BaseResolver.DEFAULT_MAPPING_TAG
_RESOLVER: Any = Resolver()

# libyaml reads a manifest ten times faster; where a wheel lacks it, the result is the same.
_SAFE: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SAFE):  # type: ignore[misc]
    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> str:
        if kind is ScalarNode:
            return _tag_of(value) if implicit[0] else _TEXT
        tag: str = super().resolve(kind, value, implicit)
        return tag

    def construct_document(self, node: Node) -> Any:
        try:
            return self._constructed(node, {})
        except RecursionError as error:
            raise ConstructorError(None, None, "nested too deeply", node.start_mark) from error

    def _constructed(self, node: Node, known: dict[Node, Any]) -> Any:
        """known: the lists and mappings so far, which an alias may name again, from within them too."""
        kind, tag = type(node), node.tag
        if kind is ScalarNode and tag == _TEXT:
            return node.value
        if node in known:
            return known[node]
        if kind is SequenceNode and tag == _LIST:
            items = known[node] = []
            items.extend(self._constructed(item, known) for item in node.value)
            return items
        if kind is MappingNode and tag == _MAPPING and all(map(_is_text, node.value)):
            mapping = known[node] = {}
            for key, value in node.value:
                mapping[key.value] = self._constructed(value, known)
            return mapping
        return self.construct_object(node, deep=True)


def _is_text(pair: tuple[Node, Node]) -> bool:
    key, _ = pair
    return type(key) is ScalarNode and key.tag == _TEXT


@lru_cache(maxsize=4096)
def _tag_of(value: str) -> str:
    """Of a scalar without quotes: the same few stand in every file."""
    tag: str = _RESOLVER.resolve(ScalarNode, value, (True, False))
    return tag


YAML_LOADER: type[Any] = _Loader
