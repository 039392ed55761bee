"""Keys for signatures, made by the real ssh-keygen, one test's own."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Key:
    """principal: whose it is. file: the private half."""

    principal: str
    file: Path

    @property
    def public(self) -> str:
        """Kind and key, as files list them."""
        return " ".join(Path(f"{self.file}.pub").read_text().split()[:2])

    def listed(self, options: str = "") -> str:
        """Its line in allowed_signers."""
        return " ".join(filter(None, (self.principal, options, self.public))) + "\n"

    @property
    def git(self) -> dict[str, str]:
        """Git's settings, for it to sign with the key."""
        return {"gpg.format": "ssh", "user.signingkey": str(self.file)}

    def sign(self, message: bytes, namespace: str = "git") -> bytes:
        place = self.file.with_name("message")
        place.write_bytes(message)
        signature = Path(f"{place}.sig")
        signature.unlink(missing_ok=True)
        words = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(self.file), str(place)]
        subprocess.run(words, check=True, capture_output=True)
        return signature.read_bytes()


def make_key(
    folder: Path, principal: str, *, kind: str = "ed25519", bits: int | None = None, passphrase: str = ""
) -> Key:
    if shutil.which("ssh-keygen") is None:
        pytest.fail("These tests need OpenSSH's ssh-keygen: install openssh-client", pytrace=False)
    file = folder / f"{principal.partition('@')[0]}-{kind}"
    size = [] if bits is None else ["-b", str(bits)]
    words = ["ssh-keygen", "-q", "-t", kind, *size, "-N", passphrase, "-C", principal, "-f", str(file)]
    subprocess.run(words, check=True, capture_output=True)
    return Key(principal, file)
