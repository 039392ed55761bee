"""Environments of other people's programs: one from each lock file here, made once a machine.

They are kept in pytest's cache by the lock's content, so that `make clean` removes them and a new
lock makes a new one. Two test runs at once wait for each other instead of making the same one.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def python_of(name: str, cache: Path) -> Path:
    """The interpreter of the environment that `name`.lock describes, made under `cache` if need be."""
    lock = HERE / f"{name}.lock"
    key = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = cache / f"{name}-{key}"
    python, whole = folder / "bin" / "python", folder / ".whole"
    with (cache / f"{name}.making").open("w") as making:
        fcntl.flock(making, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)
            _uv("venv", "--python", sys.executable, str(folder))
            _uv("pip", "sync", "--require-hashes", "--python", str(python), str(lock))
            whole.touch()
    return python


def _uv(*arguments: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    ended = subprocess.run([uv, "--quiet", *arguments], capture_output=True, text=True)
    if ended.returncode == 0:
        return
    if "Failed to fetch" in ended.stderr:
        pytest.skip(f"the package index cannot be reached: {ended.stderr.strip().splitlines()[0]}")
    raise AssertionError(f"uv {' '.join(arguments)}: {ended.stderr}")
