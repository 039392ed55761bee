"""Files that survive SIGKILL and a full disk: replaced whole, or grown by whole lines.

A line counts once its newline is on the disk. What stands after the last newline was being
written when its writer died: readers ignore it, the next writer drops it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from coalmine.errors import IntegrityError, MachineUnready


def replace_text(path: Path, text: str) -> None:
    """`replace_bytes`, in UTF-8."""
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, content: bytes) -> None:
    """`path` holds `content`, or, if this is cut short, what it held before.

    Raises:
        MachineUnready: the disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)


def replace_json(path: Path, content: object) -> None:
    """`replace_bytes`, as JSON."""
    replace_bytes(path, json.dumps(content, indent=1).encode())


def replace_lines(path: Path, contents: Iterable[Mapping[str, object]]) -> None:
    """`replace_bytes`, by one JSON object per line."""
    replace_text(path, "".join(_line(content) for content in contents))


def append_line(path: Path, content: Mapping[str, object]) -> None:
    """One JSON object more, on the disk when this returns; any number of processes may append.

    Raises:
        MachineUnready: the disk is full, or the folder cannot be written.
    """
    line = _line(content)
    with _writing(path):
        is_new = not path.exists()
        with path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            whole = whole_bytes(file)
            file.truncate(whole)
            try:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(whole)
                raise
        if is_new:
            _sync_folder(path.parent)


def read_lines(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The whole lines from byte `offset` on, and the offset after the last of them. No file, no lines.

    Raises:
        IntegrityError: a whole line that is not a JSON object: somebody edited the file.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read()
    except FileNotFoundError:
        return [], offset
    whole = content[: content.rfind(b"\n") + 1]
    return [_parse(line, path) for line in whole.splitlines()], offset + len(whole)


def _line(content: Mapping[str, object]) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"


def _parse(line: bytes, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except ValueError as error:
        raise _edited(path, line) from error
    if not isinstance(content, dict):
        raise _edited(path, line)
    return content


def _edited(path: Path, line: bytes) -> IntegrityError:
    start = line[:60].decode(errors="replace")
    return IntegrityError(
        f"{path} is written by coalmine, one JSON object per line, and holds a line that is none: `{start}`. "
        "Take that line out, or restore the file from a backup, and run again."
    )


def whole_bytes(file: IO[bytes]) -> int:
    """The length of `file` without a torn last line."""
    length = file.seek(0, os.SEEK_END)
    end = length
    while end > 0:
        start = max(0, end - 65536)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _sync_folder(folder: Path) -> None:
    # Without it a power cut may forget that the file was created or replaced.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MachineUnready(
            f"{path} cannot be written: {error.strerror or error}. "
            "Free disk space or mend the folder's permissions, then run again."
        ) from error
