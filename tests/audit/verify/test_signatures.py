"""What `coalmine verify` and `coalmine audit` say of who signed, in a record that requires it since 1.0.0."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coalmine.audit.ledger import read_ledger
from coalmine.audit.verify.findings import Kind
from coalmine.operations.verify import Verified, verify
from coalmine.operations.workspace import Workspace
from coalmine.registry.signed_objects import parse_signed
from tests.audit.conftest import ENVIRONMENT, FIRST, GOOD, MODEL, World, copy_world, make_world
from tests.keys import Key, make_key

ASKS = f"environments:\n  {ENVIRONMENT}: {{signatures: required}}\n  other: {{}}\n"
TAG = f"{MODEL}@v1.1.0"
OF_SIGNATURES = {Kind.UNSIGNED, Kind.SIGNATURE, Kind.SIGNER, Kind.ALLOWED}
Made = tuple[World, dict[str, Key]]


def sign_as(world: World, key: Key | None) -> None:
    for name, value in {"user.signingkey": ""}.items() if key is None else key.git.items():
        world.git("config", name, value)


def by_hand(world: World, files: dict[str, str], *options: str) -> str:
    for path, text in files.items():
        (world.top / path).write_text(text, encoding="utf-8")
    world.git("add", "-A")
    world.git("commit", "-qm", "by hand", *options)
    return world.git("rev-parse", "HEAD")


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("signed")
        world = make_world(folder, patch)
        keys = {name: make_key(folder, f"{name}@example.com") for name in ("ada", "eve")}
        world.promote(FIRST)  # before signatures were asked for
        sign_as(world, keys["ada"])
        by_hand(world, {"allowed_signers": keys["ada"].listed(), "coalmine.yaml": ASKS}, "-S")
        world.promote(GOOD)
    return world, keys


@pytest.fixture
def keys(_made: Made) -> dict[str, Key]:
    return _made[1]


@pytest.fixture
def world(_made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.syspath_prepend(str(tmp_path))  # opening a workspace adds its top
    return copy_world(_made[0], tmp_path / "copy", monkeypatch)


def checked(world: World, **asked: str) -> Verified:
    return verify(Workspace.open(world.top), **asked)


def found(world: World, **asked: str) -> list[tuple[Kind, str]]:
    """Of signatures alone: the fixture's releases have no data."""
    findings = checked(world, **asked).findings
    return [(each.kind, str(each.where)) for each in findings if each.kind in OF_SIGNATURES]


def seen(world: World) -> str:
    return next(each.seen for each in checked(world).findings if each.kind in OF_SIGNATURES)


def test_a_signed_record_holds_and_what_was_before_stays_good(world: World) -> None:
    assert found(world) == []
    # release, hand-over and promotion of 1.1.0, its tag and the assignment's
    assert checked(world).signatures == 5
    assert ", 5 signatures" in checked(world).summary
    assert checked(world, environment="other").signatures == 2  # a release is of no environment


def test_every_kind_of_unsigned_commit_and_tag_is_named(world: World) -> None:
    sign_as(world, None)
    released = world.decide("2.0.0", "release", FIRST.about.triggered_by)
    kept = world.decide("2.0.1", "keep", FIRST.about.triggered_by)
    slots = world.slots().with_candidate(world.releases["2.0.0"])
    put = world.put_slots(
        slots,
        "Put",
        {"Model": MODEL, "Version": "2.0.0", "Environment": ENVIRONMENT, "Decision": "candidate"},
    )
    assert found(world) == [
        *((Kind.UNSIGNED, f"commit {each[:12]}") for each in (released, kept, put)),
        (Kind.UNSIGNED, f"tag {MODEL}@v2.0.0, commit {released[:12]}"),
    ]


def forged(world: World, revision: str, change: Callable[[bytes], bytes]) -> str:
    """The object with other bytes, as who cannot sign makes it."""
    kind = world.git("cat-file", "-t", revision)
    content = subprocess.run(
        ["git", "cat-file", kind, revision], cwd=world.top, check=True, capture_output=True
    ).stdout
    assert change(content) != content
    words = ["git", "hash-object", "-t", kind, "-w", "--stdin"]
    made = subprocess.run(words, cwd=world.top, check=True, capture_output=True, input=change(content))
    return made.stdout.decode().strip()


def test_other_words_under_the_same_signature_are_named(world: World) -> None:
    commit = forged(world, "HEAD", lambda text: text.replace(b"Promote ", b"Promoted "))
    world.git("reset", "-q", "--hard", commit)
    assert found(world) == [(Kind.SIGNATURE, f"commit {commit[:12]}")]
    assert "over other bytes" in seen(world)


def test_the_signature_of_another_commit_is_named(world: World) -> None:
    other = parse_signed(world.git("cat-file", "commit", "HEAD~1").encode() + b"\n").signature
    own = parse_signed(world.git("cat-file", "commit", "HEAD").encode() + b"\n").signature
    assert own is not None
    assert other is not None
    indented = [each.replace(b"\n", b"\n ") for each in (own, other)]
    commit = forged(world, "HEAD", lambda text: text.replace(*indented))
    world.git("reset", "-q", "--hard", commit)
    assert found(world) == [(Kind.SIGNATURE, f"commit {commit[:12]}")]


