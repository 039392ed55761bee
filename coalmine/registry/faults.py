"""What this machine cannot do (disk full, no permission), said once for the whole registry."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from coalmine.errors import MachineUnready

_MENDS = {
    errno.ENOSPC: "the disk is full: free some space and run again",
    errno.EDQUOT: "the disk quota is used up: free some space and run again",
    errno.EACCES: "permission denied: give this user the right to write there and run again",
    errno.EPERM: "permission denied: give this user the right to write there and run again",
    errno.EROFS: "the file system is read-only: mount it writable and run again",
}


def is_machine_fault(error: BaseException) -> bool:
    """Whether it is this machine that cannot, rather than what it talks to."""
    return isinstance(error, OSError) and error.errno in _MENDS


def machine_fault(error: OSError, where: Path | str) -> MachineUnready:
    """`error` as the caller's answer; `where` is named when the error itself names no file."""
    mend = _MENDS.get(error.errno or 0, f"{error.strerror or error}: mend it and run again")
    return MachineUnready(f"{error.filename or where}: {mend}.")


def machine_fault_in(words: str, where: Path | str) -> MachineUnready | None:
    """The same for a program that only says it in words on its error output."""
    for number, sign in (
        (errno.ENOSPC, "No space left on device"),
        (errno.EDQUOT, "Disk quota exceeded"),
        (errno.EROFS, "Read-only file system"),
        (errno.EACCES, "Permission denied"),
        (errno.EACCES, "insufficient permission for adding an object"),
    ):
        if sign in words:
            line = next(line for line in words.splitlines() if sign in line)
            return MachineUnready(f"{where}: {_MENDS[number]}. It said: {line.strip()}")
    return None


def without_credentials(words: object) -> str:
    """`words` of a library, in which the address of a remote may stand as its user wrote it."""
    return re.sub(r"(?<=://)[^/\s'\"@]*@", "", str(words))
