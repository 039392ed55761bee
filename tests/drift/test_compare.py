"""What is no match with Git is found in one look; what belongs to a rollout, and what nobody read, is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coalmine.drift.compare import compare
from coalmine.drift.facts import Difference, Moment, Recorded, Rollback, RouteFacts, Running, SlotFacts
from coalmine.drift.findings import Aspect, Heal, Kind
from coalmine.rollout.ports import SlotHealth, SlotStatus, TrafficSplit
from coalmine.slots import Slot, Slots
from tests.drift.place import (
    AT_REST,
    DIVERGENCES,
    MODEL,
    NEXT,
    Divergence,
    at_rest,
    environment,
    rolling_out,
    serving,
)


@pytest.mark.parametrize("divergence", DIVERGENCES.values(), ids=DIVERGENCES)
def test_each_divergence_is_found_in_one_look_with_what_one_can_type(divergence: Divergence) -> None:
    (finding,) = compare(divergence.facts).findings
    assert finding.kind is divergence.kind
    assert divergence.says in finding.seen
    assert divergence.types in finding.remedy
    assert finding.expected


def test_all_kinds_are_among_them() -> None:
    assert {divergence.kind for divergence in DIVERGENCES.values()} == set(Kind)


TURNED_AWAY = AT_REST.with_candidate(NEXT).with_rejection()  # its runner has yet to end the server


@pytest.mark.parametrize(
    "facts",
    [
        at_rest(),
        at_rest(AT_REST.with_stable(Slot.BLUE)),
        rolling_out(0),
        rolling_out(50),
        replace(rolling_out(), moment=replace(rolling_out().moment, slots=TURNED_AWAY)),
    ],
    ids=["at rest", "rolled back", "begun", "halfway", "closing"],
)
def test_an_environment_as_git_says_matches(facts) -> None:
    assert compare(environment(facts)).matches


def test_nobody_expects_anything_of_a_model_that_was_never_delivered() -> None:
    slots = Slots(environment="production", model=MODEL)
    facts = environment(replace(at_rest(), moment=Moment(slots), running=Running()), stack_down="down")
    assert compare(facts).matches


def test_a_candidate_that_starts_or_fails_is_its_rollouts_to_say_and_stable_is_not() -> None:
    facts = rolling_out()
    down = SlotStatus(SlotHealth.FAILED, "it died")

    def with_down(slot: Slot):
        changed = {**facts.running.slots, slot: replace(facts.running.slots[slot], status=down, servers=())}
        return environment(replace(facts, running=replace(facts.running, slots=changed)))

    assert compare(with_down(Slot.BLUE)).matches
    assert [each.kind for each in compare(with_down(Slot.GREEN)).findings] == [Kind.SERVER_DOWN]


def test_of_a_rollback_that_waits_nothing_else_is_said_of_its_route() -> None:
    facts = at_rest()
    moved = RouteFacts(TrafficSplit.all_to(Slot.BLUE))
    waiting = replace(facts.moment, rollback=Rollback("1.1.0", "1.0.0", is_moved=True))
    look = compare(environment(replace(facts, moment=waiting, running=replace(facts.running, route=moved))))
    assert [each.kind for each in look.findings] == [Kind.ROLLBACK_WAITS]


def test_what_moved_while_it_was_looked_at_is_not_compared_and_has_not_ended() -> None:
    facts = at_rest()
    wrong = replace(facts, running=Running(serving(AT_REST), RouteFacts()), is_moving=True)
    look = compare(environment(wrong))
    assert look.matches
    (found,) = compare(environment(replace(wrong, is_moving=False))).findings
    assert not look.has_looked_at(found)


def test_a_server_of_an_older_version_that_names_no_digest_is_no_other_release() -> None:
    facts = at_rest()
    (server,) = facts.running.slots[Slot.GREEN].servers
    silent = replace(facts.running.slots[Slot.GREEN], servers=(replace(server, digest=None),))
    slots = {**facts.running.slots, Slot.GREEN: silent}
    assert compare(environment(replace(facts, running=replace(facts.running, slots=slots)))).matches


def test_a_release_may_wait_for_its_delivery_as_long_as_the_settings_say() -> None:
    waits = replace(at_rest(), recorded=Recorded(waiting=("1.2.0", 1_000_000.0 - 3600)))
    assert compare(environment(waits)).matches
    (found,) = compare(environment(waits, not_delivered_after_s=3600.0)).findings
    assert found.kind is Kind.NOT_DELIVERED


def test_where_the_whole_stack_is_down_that_alone_is_said_and_nothing_else_has_ended() -> None:
    look = compare(environment(at_rest(), stack_down="down"))
    assert [each.kind for each in look.findings] == [Kind.STACK_DOWN]
    (moved,) = compare(DIVERGENCES["weights moved by hand"].facts).findings
    assert not look.has_looked_at(moved)


@pytest.mark.parametrize("of", ["model", "environment"])
def test_what_could_not_be_read_has_not_ended(of: str) -> None:
    unread = {Aspect.ROUTE: "Envoy does not answer. coalmine up"}
    facts = (
        environment(unread=unread) if of == "environment" else environment(replace(at_rest(), unread=unread))
    )
    (moved,) = compare(DIVERGENCES["weights moved by hand"].facts).findings
    (down,) = compare(DIVERGENCES["a server that died"].facts).findings
    look = compare(facts)
    assert not look.has_looked_at(moved)
    assert look.has_looked_at(down)


def test_findings_of_a_model_that_was_not_looked_at_have_not_ended() -> None:
    (down,) = compare(DIVERGENCES["a server that died"].facts).findings
    other = at_rest(AT_REST.model_copy(update={"model": "other"}))
    assert not compare(environment(other)).has_looked_at(down)


def test_what_a_person_must_decide_is_never_healed() -> None:
    never = {
        Kind.RECORD_UNREADABLE,
        Kind.RECORD_DIFFERS,
        Kind.TAG_WITHOUT_MANIFEST,
        Kind.BYTES_LOST,
        Kind.FILES_CHANGED,
        Kind.FLUX_SUSPENDED,
        Kind.FLUX_ELSEWHERE,
        Kind.NOT_DELIVERED,
        Kind.NOT_PUSHED,
    }
    assert {kind for kind in Kind if kind.heal is Heal.PERSON} == {
        *never,
        Kind.ROUTE_FOREIGN,
        Kind.UNREADABLE,
    }
    (owned,) = compare(DIVERGENCES["a route that another controller owns"].facts).findings
    (edited,) = compare(DIVERGENCES["a route that another hand rewrote"].facts).findings
    assert (owned.heal, edited.heal) == (Heal.PERSON, Heal.RESTORE)


def test_nothing_is_healed_by_a_record_that_does_not_agree_with_itself() -> None:
    wrong = DIVERGENCES["weights moved by hand"].facts.models[0]
    differs = {Slot.BLUE: Difference("1.0.0 with the digest of its manifest,", "abc", "def")}
    slots = {**wrong.running.slots, Slot.BLUE: SlotFacts()}
    facts = replace(wrong, recorded=Recorded(differs=differs), running=replace(wrong.running, slots=slots))
    found = compare(environment(facts)).findings
    assert [each.kind for each in found] == [Kind.RECORD_DIFFERS, Kind.ROUTE_WEIGHTS]
    assert {each.heal for each in found} == {Heal.PERSON}


def test_several_at_once_are_all_found() -> None:
    slots = {
        **serving(AT_REST),
        Slot.GREEN: replace(
            serving(AT_REST)[Slot.GREEN],
            replicas=Difference("replicas", "3", "1"),
            changed_files="swapped. See",
        ),
    }
    look = compare(environment(replace(at_rest(), running=Running(slots, RouteFacts()))))
    assert {each.kind for each in look.findings} == {Kind.REPLICAS, Kind.FILES_CHANGED, Kind.ROUTE_MISSING}
