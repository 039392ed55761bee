"""Commits and annotated tags as Git signs them: what was signed, by which signature, when it was made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from coalmine.errors import RepositoryUnready
from coalmine.registry.repository import Repository
from coalmine.signatures.signers import Checked, Signers
from coalmine.signatures.sshsig import BEGIN

_MADE = re.compile(rb"^(?:committer|tagger) .*> (\d+) [+-]\d{4}$", re.MULTILINE)
_SIGNATURE = b"gpgsig "


@dataclass(frozen=True)
class SignedObject:
    """payload: what the signature is over: all but itself. signature: None where there is none. at: when it
    was committed or tagged, as it says."""

    payload: bytes
    signature: bytes | None
    at: datetime

    def checked(self, signers: Signers) -> Checked:
        return signers.check(self.signature, self.payload, self.at)

    def says(self, header: str) -> str:
        """The first value of a header of a tag: `object`, `tag`; "" where there is none."""
        begin = f"{header} ".encode()
        lines = (line for line in self.payload.partition(b"\n\n")[0].split(b"\n"))
        return next(
            (line[len(begin) :].decode(errors="replace") for line in lines if line.startswith(begin)), ""
        )


def read_signed(repository: Repository, names: Iterable[str]) -> Iterator[SignedObject]:
    """The commits and tags `names`, in order; one git process for a thousand.

    Raises:
        RepositoryUnready: one is not in this clone.
    """
    asked = list(names)
    for name, content in zip(asked, repository.read_all(asked), strict=True):
        if content is None:
            raise RepositoryUnready(
                f"{repository.top} lacks the object {name}: take a whole clone (git clone URL)"
            )
        yield parse_signed(content)


def signers_of(repository: Repository, commits: Iterable[str], signers: Signers) -> dict[str, str]:
    """Commit to principal, of those whose signature counts."""
    asked = list(commits) if signers.allowed else []
    checked = (each.checked(signers) for each in read_signed(repository, asked))
    return {
        commit: each.principal
        for commit, each in zip(asked, checked, strict=True)
        if each.is_good and each.principal is not None
    }


def parse_signed(content: bytes) -> SignedObject:
    """content: a commit or a tag, as `git cat-file` prints it."""
    head, _, message = content.partition(b"\n\n")
    if head.startswith(b"object "):
        at = _tag_signature(content)
        payload, signature = (content, None) if at is None else (content[:at], content[at:])
    else:
        kept, signature = _without_signature(head)
        payload = kept + b"\n\n" + message
    made = _MADE.search(head)
    return SignedObject(payload, signature, datetime.fromtimestamp(int(made[1]) if made else 0, UTC))


def _without_signature(head: bytes) -> tuple[bytes, bytes | None]:
    """A commit's header without its signature, whose further lines begin with a space."""
    kept: list[bytes] = []
    signature: list[bytes] | None = None
    inside = False
    for line in head.split(b"\n"):
        if line.startswith(_SIGNATURE) and signature is None:
            signature, inside = [line.removeprefix(_SIGNATURE)], True
        elif inside and signature is not None and line.startswith(b" "):
            signature.append(line[1:])
        else:
            inside = False
            kept.append(line)
    return b"\n".join(kept), None if signature is None else b"\n".join(signature)


def _tag_signature(content: bytes) -> int | None:
    """Where the signature at a tag's end begins."""
    at = content.rfind(b"\n" + BEGIN)
    return None if at < 0 else at + 1
