"""Python as it is in the model server's image, for a process with this folder on its PYTHONPATH: what
requirements-serving.lock does not name is not there.
"""

from __future__ import annotations

import re
import sys
from importlib.abc import MetaPathFinder
from importlib.metadata import packages_distributions
from pathlib import Path

LOCK = Path(__file__).parents[3] / "requirements-serving.lock"
LOCKED = {"coalmine", *re.findall(r"^([a-z0-9.-]+)==", LOCK.read_text(encoding="utf-8"), re.MULTILINE)}


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


class _Absent(MetaPathFinder):
    """Finds nothing of `modules`, by their names at the top."""

    def __init__(self, modules: set[str]) -> None:
        self._modules = modules

    def find_spec(self, name: str, *_: object) -> None:
        if (top := name.partition(".")[0]) in self._modules:
            raise ModuleNotFoundError(f"No module named {top!r}", name=name)


_of = packages_distributions()
_absent = {top for top, among in _of.items() if LOCKED.isdisjoint(map(_normal, among))}
sys.meta_path.insert(0, _Absent(_absent))
