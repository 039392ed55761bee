"""allowed_signers and revoked_signers mean here what they mean to ssh-keygen."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coalmine.errors import SpecError
from coalmine.signatures.signers import Standing, parse_signers
from tests.keys import Key, make_key

MESSAGE = b"a release\n"
JUNE = datetime(2026, 6, 15, 12, tzinfo=UTC)


@pytest.fixture
def dana(tmp_path: Path) -> Key:
    return make_key(tmp_path, "dana@example.com")


@pytest.mark.parametrize(
    ("options", "standing"),
    [
        ("", Standing.GOOD),
        ('namespaces="git"', Standing.GOOD),
        ('namespaces="file,git"', Standing.GOOD),
        ('namespaces="file"', Standing.UNKNOWN),
        ('valid-after="20260601Z"', Standing.GOOD),
        ('valid-after="20260615120000Z"', Standing.GOOD),
        ('valid-after="202606151201Z"', Standing.OUTSIDE),
        ('valid-before="20260615120000Z"', Standing.GOOD),
        ('valid-before="20260615115959Z"', Standing.OUTSIDE),
        ('namespaces="git",valid-after="20260101Z",valid-before="20270101Z"', Standing.GOOD),
        ('valid-before="20260101Z"', Standing.OUTSIDE),
    ],
)
def test_options_bound_a_key_as_ssh_keygen_says(
    tmp_path: Path, dana: Key, options: str, standing: Standing
) -> None:
    signature = dana.sign(MESSAGE)
    allowed = f"# who may sign\n\n{dana.listed(options)}"
    checked = parse_signers(allowed, "").check(signature, MESSAGE, JUNE)
    assert checked.standing is standing
    (tmp_path / "allowed").write_text(allowed)
    (tmp_path / "sig").write_bytes(signature)
    words = ["ssh-keygen", "-Y", "verify", "-n", "git", "-I", dana.principal, "-f", "allowed", "-s", "sig"]
    words.append(f"-Overify-time={JUNE:%Y%m%d%H%M%S}Z")
    asked = subprocess.run(words, cwd=tmp_path, input=MESSAGE, capture_output=True)
    assert (asked.returncode == 0) == checked.is_good


def test_a_rotated_key_counts_for_its_time_and_the_new_one_after_it(tmp_path: Path, dana: Key) -> None:
    new = make_key(tmp_path, "new@example.com")
    listed = (
        dana.listed('valid-before="20260601Z"') + f'dana@example.com valid-after="20260601Z" {new.public}\n'
    )
    signers = parse_signers(listed, "")
    may = datetime(2026, 5, 1, tzinfo=UTC)
    found = [signers.check(key.sign(MESSAGE), MESSAGE, at) for key in (dana, new) for at in (may, JUNE)]
    assert [each.standing for each in found] == [
        Standing.GOOD,
        Standing.OUTSIDE,
        Standing.OUTSIDE,
        Standing.GOOD,
    ]
    assert {each.principal for each in found} == {"dana@example.com"}
    assert "until 2026-06-01 00:00 UTC" in found[1].words


def test_a_revoked_key_never_counted(dana: Key) -> None:
    signers = parse_signers(dana.listed(), f"{dana.public} stolen in May\n")
    checked = signers.check(dana.sign(MESSAGE), MESSAGE, JUNE)
    assert (checked.standing, checked.principal) == (Standing.REVOKED, dana.principal)


def test_nobody_is_not_somebody(dana: Key) -> None:
    signers = parse_signers(dana.listed(), "")
    assert signers.check(None, MESSAGE, JUNE).standing is Standing.UNSIGNED
    assert signers.check(b"", MESSAGE, JUNE).standing is Standing.BROKEN
    assert parse_signers("", "").check(dana.sign(MESSAGE), MESSAGE, JUNE).standing is Standing.UNKNOWN


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("dana@example.com", "line 2: write who it is"),
        ("dana@example.com ssh-ed25519 AAAA", "line 2: that is no public key"),
        ("dana@example.com ssh-rsa {key}", "line 2: that is no public key"),
        ("dana@example.com cert-authority ssh-ed25519 {key}", "certificate authority"),
        ('dana@example.com valid-before="tomorrow" ssh-ed25519 {key}', "valid-before is a time"),
        ('dana@example.com valid-before="20261301Z" ssh-ed25519 {key}', "valid-before is a time"),
        ("dana@example.com valid-before=20270101Z ssh-ed25519 {key}", "with a value in quotes"),
        ('dana@example.com namespaces="git",namespaces="file" ssh-ed25519 {key}', "each once"),
        ("ssh-ed25519 {key}", "line 2: write who it is"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(dana: Key, line: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        parse_signers(f"# a comment\n{line.format(key=dana.public.split()[1])}\n", "")


def test_a_quoted_principal_and_a_comment_are_read(dana: Key) -> None:
    signers = parse_signers(f'"Dana Reyes"   namespaces="git"\t{dana.public} her laptop, 2026\n', "")
    assert signers.check(dana.sign(MESSAGE), MESSAGE, JUNE).principal == "Dana Reyes"
