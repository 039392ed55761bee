"""Each way to tamper with the record is found, by its kind and its place, and nothing else is."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from coalmine.audit.verify.findings import Kind
from coalmine.slots import SlotPod, dump_slots, parse_slots
from tests.audit.verify.conftest import Shop
from tests.simulators.history import ASKED, message, recording

SLOTS = "k8s/environments/local/delays/slots.yaml"
MANIFEST = "models/delays/manifest.yaml"
EVIDENCE = "models/delays/rollouts/20231114T221320-v1.1.0"
BY_EVE = "by Eve <eve@example.com>"
MODELS_DIGEST = "model_digest: "


@dataclass(frozen=True)
class Tampering:
    """found: each kind, with a part of the place that is named. pinned: the head was written down before."""

    do: Callable[[Shop], object]
    found: dict[Kind, str]
    pinned: bool = False


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def first_line(shop: Shop, path: str, key: str) -> str:
    return next(line for line in shop.read(path).splitlines() if key in line).strip()


# --- releases --------------------------------------------------------------------------


def manifest_in_a_later_commit(shop: Shop) -> None:
    shop.edit(MANIFEST, "value: 0.653", "value: 0.953")


def manifest_in_its_own_commit(shop: Shop) -> None:
    shop.amend({MANIFEST: shop.read(MANIFEST).replace("value: 0.653", "value: 0.953")})


def amended_manifest(shop: Shop, old: str, new: str) -> None:
    """With the digest that belongs to it."""
    text = shop.read(MANIFEST)
    assert old in text
    shop.amend({MANIFEST: text.replace(old, new)}, sha256(text), sha256(text.replace(old, new)))


def version_in_the_manifest(shop: Shop) -> None:
    amended_manifest(shop, "version: 2.1.0", "version: 2.2.0")


def code_that_is_not_there(shop: Shop) -> None:
    amended_manifest(shop, first_line(shop, MANIFEST, "code: "), f"code: {'ab' * 20}")


def code_that_came_later(shop: Shop) -> None:
    shop.go_back_to("released")
    later = shop.moments["kept"].commit
    amended_manifest(shop, first_line(shop, MANIFEST, "code: "), f"code: {later}")


def dataset_in_the_trailer(shop: Shop) -> None:
    amended = shop.git("log", "-1", "--format=%B").split("flights ")[1][:32]
    shop.amend({}, amended, "0" * 32)


def lock_in_the_release(shop: Shop) -> None:
    shop.amend({"models/delays/dvc.lock": "schema: '2.0'\n# another\n"})


def pointer_in_the_release(shop: Shop) -> None:
    shop.amend({"data/flights/partitions.dvc": f"outs:\n- md5: {'9' * 32}.dir\n  path: partitions\n"})


def lock_of_a_kept_champion(shop: Shop) -> None:
    shop.go_back_to("kept").amend({"models/delays/dvc.lock": "schema: '2.0'\n# another\n"})


def trailers_of_a_release(shop: Shop) -> None:
    lock = next(line for line in shop.git("log", "-1", "--format=%B").splitlines() if line.startswith("Lock"))
    shop.amend({}, f"{lock}\n", "")


def release_without_trailers(shop: Shop) -> None:
    shop.edit(MANIFEST, "version: 2.1.0", "version: 2.2.0", "Release delays 2.2.0")
    shop.retag("delays@v2.2.0", shop.head)


def release_of_a_version_again(shop: Shop) -> None:
    told, text = shop.git("log", "-1", "--format=%B"), shop.read(MANIFEST)
    other = text.replace("value: 0.653", "value: 0.953")
    shop.commit({MANIFEST: other}, told.replace(sha256(text), sha256(other)))


def decision_by_hand(shop: Shop) -> None:
    shop.commit({"models/delays/decision.yaml": "version: 9.9.9\n"})


def manifest_beside_a_kept_champion(shop: Shop) -> None:
    shop.go_back_to("kept")
    shop.amend({MANIFEST: shop.read(MANIFEST).replace("value: 0.653", "value: 0.953")})


def dataset_in_the_manifest(shop: Shop) -> None:
    amended_manifest(shop, first_line(shop, MANIFEST, ".dir"), f"md5: {'f' * 32}.dir")


def dataset_that_never_was(shop: Shop) -> None:
    """In the trailer of a kept champion, which changes no pointer."""
    shop.go_back_to("kept")
    told = shop.git("log", "-1", "--format=%B").split("flights ")[1][:32]
    shop.amend({}, told, "f" * 32)


# --- tags ------------------------------------------------------------------------------


def move_a_release(shop: Shop) -> None:
    shop.retag("delays@v1.1.0", shop.moments["first"].commit)


def unannotate(shop: Shop) -> None:
    shop.git("tag", "-f", "delays@v1.1.0", "delays@v1.1.0^{commit}")


def rename_inside(shop: Shop) -> None:
    shop.retag("other", "delays@v1.1.0^{commit}")
    shop.git("update-ref", "refs/tags/delays@v1.1.0", "refs/tags/other")


def renumber(shop: Shop) -> None:
    shop.git("update-ref", "refs/tags/delays#local#7", "refs/tags/delays#local#2")
    shop.git("tag", "-d", "delays#local#2")


def number_in_the_trailer(shop: Shop) -> None:
    shop.go_back_to("promoted").amend({}, "delays#local#2", "delays#local#9")


# --- slots -----------------------------------------------------------------------------


def digest_by_hand(shop: Shop) -> None:
    shop.edit(SLOTS, first_line(shop, SLOTS, MODELS_DIGEST), f"{MODELS_DIGEST}{'f' * 64}")


def digest_with_trailers(shop: Shop) -> None:
    trailers = {
        "Model": "delays",
        "Version": "1.0.0",
        "Environment": "local",
        "Digest": "f" * 64,
        "Decision": "candidate",
        "Rollout": "20240101T000000-v1.0.0",
        "Triggered-By": ASKED,
    }
    was = first_line(shop, SLOTS, MODELS_DIGEST)
    shop.edit(SLOTS, was, f"{MODELS_DIGEST}{'f' * 64}", message("Put it", trailers))


def dataset_of_a_slot_in_the_handing_over(shop: Shop) -> None:
    shop.go_back_to("handed over")
    path = SLOTS
    held = shop.read(path).rindex("flights: ") + len("flights: ")
    text = shop.read(path)
    shop.amend({path: text[:held] + "0" * 32 + text[held + 32 :]})


def pods_that_are_given_another_manifest(shop: Shop) -> None:
    shop.go_back_to("handed over").amend({SLOTS: with_pod(shop, shop.read(MANIFEST) + "# mine\n")})


def with_pod(shop: Shop, manifest: str) -> str:
    slots = parse_slots(shop.read(SLOTS), SLOTS)
    assert slots.candidate is not None
    release = slots.releases[slots.candidate]
    pod = SlotPod(
        version=release.version,
        digest=release.model_digest,
        image="host/image@sha256:1",
        manifest=manifest,
        timeout_s="30",
        queue="1024",
    )
    return dump_slots(slots.model_copy(update={"pods": {slots.candidate: pod}}))


def roles_by_hand(shop: Shop) -> None:
    shop.edit(SLOTS, "stable: blue", "stable: green")


def roles_more_than_told(shop: Shop) -> None:
    """The promotion that takes the older release away, too, so that nobody can go back."""
    shop.go_back_to("promoted")
    text = shop.read(SLOTS)
    start, end = text.index("  blue:\n    version"), text.index("  green:\n    version")
    shop.amend({SLOTS: text[:start] + text[end:]})


def another_release_than_told(shop: Shop) -> None:
    shop.go_back_to("handed over").amend({}, "Version: 1.1.0", "Version: 1.2.0")


def promotion_of_nothing(shop: Shop) -> None:
    trailers = {
        "Model": "delays",
        "Version": "2.1.0",
        "Environment": "local",
        "Digest": "f" * 64,
        "Release": shop.head,
        "Decision": "promoted",
        "Rollout": "20240101T000000-v2.1.0",
        "Triggered-By": ASKED,
        "Assignment": "delays#local#4",
    }
    shop.commit({}, message("Promote delays 2.1.0 in local", trailers))


def promoted_and_told_as_rejected(shop: Shop) -> None:
    shop.go_back_to("promoted").amend({}, "Decision: promoted", "Decision: rejected")


def way_back_in_one_commit(shop: Shop, slots: str) -> None:
    """From what stood in the slots before somebody put 1.0.0 there to go back to."""
    told = shop.git("log", "-1", "--format=%B", shop.moments["rolled back"].commit)
    shop.go_back_to("rejected").commit({SLOTS: slots}, told)
    shop.retag("delays#local#3", shop.git("rev-parse", "delays@v1.0.0^{commit}"))


def way_back_that_does_more(shop: Shop) -> None:
    """The release that people are taken from is another one afterwards."""
    back = shop.git("show", f"{shop.moments['rolled back'].commit}:{SLOTS}")
    bad = shop.git("rev-parse", "delays@v1.1.0^{commit}")
    assert bad in back
    way_back_in_one_commit(shop, back.replace(bad, shop.moments["begun"].commit))


def way_back_to_another_release(shop: Shop) -> None:
    """Than the trailers say: the slot is given the one that was turned away."""
    back = parse_slots(shop.git("show", f"{shop.moments['rolled back'].commit}:{SLOTS}"), SLOTS)
    rejected = parse_slots(shop.git("show", f"{shop.moments['rejected'].commit}~:{SLOTS}"), SLOTS)
    assert back.stable is not None
    assert rejected.candidate_release is not None
    way_back_in_one_commit(shop, dump_slots(back.with_release(back.stable, rejected.candidate_release)))
    shop.retag("delays#local#3", rejected.candidate_release.commit)


def unreadable_slots(shop: Shop) -> None:
    shop.go_back_to("promoted").amend({SLOTS: "schema_version: [\n"})


# --- evidence --------------------------------------------------------------------------


def evidence(name: str, content: str | bytes | None) -> Callable[[Shop], object]:
    return lambda shop: shop.commit({f"{EVIDENCE}/{name}": content})


def evidence_taken_away(shop: Shop) -> None:
    shop.git("rm", "-rq", EVIDENCE)
    shop.commit({})


def in_the_closing_commit(old: str, new: str) -> Callable[[Shop], object]:
    """rollout.yaml edited, and the commit made anew."""

    def do(shop: Shop) -> None:
        text = shop.go_back_to("promoted").read(f"{EVIDENCE}/rollout.yaml")
        assert old in text
        shop.amend({f"{EVIDENCE}/rollout.yaml": text.replace(old, new, 1)})

    return do


def ticks_in_the_closing_commit(shop: Shop) -> None:
    path = f"{EVIDENCE}/ticks.jsonl.gz"
    packed = (shop.go_back_to("promoted").top / path).read_bytes()
    lines = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
    chosen = next(line for line in lines if line.get("poll", {}).get("candidate", {}).get("requests"))
    chosen["seen"]["reading"]["arms"]["candidate"]["failures"] = 0
    chosen["poll"]["candidate"]["failures"] = 50
    text = "".join(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n" for line in lines)
    shop.amend({path: gzip.compress(text.encode(), mtime=0)})


def a_tick_less_in_the_closing_commit(shop: Shop) -> None:
    path = f"{EVIDENCE}/ticks.jsonl.gz"
    lines = gzip.decompress((shop.go_back_to("promoted").top / path).read_bytes()).splitlines(keepends=True)
    shop.amend({path: gzip.compress(b"".join(lines[:3] + lines[4:]), mtime=0)})


def plan_in_the_closing_commit(shop: Shop) -> None:
    path = f"{EVIDENCE}/plan.json"
    plan = json.loads(shop.go_back_to("promoted").read(path))
    plan["rollout"]["stages"] = [10, 25, 50]
    shop.amend({path: json.dumps(plan)})


def ticks_of_a_rollout_that_failed(shop: Shop) -> None:
    shop.go_back_to("promoted").amend({f"{EVIDENCE}/ticks.jsonl.gz": recording("rejected").ticks})


def evidence_that_never_was(shop: Shop) -> None:
    shop.go_back_to("promoted").amend({f"{EVIDENCE}/ticks.jsonl.gz": None})


def a_bad_rollout_told_as_promoted(shop: Shop) -> None:
    """All of its evidence is whole and true; only the ending is another one."""
    shop.go_back_to("promoted")
    files = recording("rejected").files("delays", "1.1.0", "1.0.0", "20231114T221320-v1.1.0")
    files["rollout.yaml"] = files["rollout.yaml"].replace(b"outcome: rejected", b"outcome: promoted")
    shop.amend({f"{EVIDENCE}/{name}": content for name, content in files.items()})


def a_second_ending(shop: Shop) -> None:
    told = shop.git("log", "-1", "--format=%B", shop.moments["rejected"].commit)
    path = "models/delays/rollouts/20231114T221320-v2.0.0/rollout.yaml"
    shop.edit(path, "requests: ", "requests: 9", told)


# --- history ---------------------------------------------------------------------------


def drop_the_newest(shop: Shop) -> None:
    shop.go_back_to("joined")


def consistently(shop: Shop) -> None:
    amended_manifest(shop, "value: 0.653", "value: 0.953")


def who_asked(shop: Shop) -> None:
    shop.amend({}, "Triggered-By: Ada <ada@", "Triggered-By: Bob <bob@")


def merge_without_the_other_side(shop: Shop) -> None:
    shop.git("switch", "-q", "-c", "mine", shop.moments["joined"].commit)
    shop.commit({"notes.txt": "mine\n"})
    shop.git("merge", "-q", "-s", "ours", "-m", "Merge main", "main")
    shop.git("switch", "-q", "-C", "main", "mine")


def merge_that_changes_roles(shop: Shop) -> None:
    """As no side has them, in a merge that claims to be coalmine's."""
    told = shop.git("log", "-1", "--format=%B", shop.moments["promoted"].commit)
    shop.git("switch", "-q", "-c", "mine", shop.moments["joined"].commit)
    shop.commit({"notes.txt": "mine\n"})
    shop.git("switch", "-q", "main")
    shop.git("merge", "-q", "--no-ff", "--no-commit", "mine")
    shop.write({SLOTS: shop.read(SLOTS).replace("stable: blue", "stable: green")})
    shop.git("add", "-A")
    shop.git("commit", "-q", "-F", "-", stdin=told.replace("Decision: promoted\n", ""))


