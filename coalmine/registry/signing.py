"""This clone's key for commits and tags: Git's own settings, `gpg.format ssh` and `user.signingkey`.

Git signs the commits itself. A tag is signed here, because `git tag` would set it before the commit's branch
moves; the bytes are the same. Nobody is asked for a passphrase: a key that has one belongs into the agent.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from coalmine.errors import MachineUnready
from coalmine.registry.repository import Repository
from coalmine.signatures.sshsig import GIT

_PROGRAM = "ssh-keygen"
_SETTINGS = r"^(gpg\.format|user\.signingkey|gpg\.ssh\.program)$"
_LITERAL = ("key::", "ssh-", "ecdsa-", "sk-")  # the key itself, not a file
_SIGNS_WITHIN_S = 60.0  # a hardware key waits to be touched


@dataclass(frozen=True)
class SigningKey:
    """name: as `user.signingkey` has it: a file, or the public key itself, whose other half the agent has."""

    top: Path
    name: str
    program: str = _PROGRAM

    def require_usable(self) -> None:
        """
        Raises:
            MachineUnready: it cannot sign; why, and what to do.
        """
        self.sign(b"")

    def sign(self, content: bytes) -> bytes:
        """The signature over `content` as Git appends it, with a line break at its end.

        Raises:
            MachineUnready: as `require_usable`.
        """
        with tempfile.TemporaryDirectory(prefix="coalmine-signing-") as folder:
            payload = Path(folder, "payload")
            payload.write_bytes(content)
            command = [self.program, "-Y", "sign", "-n", GIT, "-f", self._file(Path(folder)), str(payload)]
            try:
                ran = subprocess.run(
                    command,
                    cwd=self.top,
                    env={**os.environ, "SSH_ASKPASS_REQUIRE": "never"},
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    start_new_session=True,  # without a terminal, on which it would wait for a passphrase
                    timeout=_SIGNS_WITHIN_S,
                    check=False,
                )
            except FileNotFoundError as error:
                raise MachineUnready(
                    f"There is no `{self.program}` on this machine, with which Git signs commits (gpg.format "
                    "ssh). Install OpenSSH's client"
                ) from error
            except subprocess.TimeoutExpired as error:
                raise self._cannot(f"it gave no answer within {_SIGNS_WITHIN_S:g} s") from error
            if ran.returncode != 0:
                raise self._cannot(" ".join(ran.stderr.decode(errors="replace").split()))
            return Path(folder, "payload.sig").read_bytes()

    def _file(self, folder: Path) -> str:
        if not self.name.startswith(_LITERAL):
            return os.path.expanduser(self.name)
        key = folder / "key.pub"
        key.write_text(self.name.removeprefix("key::") + "\n", encoding="utf-8")
        return str(key)

    def _cannot(self, why: str) -> MachineUnready:
        return MachineUnready(
            f"The key {self.name}, with which Git signs in {self.top} (user.signingkey), cannot sign. If it "
            "has a passphrase, give it to the agent: ssh-add KEY. Another key: git config user.signingkey "
            f"FILE. {self.program} said: {why}"
        )


def signing_key(repository: Repository) -> SigningKey | None:
    """None: Git is not told to sign with an SSH key here."""
    told = repository.try_git("config", "-z", "--get-regexp", _SETTINGS).text
    settings = dict(
        entry.split("\n", 1) for entry in told.split("\0") if "\n" in entry
    )  # the last one counts
    name = settings.get("user.signingkey")
    if settings.get("gpg.format") != "ssh" or not name:
        return None
    return SigningKey(repository.top, name, settings.get("gpg.ssh.program") or _PROGRAM)
