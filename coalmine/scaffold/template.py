"""The files of a user's repository, as the wheel packs them.

In a source checkout they are read from where they stand, by the list in pyproject.toml that
the build reads too; so there is no second copy, and nothing generated is ever among them.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import coalmine

_PACKAGE = Path(coalmine.__file__).parent


def template_files() -> dict[Path, str]:
    """Path from the top of the repository to text, sorted by path."""
    packed = _PACKAGE / "template"
    if packed.is_dir():
        root, patterns = packed, ["**/*"]
    else:
        root = _PACKAGE.parent
        patterns = _packed_patterns(root / "pyproject.toml")
    paths = {path for pattern in patterns for path in root.glob(pattern) if path.is_file()}
    # A wheel's installation compiles every .py file that it holds.
    sources = sorted(path for path in paths if path.suffix != ".pyc")
    return {path.relative_to(root): path.read_text(encoding="utf-8") for path in sources}


def _packed_patterns(pyproject: Path) -> list[str]:
    build = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    patterns: list[str] = build["targets"]["wheel"]["hooks"]["custom"]["template"]
    return patterns
