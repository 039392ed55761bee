"""What is installed in an image: this file runs inside it, by the image's own Python, and prints JSON.

So it imports the standard library alone. It reads what was installed, not what was asked for: the
metadata of every Python distribution in any folder, and the base system's list of packages.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Any

_NOT_FILES = ("proc", "sys", "dev", "run", "tmp")  # the kernel's, and what only this run has
_LICENCE = "License :: OSI Approved :: "


def contents(root: Path) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "system": _os_release(root),
        "distributions": sorted(distributions(root), key=lambda each: (each["name"].lower(), each["path"])),
        "packages": sorted(packages(root), key=lambda each: each["name"]),
    }


def distributions(root: Path) -> Iterator[dict[str, Any]]:
    for folder, names, _ in os.walk(root):
        if Path(folder) == root:
            names[:] = [name for name in names if name not in _NOT_FILES]
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                yield from _distribution(Path(folder) / name, root)


def _distribution(path: Path, root: Path) -> Iterator[dict[str, Any]]:
    metadata = PathDistribution(path).metadata
    if not metadata or metadata["Name"] is None:
        return
    classifiers = metadata.get_all("Classifier") or []
    yield {
        "name": metadata["Name"],
        "version": metadata["Version"],
        "path": f"/{path.relative_to(root).as_posix()}",
        "licence": metadata["License-Expression"],  # an SPDX expression, or None
        "licences": sorted(each.removeprefix(_LICENCE) for each in classifiers if each.startswith(_LICENCE)),
    }


def packages(root: Path) -> Iterator[dict[str, str]]:
    """Debian's, by dpkg's own list; none where the system has no such thing."""
    file = root / "var/lib/dpkg/status"
    if not file.exists():
        return
    for paragraph in file.read_text(encoding="utf-8").split("\n\n"):
        lines = [line.partition(": ") for line in paragraph.splitlines() if not line.startswith(" ")]
        fields = {key: value for key, _, value in lines}
        if fields.get("Status", "").endswith(" installed"):
            yield {
                "name": fields["Package"],
                "version": fields["Version"],
                "architecture": fields["Architecture"],
            }


def _os_release(root: Path) -> dict[str, str]:
    file = root / "etc/os-release"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    pairs = (line.partition("=") for line in lines if "=" in line)
    fields = {key: value.strip('"') for key, _, value in pairs}
    return {"id": fields.get("ID", ""), "version": fields.get("VERSION_ID", "")}


if __name__ == "__main__":
    json.dump(contents(Path(sys.argv[1] if len(sys.argv) > 1 else "/")), sys.stdout, indent=1, sort_keys=True)
