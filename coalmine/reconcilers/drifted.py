"""Where an object as it stands lacks what Git asks for. Pure, over objects as the API server has them.

Only what Git writes is compared: whatever the API server, its controllers or an autoscaler add is theirs. An
amount is the same in any spelling (`250m`, `0.25`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from coalmine.cluster.client import Json

_NAMED_BY = ("name", "containerPort", "port", "mountPath", "topologyKey")
_UNITS = {
    "": 1, "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "k": 1000,
    **{unit: 1000**power for power, unit in enumerate("MGTPE", 2)},
    **{f"{unit}i": 1024**power for power, unit in enumerate("KMGTPE", 1)},
}  # fmt: skip
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([numkMGTPE]?|[KMGTPE]i)")


def lacks(wanted: Json, live: Json) -> Iterator[tuple[str, str, str]]:
    """Field, as Git has it, as it stands; in the order of the fields in Git."""
    for key in ("metadata", "spec", "data"):
        if key in wanted:
            yield from _lacks(key, wanted[key], live.get(key))


def _lacks(path: str, wanted: Any, live: Any) -> Iterator[tuple[str, str, str]]:
    if isinstance(wanted, dict):
        fields = live if isinstance(live, dict) else {}
        for key, value in wanted.items():
            if path != "metadata" or key in ("labels", "annotations"):
                yield from _lacks(f"{path}.{key}", value, fields.get(key))
    elif isinstance(wanted, list) and wanted and isinstance(wanted[0], dict):
        items = live if isinstance(live, list) else []
        for number, value in enumerate(wanted):
            key = next((each for each in _NAMED_BY if each in value), None)
            if key is None:
                found = items[number] if number < len(items) else None
            else:
                found = next((each for each in items if each.get(key) == value[key]), None)
            yield from _lacks(f"{path}[{number if key is None else value[key]}]", value, found)
    elif not _same(wanted, live):
        yield path, _text(wanted), _text(live)


def _same(wanted: Any, live: Any) -> bool:
    if wanted == live or (wanted in (None, "", [], {}) and live in (None, "", [], {})):
        return True
    amounts = _amount(wanted), _amount(live)
    return amounts[0] is not None and amounts[0] == amounts[1]


def _amount(value: Any) -> Decimal | None:
    match = _QUANTITY.fullmatch(str(value))
    return None if match is None or isinstance(value, bool) else Decimal(match[1]) * _UNITS[match[2]]


def _text(value: Any) -> str:
    text = "nothing" if value is None else " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:80]}..."
