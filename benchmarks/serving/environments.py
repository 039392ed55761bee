"""The peers' environments: one for each, from its hash-locked requirements, kept between runs.

`peers/<peer>.in` says what was asked for and why; to resolve it anew, in that folder:
uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \\
  PEER.in -o PEER.lock
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

LOCKS = Path(__file__).parent / "peers"
_UV = Path(sys.executable).parent / "uv"


@dataclass(frozen=True)
class Environment:
    """versions: of every package in it, by name."""

    folder: Path
    versions: dict[str, str]

    def program(self, name: str) -> str:
        return str(self.folder / "bin" / name)


def environment(peer: str, kept_in: Path) -> Environment:
    """Made on first use, which needs the package index; a changed lock file makes another one."""
    lock = LOCKS / f"{peer}.lock"
    digest = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()
    folder = kept_in / f"{peer}-{digest[:12]}"
    if not (whole := folder / "whole").exists():
        print(f"making the environment of {peer} in {folder}", flush=True)
        _uv("venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
        _uv(
            *("pip", "sync", "--quiet", "--compile-bytecode", "--require-hashes"),
            *("--python", str(folder / "bin" / "python"), str(lock)),
        )
        whole.touch()
    listed = json.loads(
        _uv("pip", "list", "--quiet", "--format", "json", "--python", str(folder / "bin" / "python"))
    )
    return Environment(folder, {each["name"]: each["version"] for each in listed})


def _uv(*words: str) -> str:
    ran = subprocess.run([_UV, *words], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        sys.exit(f"uv {' '.join(words)} failed: {ran.stderr}")
    return ran.stdout