TAMPERINGS = {
    "a manifest beside a kept champion": Tampering(manifest_beside_a_kept_champion, {Kind.BY_HAND: MANIFEST}),
    "another dataset in the manifest": Tampering(dataset_in_the_manifest, {Kind.DATASET: MANIFEST}),
    "a dataset that never was": Tampering(
        dataset_that_never_was, {Kind.DATASET: "data/flights/partitions.dvc"}
    ),
    "pods with another manifest": Tampering(pods_that_are_given_another_manifest, {Kind.SLOT_RELEASE: SLOTS}),
    "a second ending of a rollout": Tampering(
        a_second_ending,
        {Kind.EVIDENCE_CHANGED: "v2.0.0/rollout.yaml", Kind.EVIDENCE_MISSING: "v2.0.0"},
    ),
    "a merge that changes roles": Tampering(merge_that_changes_roles, {Kind.BY_HAND: SLOTS}),
    "a manifest edited in a later commit": Tampering(manifest_in_a_later_commit, {Kind.BY_HAND: MANIFEST}),
    "a manifest edited in its own commit": Tampering(manifest_in_its_own_commit, {Kind.MANIFEST: MANIFEST}),
    "a manifest that is another version's": Tampering(version_in_the_manifest, {Kind.MANIFEST: MANIFEST}),
    "code that is not there": Tampering(code_that_is_not_there, {Kind.CODE: MANIFEST}),
    "code that came after the release": Tampering(code_that_came_later, {Kind.CODE: MANIFEST}),
    "another dataset in the trailer": Tampering(dataset_in_the_trailer, {Kind.DATASET: "commit"}),
    "another dvc.lock": Tampering(lock_in_the_release, {Kind.LOCK: "models/delays/dvc.lock"}),
    "another dvc.lock of a kept champion": Tampering(
        lock_of_a_kept_champion, {Kind.LOCK: "models/delays/dvc.lock"}
    ),
    "another pointer": Tampering(pointer_in_the_release, {Kind.DATASET: "data/flights/partitions.dvc"}),
    "a release without one of its trailers": Tampering(trailers_of_a_release, {Kind.TRAILERS: "commit"}),
    "a release without trailers": Tampering(
        release_without_trailers, {Kind.BY_HAND: MANIFEST, Kind.TAG_STRAY: "delays@v2.2.0"}
    ),
    "a version released twice": Tampering(release_of_a_version_again, {Kind.RELEASED_TWICE: "delays@v2.1.0"}),
    "a decision edited by hand": Tampering(decision_by_hand, {Kind.BY_HAND: "models/delays/decision.yaml"}),
    "a release's tag moved": Tampering(move_a_release, {Kind.TAG_MOVED: "delays@v1.1.0"}),
    "a release's tag deleted": Tampering(
        lambda shop: shop.git("tag", "-d", "delays@v1.1.0"), {Kind.TAG_MISSING: "delays@v1.1.0"}
    ),
    "a lightweight tag": Tampering(unannotate, {Kind.TAG_LIGHTWEIGHT: "delays@v1.1.0"}),
    "a tag that is another one inside": Tampering(rename_inside, {Kind.TAG_LIGHTWEIGHT: "delays@v1.1.0"}),
    "a tag without a release": Tampering(
        lambda shop: shop.retag("delays@v3.0.0", shop.head), {Kind.TAG_STRAY: "delays@v3.0.0"}
    ),
    "an assignment moved": Tampering(
        lambda shop: shop.retag("delays#local#2", "delays@v1.0.0"), {Kind.TAG_MOVED: "delays#local#2"}
    ),
    "an assignment renumbered": Tampering(
        renumber, {Kind.TAG_MISSING: "delays#local#2", Kind.TAG_STRAY: "delays#local#7"}
    ),
    "the assignment of a way back deleted": Tampering(
        lambda shop: shop.git("tag", "-d", "delays#local#3"), {Kind.TAG_MISSING: "delays#local#3"}
    ),
    "an assignment of nothing": Tampering(
        lambda shop: shop.retag("delays#local#4", "delays@v2.1.0"), {Kind.TAG_STRAY: "delays#local#4"}
    ),
    "another number in the trailer": Tampering(number_in_the_trailer, {Kind.NUMBER: SLOTS}),
    "a digest in a slot by hand": Tampering(digest_by_hand, {Kind.BY_HAND: SLOTS, Kind.SLOT_RELEASE: SLOTS}),
    "a digest in a slot with trailers": Tampering(
        digest_with_trailers, {Kind.ROLES: SLOTS, Kind.SLOT_RELEASE: SLOTS}
    ),
    "another dataset in a slot": Tampering(dataset_of_a_slot_in_the_handing_over, {Kind.SLOT_RELEASE: SLOTS}),
    "roles by hand": Tampering(roles_by_hand, {Kind.BY_HAND: SLOTS}),
    "slots deleted": Tampering(lambda shop: shop.commit({SLOTS: None}), {Kind.BY_HAND: SLOTS}),
    "a promotion that does more": Tampering(roles_more_than_told, {Kind.ROLES: SLOTS}),
    "another release than the trailers say": Tampering(another_release_than_told, {Kind.ROLES: SLOTS}),
    "a promotion of nothing": Tampering(
        promotion_of_nothing, {Kind.ROLES: SLOTS, Kind.EVIDENCE_MISSING: "rollouts/20240101T000000-v2.1.0"}
    ),
    "promoted, and told as rejected": Tampering(
        promoted_and_told_as_rejected,
        {Kind.ROLES: SLOTS, Kind.EVIDENCE: f"{EVIDENCE}/rollout.yaml", Kind.TAG_STRAY: "delays#local#2"},
    ),
    "a way back that does more": Tampering(
        way_back_that_does_more, {Kind.ROLES: SLOTS, Kind.SLOT_RELEASE: SLOTS}
    ),
    "a way back to another release": Tampering(way_back_to_another_release, {Kind.ROLES: SLOTS}),
    "slots that cannot be read": Tampering(unreadable_slots, {Kind.ROLES: SLOTS}),
    "events in a later commit": Tampering(
        evidence("rollout.yaml", "id: none\n"), {Kind.EVIDENCE_CHANGED: f"{EVIDENCE}/rollout.yaml"}
    ),
    "ticks in a later commit": Tampering(
        evidence("ticks.jsonl.gz", b""), {Kind.EVIDENCE_CHANGED: f"{EVIDENCE}/ticks.jsonl.gz"}
    ),
    "a plan in a later commit": Tampering(
        evidence("plan.json", "{}"), {Kind.EVIDENCE_CHANGED: f"{EVIDENCE}/plan.json"}
    ),
    "a report page added": Tampering(
        evidence("report.html", "<p>All went well."), {Kind.EVIDENCE_CHANGED: f"{EVIDENCE}/report.html"}
    ),
    "evidence deleted": Tampering(evidence_taken_away, {Kind.EVIDENCE_CHANGED: EVIDENCE}),
    "an event reworded in the closing commit": Tampering(
        in_the_closing_commit("The candidate is ready", "Approved by nobody"), {Kind.DECISIONS: EVIDENCE}
    ),
    "another count of requests in the closing commit": Tampering(
        in_the_closing_commit("exposure:\n  requests: ", "exposure:\n  requests: 9"),
        {Kind.EVIDENCE: f"{EVIDENCE}/rollout.yaml"},
    ),
    "another reason in the closing commit": Tampering(
        in_the_closing_commit("reason: ", "reason: nobody looked, and "),
        {Kind.EVIDENCE: f"{EVIDENCE}/rollout.yaml"},
    ),
    "another ending in the closing commit": Tampering(
        in_the_closing_commit("outcome: promoted", "outcome: rejected"),
        {Kind.EVIDENCE: f"{EVIDENCE}/rollout.yaml"},
    ),
    "somebody else who asked in the closing commit": Tampering(
        in_the_closing_commit("who: Ada <ada@", "who: Bob <bob@"), {Kind.EVIDENCE: f"{EVIDENCE}/rollout.yaml"}
    ),
    "evidence that cannot be read": Tampering(
        in_the_closing_commit("id: ", "id: ["), {Kind.EVIDENCE: EVIDENCE}
    ),
    "ticks in the closing commit": Tampering(ticks_in_the_closing_commit, {Kind.DECISIONS: EVIDENCE}),
    "a tick less in the closing commit": Tampering(
        a_tick_less_in_the_closing_commit, {Kind.EVIDENCE: EVIDENCE}
    ),
    "a plan in the closing commit": Tampering(plan_in_the_closing_commit, {Kind.DECISIONS: EVIDENCE}),
    "the ticks of a rollout that failed": Tampering(
        ticks_of_a_rollout_that_failed, {Kind.DECISIONS: EVIDENCE}
    ),
    "evidence that never was": Tampering(evidence_that_never_was, {Kind.EVIDENCE_MISSING: EVIDENCE}),
    "a rollout that failed told as promoted": Tampering(
        a_bad_rollout_told_as_promoted, {Kind.EVIDENCE: f"{EVIDENCE}/rollout.yaml"}
    ),
    "a merge that drops a release": Tampering(
        merge_without_the_other_side, {Kind.TAKEN_BACK: "models/delays/"}
    ),
    "the newest commit dropped": Tampering(drop_the_newest, {Kind.REWRITTEN: "commit"}, pinned=True),
    "a release made anew, consistently": Tampering(consistently, {Kind.REWRITTEN: "commit"}, pinned=True),
    "who asked, in history made anew": Tampering(who_asked, {Kind.REWRITTEN: "commit"}, pinned=True),
}


