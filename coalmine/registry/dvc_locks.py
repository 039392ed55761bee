"""DVC's own locks: who holds one, and those whose holder has ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvc.repo import Repo


def forget_ended(repo: Repo) -> None:
    """Drop DVC's locks of processes that have ended and that nobody has reaped.

    DVC takes them for alive. In a container whose first process reaps nobody, a killed
    retraining would lock its model for ever. A file that cannot be read goes as a whole: DVC
    writes it in place, so that is what a process killed in the middle of writing leaves.
    """
    import psutil
    from dvc.lock import make_lock

    def ended(holder: dict[str, Any]) -> bool:
        try:
            return bool(psutil.Process(holder["pid"]).status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True

    locks = Path(repo.tmp_dir) / "rwlock"
    hardlink = repo.config["core"].get("hardlink_lock", False)
    with make_lock(f"{locks}.lock", tmp_dir=repo.tmp_dir, hardlink_lock=hardlink):  # as every writer does
        try:
            held = json.loads(locks.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except ValueError:
            locks.unlink()
            return
        writers = {path: holder for path, holder in held.get("write", {}).items() if not ended(holder)}
        readers = {path: [h for h in hs if not ended(h)] for path, hs in held.get("read", {}).items()}
        kept = {"write": writers, "read": {path: holders for path, holders in readers.items() if holders}}
        if kept != held:
            locks.write_text(json.dumps(kept), encoding="utf-8")


def held_by(top: Path, said: str) -> str:
    """DVC names the process for locks on single files; for the lock on all, its file does."""
    try:
        pid = (top / ".dvc/tmp/lock").read_text(encoding="utf-8").strip()
    except OSError:
        pid = ""
    if "PID" in said or not pid:
        return f"Another DVC command is at work in {top}: {said}"
    return f"Another DVC command is at work in {top}: process {pid}. Wait for it, or end it: kill {pid}"
