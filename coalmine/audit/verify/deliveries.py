"""Each slots file through its history, and the tags that number its promotions.

What is in the slots was released as it stands there, and the roles follow from what the commits say was done.
A change by hand is told by `history`; here it is where the next change begins.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from coalmine.audit.slots_history import Place
from coalmine.audit.verify.cores import Cores
from coalmine.audit.verify.findings import Finding, Kind, Scope, Where
from coalmine.audit.verify.history import is_recorded
from coalmine.audit.verify.releases import Release, stray, tag_findings
from coalmine.audit.verify.snapshot import Change, Snapshot, Written, slots_in
from coalmine.registry.tags import assignment_tag, parse_assignment
from coalmine.slots import Slot, SlotRelease, Slots, slots_path


@dataclass(frozen=True)
class Delivery:
    """One change of a slots file. before, after: None where the file cannot be read."""

    change: Change
    before: Slots | None
    after: Slots | None

    @property
    def place(self) -> Place:
        return _place(self.change)

    @property
    def trailers(self) -> Mapping[str, str]:
        return self.change.commit.trailers

    @property
    def where(self) -> Where:
        return Where(self.change.commit.sha, self.change.path)


def read_deliveries(snapshot: Snapshot, scope: Scope, cores: Cores) -> list[Delivery]:
    """Every change of every slots file, by place, and there oldest first."""
    changes = [c for c in snapshot.changes(Written.SLOTS) if scope.has(c.of.name, c.of.environment)]
    changes.sort(key=lambda change: (change.of.environment, change.of.name))
    sides = [blob for change in changes for blob in (change.before, change.after) if blob is not None]
    blobs = list(dict.fromkeys(sides))  # what one change leaves, the next one finds: it is read once
    held = dict(zip(blobs, cores.map(slots_in, snapshot.contents(blobs), len(blobs)), strict=True))
    found = []
    for change in changes:
        nothing = Slots(environment=change.of.environment or "", model=change.of.name)
        before = nothing if change.before is None else held[change.before]
        after = nothing if change.after is None else held[change.after]
        found.append(Delivery(change, before, after))
    return found


# --- what is checked -------------------------------------------------------------------


def delivery_findings(
    snapshot: Snapshot, releases: Mapping[str, Release], deliveries: Sequence[Delivery], scope: Scope
) -> Iterator[Finding]:
    for delivery in deliveries:
        yield from _roles(delivery)
        yield from _contents(delivery, releases)
    yield from _unmoved(snapshot, scope)
    yield from _assignments(snapshot, deliveries, scope)


def _roles(delivery: Delivery) -> Iterator[Finding]:
    """What became of the slots is what the commit says was done."""
    before, after = delivery.before, delivery.after
    if not is_recorded(delivery.change) or before is None:
        return
    if after is None:
        yield _finding(Kind.ROLES, delivery, "the slots of a model", "a file that cannot be read")
        return
    try:
        expected = _expected(delivery.trailers, before, after)
    except KeyError:
        yield _finding(
            Kind.ROLES, delivery, f"{_done(delivery.trailers)} from {_words(before)}", _words(after)
        )
        return
    if expected != after:
        same = _words(expected) == _words(after)
        seen = "the same roles with other contents" if same else _words(after)
        yield _finding(Kind.ROLES, delivery, f"{_done(delivery.trailers)}: {_words(expected)}", seen)
    else:
        yield from _named(delivery, before, after)


def _expected(trailers: Mapping[str, str], before: Slots, after: Slots) -> Slots:
    """
    Raises:
        KeyError: no slot is in the role that this needs.
    """
    match trailers.get("Decision"):
        case "candidate":
            slot = _present(after.candidate)
            return before.with_candidate(after.releases[slot], after.pods.get(slot))
        case "promoted":
            _present(before.candidate)
            return before.with_promotion()
        case "rejected":
            return before.with_rejection()
        case "rolled-back":
            slot = _present(before.stable).other
            release = after.releases[slot]
            if release == before.releases.get(slot):
                return before.with_stable(slot)
            # One that was in neither slot; where pods serve, a commit of its own has put it there before.
            return before.with_release(slot, release).with_stable(slot)
        case _:  # put there to go back to
            slot = _present(before.stable).other
            return before.with_release(slot, after.releases[slot], after.pods.get(slot))


def _present(slot: Slot | None) -> Slot:
    if slot is None:
        raise KeyError("no slot has that role")
    return slot


def _named(delivery: Delivery, before: Slots, after: Slots) -> Iterator[Finding]:
    """The release that was moved is the one that the trailers name."""
    trailers = delivery.trailers
    match trailers.get("Decision"):
        case "candidate":
            moved = after.candidate_release
        case "promoted" | "rolled-back":
            moved = after.stable_release
        case "rejected":
            moved = before.candidate_release
        case _:
            moved = after.releases.get(_present(before.stable).other)
    if moved is None:  # rejected, when somebody had taken the candidate out before
        return
    told = {"Version": moved.version, "Digest": moved.model_digest, "Release": moved.commit}
    if trailers.get("Decision") == "rolled-back" and before.stable_release is not None:
        told["Rolled-Back"] = before.stable_release.version
    for name, value in told.items():
        if trailers.get(name, value) != value:
            expected = f"the {name} of its trailers, {trailers[name][:12]}"
            yield _finding(Kind.ROLES, delivery, expected, value[:12])


def _contents(delivery: Delivery, releases: Mapping[str, Release]) -> Iterator[Finding]:
    """Whatever came into a slot was released as it stands there."""
    before, after = delivery.before, delivery.after
    if after is None:
        return
    known = () if before is None else before.releases.values()
    for slot, release in after.releases.items():
        if release not in known:
            yield from _slot_release(delivery, slot, release, releases.get(release.commit))
    for slot, pod in after.pods.items():
        if before is None or before.pods.get(slot) != pod:
            digest = hashlib.sha256(pod.manifest.encode()).hexdigest()
            holds = after.releases.get(slot)
            wanted = "no release" if holds is None else f"{holds.version} {holds.model_digest}"
            if {wanted} != {f"{pod.version} {pod.digest}", f"{pod.version} {digest}"}:
                expected = f"the pods of {slot} to be given {wanted[:30]}"
                seen = f"{pod.version} {pod.digest[:12]}, with a manifest of {digest[:12]}"
                yield _finding(Kind.SLOT_RELEASE, delivery, expected, seen)


def _slot_release(
    delivery: Delivery, slot: Slot, held: SlotRelease, released: Release | None
) -> Iterator[Finding]:
    model = delivery.change.of.name
    if released is None or released.model != model:
        expected = f"{slot} to hold a release of {model}"
        seen = f"{held.version} of commit {held.commit[:12]}, which is none in HEAD's history"
        yield _finding(Kind.SLOT_RELEASE, delivery, expected, seen)
        return
    wanted = {"version": released.version, "digest": released.digest}
    there = {"version": held.version, "digest": held.model_digest}
    if held.dataset_digests and not released.fault:
        wanted["datasets"] = _listed(dict(released.datasets))
        there["datasets"] = _listed(held.dataset_digests)
    for name, value in wanted.items():
        if there[name] != value:
            expected = f"in {slot} the {name} of the release in commit {held.commit[:12]}, {value}"
            yield _finding(Kind.SLOT_RELEASE, delivery, expected, there[name])


def _unmoved(snapshot: Snapshot, scope: Scope) -> Iterator[Finding]:
    """Commits that say that they moved something, and left the file as it was."""
    for entry in snapshot.entries:
        trailers = entry.commit.trailers
        place = trailers.get("Environment", ""), trailers.get("Model", "")
        if entry.decision not in ("candidate", "promoted", "rolled-back") or not scope.has(*reversed(place)):
            continue
        if not any(
            change.of.written is Written.SLOTS and _place(change) == place for change in entry.changes
        ):
            yield Finding(
                Kind.ROLES,
                Where(entry.commit.sha, slots_path(*place).as_posix()),
                _done(trailers),
                "a commit that leaves the slots as they were",
                f"Ask who made it: git show {entry.commit.sha[:12]}.",
            )


# --- tags ------------------------------------------------------------------------------


def _assignments(snapshot: Snapshot, deliveries: Sequence[Delivery], scope: Scope) -> Iterator[Finding]:
    """Each change of what serves has the next number, as a tag on the release that serves from then on."""
    numbers: defaultdict[Place, int] = defaultdict(int)
    stands: set[str] = set()
    for delivery in deliveries:
        decision = delivery.trailers.get("Decision")
        if decision not in ("promoted", "rolled-back") or not is_recorded(delivery.change):
            continue
        environment, model = delivery.place
        numbers[delivery.place] += 1
        name = assignment_tag(model, environment, numbers[delivery.place])
        told = delivery.trailers.get("Assignment", "none") if decision == "promoted" else name
        if told != name:
            yield _finding(Kind.NUMBER, delivery, f"the trailer Assignment: {name}", told)
        stands.add(name)
        serves = None if delivery.after is None else delivery.after.stable_release
        if serves is not None:
            of = f"the release that serves since commit {delivery.change.commit.sha[:12]}"
            yield from tag_findings(snapshot, name, serves.commit, of)
    beyond = {
        (entry.commit.trailers.get("Environment"), entry.commit.trailers.get("Model"))
        for entry in snapshot.elsewhere
    }
    for tag in snapshot.tags.values():
        assigned = parse_assignment(tag.name)
        if assigned is None or tag.name in stands or not scope.has(assigned.model, assigned.environment):
            continue
        if (assigned.environment, assigned.model) not in beyond:
            yield stray(tag, "a promotion or a way back of that number")


# --- words -----------------------------------------------------------------------------


def _finding(kind: Kind, delivery: Delivery, expected: str, seen: str) -> Finding:
    remedy = f"See what was done there: git show {delivery.change.commit.sha[:12]}."
    return Finding(kind, delivery.where, expected, seen, remedy)


def _place(change: Change) -> Place:
    return change.of.environment or "", change.of.name


def _done(trailers: Mapping[str, str]) -> str:
    decision = trailers.get("Decision", "put there")
    return f"{trailers.get('Version', 'nothing')} {decision}, as the commit says"


def _words(slots: Slots) -> str:
    """Each slot with its release and its role."""
    roles = {slots.stable: " (stable)", slots.candidate: " (candidate)"}
    told = [
        f"{slot} {slots.releases[slot].version}{roles.get(slot, '')}"
        for slot in Slot
        if slot in slots.releases
    ]
    return ", ".join(told) or "nothing in the slots"


def _listed(datasets: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {md5}" for name, md5 in sorted(datasets.items()))