@pytest.mark.parametrize("tampering", TAMPERINGS.values(), ids=TAMPERINGS)
def test_it_is_found_by_its_kind_and_place_and_nothing_else_is(shop: Shop, tampering: Tampering) -> None:
    pinned = shop.head if tampering.pinned else None
    tampering.do(shop)
    found = shop.verify(pinned=pinned).findings
    assert {finding.kind for finding in found} == tampering.found.keys(), "\n".join(map(str, found))
    for finding in found:
        assert tampering.found[finding.kind] in str(finding.where)
        assert finding.expected
        assert finding.seen
        assert finding.remedy.endswith(".")


@pytest.mark.parametrize(
    "tampering",
    [t for t in TAMPERINGS.values() if t.pinned],
    ids=[n for n, t in TAMPERINGS.items() if t.pinned],
)
def test_history_made_anew_is_seen_by_a_pinned_head_alone(shop: Shop, tampering: Tampering) -> None:
    tampering.do(shop)
    assert shop.verify().findings == ()


def test_whoever_edits_by_hand_is_named_and_what_served_before_and_after(shop: Shop) -> None:
    commit = shop.edit(SLOTS, "stable: blue", "stable: green", "Quick fix")
    (finding,) = shop.verify().findings
    assert finding.where.commit == commit
    assert BY_EVE in finding.seen
    assert "“Quick fix”" in finding.seen
    assert "1.0.0 served, then 1.1.0 served" in finding.seen


def test_pods_that_are_given_the_released_manifest_are_no_finding(shop: Shop) -> None:
    shop.go_back_to("handed over").amend({SLOTS: with_pod(shop, shop.read(MANIFEST))})
    assert shop.verify().findings == ()
