"""The Python and the libraries that a release was trained with, and a place that has them.

coalmine itself is in no package index: what builds again is the coalmine that runs, and where that is
another version than the recorded one, the answer says so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import coalmine
from coalmine.errors import MachineUnready, NotFound
from coalmine.operations.differences import Cause, Difference

LOCK = Path("requirements-pipelines.lock")
_NOT_INSTALLED = "not installed"
_ASK = """
import json, platform, sys
from importlib.metadata import PackageNotFoundError, version
def of(name):
    try:
        return platform.python_version() if name == "python" else version(name)
    except PackageNotFoundError:
        return None
print(json.dumps({name: of(name) for name in sys.argv[1:]}))
"""


def library_differences(recorded: Mapping[str, str], python: Path) -> list[Difference]:
    """Where the versions that `python` has are not the recorded ones.

    recorded: library, or "python", to version.
    """
    asked = subprocess.run([python, "-c", _ASK, *recorded], capture_output=True, text=True, check=True)
    found: dict[str, str | None] = json.loads(asked.stdout)
    return [
        Difference(Cause.ENVIRONMENT, name, version, found[name] or _NOT_INSTALLED)
        for name, version in recorded.items()
        if found[name] != version
    ]


def recorded_python(recorded: Mapping[str, str], top: Path, into: Path) -> Path:
    """An interpreter in the new virtual environment `into`, with what the lock file of `top` names.

    Raises:
        NotFound: that commit has no lock file.
        MachineUnready: there is no uv, or it cannot make the environment; with its words.
    """
    if not (top / LOCK).is_file():
        raise NotFound(
            f"The code of this release has no {LOCK}, which names its libraries. Run this with them instead: "
            + ", ".join(f"{name} {version}" for name, version in recorded.items())
        )
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    uv = shutil.which("uv", path=path)
    if uv is None:
        raise MachineUnready("There is no uv, which makes the environment of a release: pip install uv")
    python = into / "bin/python"
    _run(uv, "venv", "--quiet", "--python", recorded["python"], str(into))
    _run(uv, "pip", "sync", "--quiet", "--python", str(python), str(top / LOCK))
    ours = into / "coalmine"
    shutil.copytree(
        Path(coalmine.__file__).parent, ours / "coalmine", ignore=shutil.ignore_patterns("__pycache__")
    )
    (site,) = into.glob("lib/python*/site-packages")
    (site / "coalmine.pth").write_text(f"{ours}\n", encoding="utf-8")
    return python


def _run(*command: str) -> None:
    # Without ours, which would win over the lock file's.
    environment = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if ran.returncode != 0:
        raise MachineUnready(
            f"uv cannot make the environment of this release. Mend what it says and run again: "
            f"{ran.stderr.strip()}"
        )
