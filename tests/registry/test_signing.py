"""What `publish` makes is signed where Git is told to sign, and git itself says so."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from coalmine.errors import MachineUnready
from coalmine.registry.commits import Change, Tag, catch_up, publish
from coalmine.registry.signed_objects import parse_signed, read_signed
from coalmine.signatures.signers import Standing, parse_signers
from tests.keys import Key, make_key
from tests.registry.conftest import Clone

MANIFEST = "models/delay/manifest.yaml"
TAG = "delay@v1.1.0"
CHANGE = Change(
    (Path(MANIFEST),), "Release delay 1.1.0", trailers={"Model": "delay"}, tags=(Tag(TAG, "delay 1.1.0"),)
)


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return make_key(tmp_path, "ada@example.com")


def use(clone: Clone, key: Key, signing_key: str | None = None) -> None:
    for name, value in {**key.git, "user.signingkey": signing_key or str(key.file)}.items():
        clone.git("config", name, value)


def release(clone: Clone, text: str = "version: 1.1.0\n") -> str:
    clone.write(MANIFEST, text)
    return publish(clone.repository, CHANGE, "origin", "main")


def trusting(clone: Clone, key: Key) -> list[str]:
    """Git's own settings to check by."""
    allowed = clone.top.with_name("allowed")
    allowed.write_text(key.listed())
    return ["-c", f"gpg.ssh.allowedSignersFile={allowed}"]


def test_commit_and_tag_are_signed_as_git_signs_them(clone: Clone, key: Key) -> None:
    use(clone, key)
    commit = release(clone)
    trust = trusting(clone, key)
    assert clone.git(*trust, "log", "-1", "--format=%G? %GS", commit) == "G ada@example.com"
    clone.git(*trust, "verify-tag", TAG)
    signed = list(read_signed(clone.repository, [commit, f"refs/tags/{TAG}"]))
    signers = parse_signers(key.listed(), "")
    assert [each.checked(signers).principal for each in signed] == [key.principal] * 2
    assert (signed[1].says("tag"), signed[1].says("object")) == (TAG, commit)


def test_without_a_key_nothing_is_signed(clone: Clone, remote: Clone) -> None:
    commit = release(clone)
    assert "gpgsig" not in remote.git("cat-file", "commit", commit)
    assert "SIGNATURE" not in remote.git("cat-file", "tag", TAG)


@pytest.mark.parametrize("form", ["public file", "the key itself", "home"])
def test_the_key_is_named_as_git_lets_people_name_it(
    clone: Clone, key: Key, form: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if form == "the key itself":  # its other half is in the agent
        told = subprocess.run(
            ["ssh-agent", "-s", "-a", str(tmp_path / "agent")], capture_output=True, text=True
        )
        pid = next(line for line in told.stdout.split(";") if "SSH_AGENT_PID=" in line).partition("=")[2]
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        monkeypatch.setenv("SSH_AGENT_PID", pid)
        subprocess.run(["ssh-add", "-q", str(key.file)], check=True)
    monkeypatch.setenv("HOME", str(key.file.parent))
    name = {
        "public file": f"{key.file}.pub",
        "the key itself": f"key::{key.public}",
        "home": f"~/{key.file.name}",
    }[form]
    use(clone, key, name)
    try:
        commit = release(clone)
    finally:
        if form == "the key itself":
            subprocess.run(["ssh-agent", "-k"], check=True, capture_output=True)
    (signed,) = read_signed(clone.repository, [commit])
    assert signed.checked(parse_signers(key.listed(), "")).is_good


def test_a_commit_that_is_made_anew_on_top_of_others_is_signed_anew(
    new_clone: Callable[[str], Clone], key: Key
) -> None:
    ours, others = new_clone("ours"), new_clone("others")
    use(ours, key)
    others.commit("notes.txt", "line 2\n")
    others.git("push", "-q")
    commit = release(ours)
    signers = parse_signers(key.listed(), "")
    signed = read_signed(ours.repository, [commit, f"refs/tags/{TAG}"])
    assert [each.checked(signers).standing for each in signed] == [Standing.GOOD] * 2
    ours.commit("by-hand.txt", "mine\n")
    others.git("pull", "-q")
    others.commit("notes.txt", "line 3\n")
    others.git("push", "-q")
    catch_up(ours.repository, "origin", "main")
    (merge,) = read_signed(ours.repository, ["HEAD"])
    assert merge.checked(signers).is_good


@pytest.mark.parametrize("broken", ["passphrase", "missing", "no program"])
def test_a_key_that_cannot_sign_is_said_before_anything_is_written(
    clone: Clone, tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    key = make_key(tmp_path, "ada@example.com", passphrase="a secret")
    use(clone, key, str(tmp_path / "nowhere") if broken == "missing" else None)
    if broken == "no program":
        clone.git("config", "gpg.ssh.program", "no-such-ssh-keygen")
    before = clone.git("for-each-ref"), clone.git("count-objects")
    says = {"passphrase": "ssh-add", "missing": "No such file", "no program": "Install OpenSSH"}[broken]
    with pytest.raises(MachineUnready, match=says):
        release(clone)
    assert (clone.git("for-each-ref"), clone.git("count-objects")) == before


def test_a_passphrase_that_the_agent_has_is_no_obstacle(
    clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key(tmp_path, "ada@example.com")
    told = subprocess.run(["ssh-agent", "-s", "-a", str(tmp_path / "agent")], capture_output=True, text=True)
    pid = next(line for line in told.stdout.split(";") if "SSH_AGENT_PID=" in line).partition("=")[2]
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    monkeypatch.setenv("SSH_AGENT_PID", pid)
    subprocess.run(["ssh-add", "-q", str(key.file)], check=True)
    change = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "a secret", "-f", str(key.file)]
    subprocess.run(change, check=True, capture_output=True)
    use(clone, key)
    try:
        release(clone)
    finally:
        subprocess.run(["ssh-agent", "-k"], check=True, capture_output=True)


def test_a_person_who_likes_to_see_signatures_reads_the_same_record(clone: Clone, key: Key) -> None:
    use(clone, key)
    release(clone)
    told = list(clone.repository.log())
    clone.git("config", "log.showSignature", "true")
    assert list(clone.repository.log()) == told
    assert told[0].trailers == CHANGE.trailers


def test_a_commit_reads_the_same_with_its_signature_taken_out() -> None:
    text = b"tree t\nauthor A <a@b> 5 +0000\ncommitter A <a@b> 7 +0100\n"
    rest = b"mergetag object o\n type commit\nencoding x\n\nSubject\n\ngpgsig no\n line\n"
    signed = parse_signed(text + b"gpgsig BEGIN\n line\n END\n" + rest)
    assert signed.payload == text + rest
    assert signed.signature == b"BEGIN\nline\nEND"
    assert signed.at.timestamp() == 7
