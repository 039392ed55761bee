"""What differs between a release as it was recorded and as it was built again, by its cause.

Pure: two `dvc.lock` files, as YAML gives them, go in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Cause(StrEnum):
    """In the order in which one explains the next."""

    DATA = "data"
    CODE = "code"
    PARAMETERS = "parameters"
    ENVIRONMENT = "environment"
    DIGEST = "digest"  # same inputs, other bytes


_ORDER = tuple(Cause)
_NONE = "nothing"


@dataclass(frozen=True)
class Difference:
    """what: a file, a parameter or a library."""

    cause: Cause
    what: str
    recorded: str
    found: str

    def __str__(self) -> str:
        return f"{self.cause}: {self.what} is {self.found}, and {self.recorded} in the record"


def by_cause(differences: list[Difference]) -> tuple[Difference, ...]:
    """Each once, what explains the others first."""
    return tuple(sorted(dict.fromkeys(differences), key=lambda found: _ORDER.index(found.cause)))


def lock_differences(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Difference]:
    """What the stages of two dvc.lock files were given and made, by DVC's digests."""
    before, after = recorded.get("stages") or {}, found.get("stages") or {}
    made = {out["path"] for stage in (*before.values(), *after.values()) for out in stage.get("outs", ())}
    for name in dict.fromkeys([*before, *after]):
        was, now = before.get(name, {}), after.get(name, {})
        yield from _differing(
            Cause.CODE, {f"stage {name}": was.get("cmd")}, {f"stage {name}": now.get("cmd")}
        )
        yield from _differing(Cause.PARAMETERS, _parameters(was), _parameters(now))
        for path, old, new in _pairs(_digests(was, "deps"), _digests(now, "deps")):
            if path not in made:
                yield Difference(_cause(path), path, old, new)
        yield from _differing(Cause.DIGEST, _digests(was, "outs"), _digests(now, "outs"))


def _cause(dependency: str) -> Cause:
    """Rows and what was found in them are data; what people wrote comes with the commit of the code."""
    is_data = dependency.startswith("data/") and not dependency.endswith(".yaml")
    return Cause.DATA if is_data else Cause.CODE


def _differing(cause: Cause, recorded: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Difference]:
    for what, old, new in _pairs(recorded, found):
        yield Difference(cause, what, old, new)


def _pairs(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for key in dict.fromkeys([*recorded, *found]):
        old, new = recorded.get(key, _NONE), found.get(key, _NONE)
        if old != new:
            yield key, str(old), str(new)


def _digests(stage: Mapping[str, Any], part: str) -> dict[str, str]:
    return {each["path"]: each.get("md5", _NONE) for each in stage.get(part, ())}


def _parameters(stage: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{key} of {path}": value
        for path, values in stage.get("params", {}).items()
        for key, value in values.items()
    }
