"""allowed_signers and revoked_signers: whose key it is, and whether it counted when something was signed.

Both are OpenSSH's own formats (ssh-keygen(1), ALLOWED SIGNERS), so that `git log --show-signature` and
`ssh-keygen -Y verify` read them too:

    dana@example.com namespaces="git",valid-before="20270101Z" ssh-ed25519 AAAA...
    runner@example.com ssh-ed25519 AAAA...

A time without a Z is UTC here too, so that a record says the same everywhere. Certificates are not taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from coalmine.errors import IntegrityError, SpecError
from coalmine.signatures.sshsig import GIT, PublicKey, parse_public_key, signed_by

ALLOWED, REVOKED = Path("allowed_signers"), Path("revoked_signers")

_KEY = r"(?:ssh|ecdsa|sk)-[\w@.-]+ \S+(?: .*)?"
_LINE = re.compile(
    rf'(?P<principals>"[^"]+"|\S+)[ \t]+(?:(?P<options>(?!{_KEY})(?:[^ \t"]|"[^"]*")+)[ \t]+)?(?P<key>{_KEY})'
)
_OPTION = re.compile(r'(?P<name>[a-z-]+)="(?P<value>[^"]*)"(?:,|$)', re.IGNORECASE)
_OPTIONS = ("namespaces", "valid-after", "valid-before")
_TIMES = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


class Standing(StrEnum):
    """What a signature is worth."""

    GOOD = "good"
    UNSIGNED = "unsigned"
    BROKEN = "broken"  # not over these bytes, or not to be read
    UNKNOWN = "unknown"  # good, and by a key that nobody listed
    REVOKED = "revoked"
    OUTSIDE = "outside"  # by a listed key, before or after its time


@dataclass(frozen=True)
class Checked:
    """principal: whose key it is, as far as that is known. words: what was seen, as a clause."""

    standing: Standing
    principal: str | None
    words: str

    @property
    def is_good(self) -> bool:
        return self.standing is Standing.GOOD


@dataclass(frozen=True)
class AllowedKey:
    """principals: as the file has them. after, before: None where the key is not bounded there."""

    principals: str
    key: PublicKey
    after: datetime | None = None
    before: datetime | None = None


@dataclass(frozen=True)
class Signers:
    """Those who may sign commits and tags, and the keys that count no more, whenever they signed."""

    allowed: tuple[AllowedKey, ...] = ()
    revoked: frozenset[PublicKey] = frozenset()

    def check(self, signature: bytes | None, payload: bytes, at: datetime) -> Checked:
        """What `signature` over `payload`, which was made at `at`, is worth; None: there is none."""
        if signature is None:
            return Checked(Standing.UNSIGNED, None, "no signature")
        try:
            key = signed_by(signature, payload, GIT)
        except IntegrityError as error:
            return Checked(Standing.BROKEN, None, str(error))
        return self._of_key(key, at)

    def _of_key(self, key: PublicKey, at: datetime) -> Checked:
        listed = [each for each in self.allowed if each.key == key]
        principal = listed[0].principals if listed else None
        owner = f"the key {key.fingerprint}" + (f" of {principal}" if principal else "")
        if key in self.revoked:
            return Checked(Standing.REVOKED, principal, f"{owner}, which {REVOKED} holds")
        if not listed:
            return Checked(Standing.UNKNOWN, None, f"{owner}, which {ALLOWED} does not hold")
        for each in listed:
            if (each.after is None or at >= each.after) and (each.before is None or at <= each.before):
                return Checked(Standing.GOOD, each.principals, owner)
        bounds = " and ".join(
            f"{word} {bound:%Y-%m-%d %H:%M} UTC"
            for word, bound in (("from", listed[0].after), ("until", listed[0].before))
            if bound is not None
        )
        return Checked(
            Standing.OUTSIDE, principal, f"{owner} on {at.astimezone(UTC):%Y-%m-%d}, which counts {bounds}"
        )


def parse_signers(allowed: str, revoked: str, where: str = "") -> Signers:
    """
    where: what is said behind a file's name in an error, such as " at commit 0123".

    Raises:
        SpecError: names file and line.
    """
    listed = [each for line, name in _lines(allowed, f"{ALLOWED}{where}") if (each := _allowed(line, name))]
    return Signers(
        tuple(listed),
        frozenset(_key(line.split(), name) for line, name in _lines(revoked, f"{REVOKED}{where}")),
    )


def _lines(text: str, name: str) -> Iterator[tuple[str, str]]:
    """Each line that says something, and where it stands."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip(), f"{name}, line {number}"


def _allowed(line: str, where: str) -> AllowedKey | None:
    """None: a key for other things than Git."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise SpecError(
            f"{where}: write who it is, perhaps options, and the key, as in "
            "dana@example.com ssh-ed25519 AAAA..."
        )
    options = _options(match["options"] or "", where)
    key = _key(match["key"].split(), where)
    namespaces = options.get("namespaces")
    if namespaces is not None and GIT not in namespaces.split(","):
        return None
    principals = match["principals"].strip('"')
    return AllowedKey(
        principals, key, _time(options, "valid-after", where), _time(options, "valid-before", where)
    )


def _options(text: str, where: str) -> dict[str, str]:
    options: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _OPTION.match(text, at)
        name = match["name"].lower() if match else text[at:]
        if match is None or name not in _OPTIONS or name in options:
            takes = ", ".join(_OPTIONS)
            raise SpecError(
                f"{where}: the option {name} cannot be taken. There are {takes}, each once and with a value "
                "in quotes; a certificate authority is none: list the keys themselves"
            )
        options[name] = match["value"]
        at = match.end()
    return options


def _key(words: list[str], where: str) -> PublicKey:
    try:
        return parse_public_key(*words[:2])
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"{where}: that is no public key as ssh-keygen writes it, of a kind that signs: {error}"
        ) from error


def _time(options: Mapping[str, str], name: str, where: str) -> datetime | None:
    text = options.get(name)
    if text is None:
        return None
    digits = text.removesuffix("Z")
    try:
        return datetime.strptime(digits, _TIMES[len(digits)]).replace(tzinfo=UTC)
    except (KeyError, ValueError) as error:
        raise SpecError(
            f"{where}: {name} is a time as in 20270101Z, 202701011200Z or 20270101120000Z, not {text}"
        ) from error