def test_a_tag_over_another_digest_is_named(world: World) -> None:
    tag = forged(
        world, TAG, lambda text: text.replace(b"1.1.0\n\n", b"1.1.0\n\n").replace(b" 1.1.0", b" 1.1.1")
    )
    world.git("update-ref", f"refs/tags/{TAG}", tag)
    assert [kind for kind, _ in found(world)] == [Kind.SIGNATURE]


def test_a_tag_that_another_has_signed_is_named(world: World, keys: dict[str, Key]) -> None:
    sign_as(world, keys["eve"])
    world.git("tag", "-f", "-s", "-m", "mine", TAG, f"{TAG}^{{}}")
    ((kind, where),) = found(world)
    assert (kind, where.partition(",")[0]) == (Kind.SIGNER, f"tag {TAG}")
    assert "which allowed_signers does not hold" in seen(world)


def test_a_commit_of_one_who_is_not_listed_is_named(world: World, keys: dict[str, Key]) -> None:
    sign_as(world, keys["eve"])
    kept = world.decide("2.0.1", "keep", FIRST.about.triggered_by)
    assert found(world) == [(Kind.SIGNER, f"commit {kept[:12]}")]


def test_a_revoked_key_is_named_wherever_it_signed(world: World, keys: dict[str, Key]) -> None:
    by_hand(world, {"revoked_signers": keys["ada"].public}, "-S")
    assert [kind for kind, _ in found(world)] == [Kind.SIGNER] * 5
    assert "which revoked_signers holds" in seen(world)


def test_a_key_past_its_time_is_named_for_what_came_later(world: World, keys: dict[str, Key]) -> None:
    until = datetime.fromtimestamp(world.now_s, UTC).strftime("%Y%m%d%H%M%SZ")
    by_hand(world, {"allowed_signers": keys["ada"].listed(f'valid-before="{until}"')}, "-S")
    assert found(world) == []
    kept = world.decide("2.0.1", "keep", FIRST.about.triggered_by)
    assert found(world) == [(Kind.SIGNER, f"commit {kept[:12]}")]
    assert "which counts until" in seen(world)


def test_a_change_of_who_may_sign_that_nobody_allowed_has_signed_is_named(
    world: World, keys: dict[str, Key]
) -> None:
    commit = by_hand(world, {"allowed_signers": keys["ada"].listed() + keys["eve"].listed()}, "--no-gpg-sign")
    assert found(world) == [(Kind.ALLOWED, f"allowed_signers, commit {commit[:12]}")]
    sign_as(world, keys["eve"])
    kept = world.decide("2.0.1", "keep", FIRST.about.triggered_by)
    assert (Kind.SIGNER, f"commit {kept[:12]}") in found(world)


def test_the_requirement_is_not_dropped_without_a_signature(world: World) -> None:
    commit = by_hand(world, {"coalmine.yaml": ASKS.replace("required", "optional")}, "--no-gpg-sign")
    sign_as(world, None)
    kept = world.decide("2.0.1", "keep", FIRST.about.triggered_by)
    assert found(world) == [
        (Kind.ALLOWED, f"coalmine.yaml, commit {commit[:12]}"),
        (Kind.UNSIGNED, f"commit {kept[:12]}"),
    ]


def test_a_branch_from_before_the_requirement_needs_signatures_too(world: World) -> None:
    """Else an old branch would be the way around it."""
    first = world.git("rev-list", "--max-parents=0", "HEAD")
    world.git("checkout", "-q", "-b", "side", first)
    trailers = f"Model: {MODEL}\nVersion: 9.0.0\nDecision: keep\nTriggered-By: Eve (person, claimed)"
    world.git("commit", "-q", "--allow-empty", "--no-gpg-sign", "-m", f"Keep\n\n{trailers}")
    commit = world.git("rev-parse", "HEAD")
    world.git("checkout", "-q", "main")
    world.git("merge", "-q", "--no-gpg-sign", "-m", "join", "side")
    assert found(world) == [(Kind.UNSIGNED, f"commit {commit[:12]}")]


# --- who did it ------------------------------------------------------------------------


def test_audit_shows_a_signature_where_the_persons_own_was_checked(
    world: World, keys: dict[str, Key]
) -> None:
    sign_as(world, keys["ada"])
    ada = FIRST.about.triggered_by.model_copy(update={"kind": "person", "who": "Ada <ada@example.com>"})
    world.decide("2.0.1", "keep", ada)
    sam = ada.model_copy(update={"who": "Sam <sam@example.com>", "proof": "claimed"})
    world.decide("2.0.2", "keep", sam)  # asked for by Sam, says Ada's machine
    sign_as(world, keys["eve"])
    world.decide("2.0.3", "keep", ada)
    sign_as(world, None)
    world.decide("2.0.4", "keep", ada.model_copy(update={"proof": "signature"}))  # so it says itself
    proofs = [deed.who.proof for deed in read_ledger(world.repository).deeds[-4:]]
    assert proofs == ["signature", "claimed", ada.proof, "claimed"]
