"""One signature as `ssh-keygen -Y sign` and Git write it, and the key that made it.

The format is OpenSSH's PROTOCOL.sshsig. A signature names the key that it was made with: that it is good
says nothing yet of whose that key is (`signers`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from coalmine.errors import IntegrityError
from coalmine.signatures.wire import Reader

BEGIN, END = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"
GIT = "git"  # the namespace in which Git signs commits and tags

_MAGIC = b"SSHSIG"
_VERSION = 1
_MESSAGE_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_IN_HARDWARE = b"sk-"


@dataclass(frozen=True)
class PublicKey:
    """blob: the key as OpenSSH's protocols write it; in text it follows its kind in base64."""

    blob: bytes

    @property
    def kind(self) -> bytes:
        return Reader(self.blob).string()

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode()
        return f"SHA256:{digest.rstrip('=')}"


def parse_public_key(kind: str, encoded: str) -> PublicKey:
    """The second and third word of a key's line in OpenSSH's files.

    Raises:
        ValueError: no key of a kind that is checked here.
    """
    key = PublicKey(base64.b64decode(encoded, validate=True))
    if key.kind != kind.encode():
        raise ValueError(f"the key says that it is {key.kind.decode(errors='replace')}, not {kind}")
    from coalmine.signatures.public_keys import load  # needs cryptography, which a model server's image lacks

    load(key.kind, key.blob)
    return key


def signed_by(armored: bytes, message: bytes, namespace: str) -> PublicKey:
    """The key with which `message` was signed for `namespace`.

    Raises:
        IntegrityError: it was not; why, as a clause.
    """
    try:
        return _signed_by(armored, message, namespace.encode())
    except ValueError as error:
        raise IntegrityError(f"its signature does not hold: {error}") from error


def _signed_by(armored: bytes, message: bytes, namespace: bytes) -> PublicKey:
    reader = Reader(_unarmored(armored))
    if reader.take(len(_MAGIC)) != _MAGIC or reader.number() != _VERSION:
        raise ValueError("it is no SSH signature of version 1")
    key = PublicKey(reader.string())
    made_for, reserved, hash_name, signature = (reader.string() for _ in range(4))
    reader.end()
    if made_for != namespace:
        raise ValueError(f"it was made for `{made_for.decode(errors='replace')}`")
    if hash_name not in _MESSAGE_HASHES:
        raise ValueError(f"it uses the hash {hash_name.decode(errors='replace')}")
    digest = _MESSAGE_HASHES[hash_name](message).digest()
    signed = _MAGIC + b"".join(_string(each) for each in (made_for, reserved, hash_name, digest))
    _verify(key, signature, signed)
    return key


def _unarmored(armored: bytes) -> bytes:
    lines = armored.strip().splitlines()
    if len(lines) < 3 or lines[0] != BEGIN or lines[-1] != END:
        raise ValueError("it is no SSH signature")
    try:
        return base64.b64decode(b"".join(lines[1:-1]), validate=True)
    except binascii.Error as error:
        raise ValueError("it is damaged") from error


def _verify(key: PublicKey, signature: bytes, signed: bytes) -> None:
    """
    Raises:
        ValueError: it is not `key`'s over `signed`.
    """
    from coalmine.signatures.public_keys import verify

    reader = Reader(signature)
    algorithm, value = reader.string(), reader.string()
    if key.kind.startswith(_IN_HARDWARE):
        flags, counter = reader.take(1), reader.take(4)
        application = _application(key)
        digests = hashlib.sha256(application).digest(), hashlib.sha256(signed).digest()
        signed = digests[0] + flags + counter + digests[1]
    reader.end()
    verify(key.kind, key.blob, algorithm, value, signed)


def _application(key: PublicKey) -> bytes:
    """For what a hardware key was made: the last part of it."""
    reader = Reader(key.blob)
    parts = []
    while reader.is_left:
        parts.append(reader.string())
    return parts[-1]


def _string(content: bytes) -> bytes:
    return len(content).to_bytes(4) + content
