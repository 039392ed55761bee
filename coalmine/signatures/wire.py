"""The wire format of RFC 4251, in which OpenSSH writes keys and signatures."""

from __future__ import annotations


class Reader:
    """
    Raises, from each method:
        ValueError: the bytes end too early, or too late.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    @property
    def is_left(self) -> bool:
        return self._at < len(self._content)

    def take(self, size: int) -> bytes:
        taken = self._content[self._at : self._at + size]
        if len(taken) != size:
            raise ValueError("it is cut short")
        self._at += size
        return taken

    def number(self) -> int:
        return int.from_bytes(self.take(4))

    def string(self) -> bytes:
        return self.take(self.number())

    def end(self) -> None:
        if self.is_left:
            raise ValueError("something follows it")
