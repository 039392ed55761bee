"""Events in a file, one JSON object a line; older ones beside it as <file>.1 to <file>.4.

Several servers may write to one file: both slots of a model do. Each holds the file's lock while it
appends, and looks whether another has put a new file in its place. What stands after the last
newline was written by a process that died: whoever writes next cuts it off. Lines are not
forced to the disk one by one, so a power cut may take the last ones.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from coalmine.durable import whole_bytes
from coalmine.errors import InputError
from coalmine.serving.payloads.events import Event, as_line
from coalmine.serving.payloads.sink import SinkFailed

MAX_FILE_BYTES = 64 * 2**20
OLDER_FILES = 4

_BEGINNING = b'{"specversion"'


class FileSink:
    batch = 64

    def __init__(self, path: Path) -> None:
        """
        Raises:
            InputError: the file cannot be made or written, or is another kind of file.
        """
        self._path = path
        self._file: IO[bytes] | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked() as file:
                self._require_payload_log(file)
                file.truncate(whole_bytes(file))
        except InputError:
            self.close()
            raise
        except OSError as error:
            raise InputError(
                f"--payload-sink {path} cannot be written: {error.strerror or error}. Name a file in a "
                "folder that this server may write to, or an http(s) URL"
            ) from error

    def write(self, events: Sequence[Event]) -> None:
        lines = b"".join(map(as_line, events))
        try:
            self._rotate_before(len(lines))
            with self._locked() as file:
                _append(file, lines)
        except OSError as error:
            raise SinkFailed(error.strerror or type(error).__name__) from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        """The file that has the name now, with nobody else writing."""
        while True:
            if self._file is None:
                # For its owner alone, since it holds what users sent.
                descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
                self._file = os.fdopen(descriptor, "ab+", 0)
            file = self._file
            fcntl.flock(file, fcntl.LOCK_EX)
            if _has_name(file, self._path):
                break
            file.close()
            self._file = None
        try:
            yield file
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)

    def _rotate_before(self, more: int) -> None:
        with self._locked() as file:
            size = file.seek(0, os.SEEK_END)
            if size == 0 or size + more <= MAX_FILE_BYTES:
                return
            for number in range(OLDER_FILES, 1, -1):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(self._numbered(number - 1), self._numbered(number))
            os.replace(self._path, self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _require_payload_log(self, file: IO[bytes]) -> None:
        file.seek(0)
        if not _BEGINNING.startswith(file.read(len(_BEGINNING))):
            raise InputError(
                f"--payload-sink {self._path} is there and is no payload log: name a file of its own"
            )


def _append(file: IO[bytes], lines: bytes) -> None:
    """All of `lines`, or, if the disk is full, nothing."""
    size = whole_bytes(file)
    file.truncate(size)
    rest = memoryview(lines)
    try:
        while rest:
            rest = rest[os.write(file.fileno(), rest) :]
    except OSError:
        file.truncate(size)
        raise


def _has_name(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
