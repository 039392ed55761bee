"""What people asked of a rollout is read off the sentences that the engine really writes."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

import pytest

from coalmine.audit.asked import Asked, asked_of
from coalmine.audit.rollout_record import EventRecord, RolloutRecord
from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import Ask, Request, TrafficSplit
from coalmine.rollout.runner import run
from coalmine.rollout_spec import ApprovalSpec, ErrorsSpec, Rollout
from coalmine.slots import Slot
from tests.simulators.world import World, upgrade_slots

WHO = "Dr. Mia A. Li: risk <mia@example.org>"
SPEC = Rollout(stages=(5, 50), bake_s=10, gates=(ErrorsSpec(margin=0.02), ApprovalSpec(before=50)))


def asked_in(*asks: Ask, who: str = WHO) -> list[Asked]:
    """What is read off a rollout of which `asks` were asked at once."""
    world = World()
    world.router.split = TrafficSplit.all_to(Slot.BLUE)
    world.pass_time(30)
    requests = [Request(ask, who, world.now + number) for number, ask in enumerate(asks)]
    for request in requests:
        world.at(60, partial(world.journal.asked.append, request))
    run(Plan.of(SPEC), upgrade_slots(), world.ports(), asked_by="Kim")
    events = tuple(
        EventRecord(at=datetime.fromtimestamp(e["at_s"], UTC), weight_percent=0, what=e["sentence"])
        for e in world.journal.events
    )
    return list(asked_of(RolloutRecord.model_construct(events=events)))


@pytest.mark.parametrize(
    ("asks", "whats"),
    [
        ((Ask.APPROVE, Ask.PROMOTE), ["approved", "promoted early"]),
        ((Ask.PAUSE, Ask.RESUME, Ask.ABORT), ["paused", "resumed", "aborted"]),
        ((Ask.PROMOTE,), ["promoted early"]),
        ((Ask.SUPERSEDE,), ["superseded"]),
    ],
    ids=["approved", "paused", "promoted without an approval", "superseded"],
)
def test_who_asked_for_what_is_read_whole(asks: tuple[Ask, ...], whats: list[str]) -> None:
    found = asked_in(*asks)
    assert [asked.what for asked in found if "asked to" not in asked.sentence] == whats
    assert {asked.who.who for asked in found} == {WHO}
    assert {(asked.who.kind, asked.who.proof) for asked in found} == {("person", "unknown")}


def test_an_approval_names_its_gates() -> None:
    assert asked_in(Ask.APPROVE, Ask.ABORT)[0].gates == ("approval",)


def test_what_was_refused_is_told_as_asked_for() -> None:
    early, _ = asked_in(Ask.APPROVE, Ask.APPROVE, Ask.ABORT)[1:]
    assert (early.what, early.who.who) == ("approve", WHO)
    assert "waits for no approval" in early.sentence


def test_an_interrupt_is_its_persons() -> None:
    (aborted,) = asked_in(Ask.ABORT, who=f"{WHO} (interrupt)")
    assert aborted.who.who == WHO


@pytest.mark.parametrize("said", ["claimed", "signature"])
def test_a_name_brings_no_better_proof_than_a_claim(said: str) -> None:
    (aborted,) = asked_in(Ask.ABORT, who=f"{WHO} (person, {said})")
    assert (aborted.who.who, aborted.who.proof) == (WHO, "claimed")
