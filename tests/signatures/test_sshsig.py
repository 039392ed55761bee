"""What ssh-keygen signs is what is read here; whatever else is in its place is refused."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from coalmine.errors import IntegrityError
from coalmine.signatures.sshsig import BEGIN, END, parse_public_key, signed_by
from tests.keys import Key, make_key

MESSAGE = b"tree 4b825dc\n\nA release\n"


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return make_key(tmp_path, "dana@example.com")


@pytest.mark.parametrize(
    ("kind", "bits"), [("ed25519", None), ("ecdsa", 256), ("ecdsa", 384), ("ecdsa", 521), ("rsa", 2048)]
)
def test_every_kind_of_key_that_ssh_keygen_makes(tmp_path: Path, kind: str, bits: int | None) -> None:
    key = make_key(tmp_path, "dana@example.com", kind=kind, bits=bits)
    signer = signed_by(key.sign(MESSAGE), MESSAGE, "git")
    assert signer == parse_public_key(*key.public.split())
    told = subprocess.run(["ssh-keygen", "-lf", key.file], capture_output=True, text=True, check=True)
    assert signer.fingerprint in told.stdout.split()


def test_other_bytes_are_not_what_was_signed(key: Key) -> None:
    signature = key.sign(MESSAGE)
    for other in (MESSAGE + b"x", MESSAGE[:-1], b""):
        with pytest.raises(IntegrityError, match="over other bytes"):
            signed_by(signature, other, "git")


def test_a_signature_for_something_else_proves_nothing(key: Key) -> None:
    with pytest.raises(IntegrityError, match="made for `file`"):
        signed_by(key.sign(MESSAGE, "file"), MESSAGE, "git")


def test_no_changed_bit_of_a_signature_passes(key: Key) -> None:
    armored = key.sign(MESSAGE)
    content = bytearray(base64.b64decode(b"".join(armored.splitlines()[1:-1])))
    signer = signed_by(armored, MESSAGE, "git")
    for at in range(len(content)):
        changed = content.copy()
        changed[at] ^= 1
        with pytest.raises(IntegrityError):
            signed_by(_armored(bytes(changed)), MESSAGE, "git")
    with pytest.raises(IntegrityError, match="something follows it"):
        signed_by(_armored(bytes(content) + b"\0"), MESSAGE, "git")
    assert signed_by(_armored(bytes(content)), MESSAGE, "git") == signer


@pytest.mark.parametrize(
    "armored",
    [
        b"",
        b"-----BEGIN PGP SIGNATURE-----\nAAAA\n-----END PGP SIGNATURE-----\n",
        BEGIN + b"\n" + END,
        BEGIN + b"\nnot base64!\n" + END,
        BEGIN + b"\nU1NIU0lH\n" + END,
    ],
    ids=["nothing", "PGP", "empty", "no base64", "cut short"],
)
def test_what_is_no_ssh_signature_is_refused(armored: bytes) -> None:
    with pytest.raises(IntegrityError, match="its signature does not hold"):
        signed_by(armored, MESSAGE, "git")


@pytest.mark.parametrize("flags", [1, 0], ids=["touched", "not touched"])
def test_a_hardware_key_signs_too(tmp_path: Path, flags: int) -> None:
    """Without the hardware: its format (OpenSSH's PROTOCOL.u2f) around a key of ours; ssh-keygen agrees."""
    private, application = Ed25519PrivateKey.generate(), b"ssh:"
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    kind = b"sk-ssh-ed25519@openssh.com"
    blob = _string(kind) + _string(public) + _string(application)
    signed = b"SSHSIG" + b"".join(map(_string, (b"git", b"", b"sha512", hashlib.sha512(MESSAGE).digest())))
    state = bytes([flags]) + (7).to_bytes(4)
    value = private.sign(hashlib.sha256(application).digest() + state + hashlib.sha256(signed).digest())
    signature = _string(kind) + _string(value) + state
    content = b"SSHSIG" + (1).to_bytes(4)
    content += b"".join(map(_string, (blob, b"git", b"", b"sha512", signature)))
    armored = _armored(content)
    (tmp_path / "sig").write_bytes(armored + b"\n")
    (tmp_path / "allowed").write_bytes(b"dana " + kind + b" " + base64.b64encode(blob) + b"\n")
    words = ["ssh-keygen", "-Y", "verify", "-n", "git", "-I", "dana", "-f", "allowed", "-s", "sig"]
    subprocess.run(words, cwd=tmp_path, input=MESSAGE, capture_output=True, check=True)
    assert signed_by(armored, MESSAGE, "git").blob == blob
    with pytest.raises(IntegrityError, match="over other bytes"):
        signed_by(armored, MESSAGE + b"x", "git")


def _armored(content: bytes) -> bytes:
    return b"\n".join((BEGIN, base64.b64encode(content), END))


def _string(content: bytes) -> bytes:
    return len(content).to_bytes(4) + content
