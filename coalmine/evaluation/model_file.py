"""Model files: skops archives whose bytes depend on the model alone.

skops writes what is fine to load but differs from run to run: memory addresses as ids and
member names, the clock in the zip entries, sets in hash order, and whatever memory held in the
padding of structured arrays (trees). `dump` rewrites the archive so that equal models are
equal bytes, which is what a digest in a lock file or a manifest promises.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from skops.io.exceptions import UnsupportedTypeException, UntrustedTypesFoundException

from coalmine.errors import IntegrityError, SpecError

_SCHEMA = "schema.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip archive can hold
_SHARED_BY_VALUE = {"JsonNode", "TypeNode"}  # immutable: whether two of them were one object is chance


def dump(model: Any, path: Path) -> None:
    """Law: equal models give equal bytes, in any process.

    Raises:
        SpecError: the model holds something that skops cannot save.
    """
    try:
        archive = skops.io.dumps(model)
    except (UnsupportedTypeException, TypeError) as error:
        raise SpecError(
            f"the fitted {type(model).__name__} cannot be saved: {error}. "
            "Attributes of a transformer of your own must be numbers, texts, arrays, lists or dictionaries"
        ) from error
    path.write_bytes(_canonical(archive))


def load(path: Path, trusted: Sequence[str]) -> Any:
    """The model in `path`; nothing beyond skops' safe list and `trusted` is built.

    Raises:
        IntegrityError: a type that is not trusted, code that is not there, or no model at all.
    """
    try:
        return skops.io.load(path, trusted=list(trusted))
    except UntrustedTypesFoundException as error:
        raise IntegrityError(
            f"{path} holds types that its release does not name as trusted, so it was not loaded: {error}"
        ) from error
    except (ImportError, AttributeError) as error:
        raise IntegrityError(
            f"{path} needs code that is not here ({error}). Load it beside the code of its own release"
        ) from error
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise IntegrityError(f"{path} is not a model file that this coalmine reads: {error}") from error


def untrusted_types(path: Path) -> tuple[str, ...]:
    """What a loader must trust by name, sorted."""
    return tuple(sorted(skops.io.get_untrusted_types(file=path)))


def _canonical(archive: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        schema = json.loads(source.read(_SCHEMA))
        _sort_sets(schema)
        members = _renumber(schema)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as target:
            # Stored, not deflated: zlib's output differs between its versions.
            target.writestr(_entry(_SCHEMA), json.dumps(schema, separators=(",", ":")))
            for old, new in members.items():
                target.writestr(_entry(new), _without_padding(source.read(old)))
    return buffer.getvalue()


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every node of a skops schema, in the order of the file."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if "__loader__" in item:
                yield item
            pending.extend(reversed(item.values()))
        elif isinstance(item, list):
            pending.extend(reversed(item))


def _sort_sets(schema: dict[str, Any]) -> None:
    for node in _nodes(schema):
        if node["__loader__"] == "SetNode":
            node["content"].sort(key=_text_without_ids)


def _text_without_ids(value: Any) -> str:
    def bare(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: bare(inner) for key, inner in item.items() if key != "__id__"}
        return [bare(inner) for inner in item] if isinstance(item, list) else item

    return json.dumps(bare(value), sort_keys=True)


def _renumber(schema: dict[str, Any]) -> dict[str, str]:
    """Number the ids and members by first mention; the members' old names and new ones.

    Objects that were one stay one, since skops rebuilds what it saw twice only once.
    """
    ids: dict[Any, int] = {}
    members: dict[str, str] = {}
    for node in _nodes(schema):
        if "__id__" in node:
            identity = node["__id__"]
            if node["__loader__"] in _SHARED_BY_VALUE:
                identity = (node["__loader__"], node["__module__"], node["__class__"], node.get("content"))
            node["__id__"] = ids.setdefault(identity, len(ids) + 1)
        if "file" in node:
            suffix = Path(node["file"]).suffix
            node["file"] = members.setdefault(node["file"], f"{len(members) + 1:06d}{suffix}")
    return members


def _without_padding(member: bytes) -> bytes:
    """`member`, with zeros between the fields when it is an array of records."""
    if not member.startswith(b"\x93NUMPY"):
        return member
    array = np.load(io.BytesIO(member), allow_pickle=False)
    if array.dtype.names is None:
        return member
    clean = np.zeros(array.shape, array.dtype)  # zeros_like leaves the padding as it found it
    for name in array.dtype.names:
        clean[name] = array[name]
    buffer = io.BytesIO()
    np.save(buffer, clean, allow_pickle=False)
    return buffer.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = 3  # the same on every system
    entry.external_attr = 0o644 << 16
    return entry
