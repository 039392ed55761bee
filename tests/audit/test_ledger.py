"""The slots files win: over trailers that are wrong, over hands that left none, over merges."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from coalmine.audit import ledger as module
from coalmine.audit.attribution import to_trailer
from coalmine.audit.ledger import read_ledger
from coalmine.audit.questions import at as question
from coalmine.audit.questions.scope import Scope
from coalmine.errors import RepositoryUnready
from coalmine.registry.repository import Repository
from coalmine.slots import dump_slots, parse_slots, slots_path
from tests.audit.conftest import ENVIRONMENT, GOOD, MODEL, SLOTS, World
from tests.audit.told import ADA, PRODUCTION, TO_PRODUCTION, at, tell

PLACE = (ENVIRONMENT, MODEL)
LATE = at(99_999)


def versions(world: World, place: tuple[str, str] = PLACE) -> list[tuple[str, str | None]]:
    return [(turn.deed.action.value, turn.version) for turn in read_ledger(world.repository).turns[place]]


def test_a_slots_file_changed_by_hand_is_told_as_such_with_its_author(serving: World) -> None:
    serving.at(serving.now_s + 100)
    (serving.top / SLOTS).unlink()
    serving.git("commit", "-qam", "away with it")
    turn = read_ledger(serving.repository).turns[PLACE][-1]
    assert (turn.version, turn.deed.action, turn.deed.who.who) == (
        None,
        "unrecorded",
        "Ada <ada@example.com>",
    )
    assert turn.deed.who.proof == "claimed"


def test_a_change_by_hand_of_something_else_in_the_file_is_none(serving: World) -> None:
    serving.commit_file(SLOTS, (serving.top / SLOTS).read_text() + "# looked at\n")
    assert versions(serving) == [("promoted", "1.0.0")]


def test_a_promotion_that_did_not_happen_is_not_believed(serving: World) -> None:
    """Trailers without the change that they tell of."""
    trailers = {"Model": MODEL, "Environment": ENVIRONMENT, "Version": "9.0.0", "Decision": "promoted"}
    serving.publish("Promote", {Path("note"): "x"}, {**trailers, "Triggered-By": to_trailer(ADA)})
    assert versions(serving) == [("promoted", "1.0.0")]


def test_a_commit_that_says_it_was_about_another_place_is_found_out(world: World) -> None:
    world.promote(GOOD)
    world.promote(TO_PRODUCTION)
    slots = world.slots()
    assert slots.stable is not None
    gone = dump_slots(slots.model_copy(update={"stable": None}))
    trailers = {"Model": MODEL, "Environment": PRODUCTION, "Version": "1.0.0", "Decision": "candidate"}
    world.publish("Put it into green", {SLOTS: gone}, trailers)
    assert versions(world) == [("promoted", "1.1.0"), ("unrecorded", None)]
    assert versions(world, (PRODUCTION, MODEL)) == [("promoted", "1.0.0")]


def test_what_served_before_a_wrong_trailer_was_put_right_is_read_off_the_file(serving: World) -> None:
    serving.promote(GOOD)
    held, lied_s = serving.slots(), GOOD.started_at_s + 1000
    assert held.stable is not None
    trailers = {"Model": MODEL, "Environment": ENVIRONMENT, "Version": "1.1.0", "Decision": "candidate"}
    serving.at(lied_s)
    serving.put_slots(held.with_stable(held.stable.other), "Put it into green", trailers)
    serving.at(lied_s + 100)
    serving.put_slots(held, "Put it into green again", trailers)
    ledger = read_ledger(serving.repository)
    assert [turn.version for turn in ledger.turns[PLACE]] == ["1.0.0", "1.1.0"]
    (line,) = question.serving(ledger, Scope(MODEL, ENVIRONMENT), at(1050))
    assert (line.version, line.since, line.until) == ("1.0.0", at(1000), at(1100))
    assert line.action == "unrecorded"


@pytest.fixture
def index_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads every state of every file fails."""

    def refuse(*_: object) -> None:
        raise AssertionError("the index should have led there")

    monkeypatch.setattr(module, "slots_history", refuse)


def test_trailers_and_what_was_done_by_hand_lead_where_the_files_do(
    world: World, request: pytest.FixtureRequest
) -> None:
    tell(world)
    in_files = read_ledger(world.repository).exactly()
    request.getfixturevalue("index_alone")
    ledger = read_ledger(world.repository)

    def known(ledger: module.Ledger) -> object:
        return {place: [(turn.deed, turn.version) for turn in turns] for place, turns in ledger.turns.items()}

    assert known(ledger) == known(in_files)
    assert ledger.now == in_files.now


@pytest.mark.usefixtures("index_alone")
def test_a_conflict_that_a_person_resolved_in_a_merge_is_their_change(serving: World) -> None:
    path, held = slots_path(ENVIRONMENT, MODEL), (serving.top / SLOTS).read_text()
    serving.git("switch", "-q", "-c", "idea")
    serving.commit_file(path, held + "# idea\n")
    serving.git("switch", "-q", "main")
    serving.commit_file(path, held + "# main\n")
    with pytest.raises(subprocess.CalledProcessError):
        serving.git("merge", "-q", "idea")
    (serving.top / path).write_text(nobody(held))
    serving.git("commit", "-qam", "Merge idea")
    assert versions(serving) == [("promoted", "1.0.0"), ("unrecorded", None)]


def nobody(held: str) -> str:
    return dump_slots(parse_slots(held, "").model_copy(update={"stable": None}))


def test_a_shallow_clone_is_refused(serving: World, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow"
    serving.git("clone", "-q", "--depth", "1", serving.remote.as_uri(), str(shallow))
    with pytest.raises(RepositoryUnready, match="git fetch --unshallow"):
        read_ledger(Repository.open(shallow))


def test_an_empty_record_holds_nothing(world: World) -> None:
    ledger = read_ledger(world.repository)
    assert (ledger.turns, ledger.deeds) == ({}, ())
    assert question.serving(ledger, Scope(), LATE) == []
