"""A model's life, between two times, by dataset, by person, by commit."""

from __future__ import annotations

import pytest

from coalmine.audit.ledger import Ledger
from coalmine.audit.questions.between import Replaced, between
from coalmine.audit.questions.by_commit import by_commit
from coalmine.audit.questions.by_dataset import Role, by_dataset
from coalmine.audit.questions.by_person import by_person
from coalmine.audit.questions.scope import Scope
from coalmine.errors import InputError, NotFound
from tests.audit.conftest import MODEL, World
from tests.audit.told import ADA, LONG, OTHER, PRODUCTION, at

EVERYTHING = Scope()


def test_a_models_life_holds_kept_champions_rejections_and_what_was_done_by_hand(ledger: Ledger) -> None:
    deeds = Scope(MODEL).deeds(ledger.deeds)
    assert [(deed.action.value, deed.version, deed.environment) for deed in deeds] == [
        ("release", "1.0.0", None),
        ("candidate", "1.0.0", "local"),
        ("promoted", "1.0.0", "local"),
        ("release", "1.1.0", None),
        ("candidate", "1.1.0", "local"),
        ("promoted", "1.1.0", "local"),
        ("keep", "1.1.1", None),
        ("release", "2.0.0", None),
        ("candidate", "2.0.0", "local"),
        ("rejected", "2.0.0", "local"),
        ("rolled-back", "1.0.0", "local"),
        ("candidate", "1.0.0", "production"),
        ("promoted", "1.0.0", "production"),
        ("candidate", "1.1.0", "production"),
        ("promoted", "1.1.0", "production"),
        ("unrecorded", "1.0.0", "production"),
    ]
    assert deeds[6].who == ADA
    assert deeds[6].sentence == "Keep the champion of flight-delay"
    assert Scope("flight").deeds(ledger.deeds) == ()


def test_an_environment_leaves_out_what_was_done_in_others_and_keeps_the_releases(ledger: Ledger) -> None:
    deeds = Scope(MODEL, PRODUCTION).deeds(ledger.deeds)
    assert {deed.environment for deed in deeds} == {None, PRODUCTION}
    assert [deed.version for deed in deeds if deed.action == "release"] == ["1.0.0", "1.1.0", "2.0.0"]


def test_between_two_times_the_first_is_out_and_the_last_is_in(ledger: Ledger) -> None:
    found = between(ledger, EVERYTHING, at(120), at(10_000))
    assert [deed.action.value for deed in found.deeds] == [
        "keep",
        "release",
        "candidate",
        "rejected",
        "rolled-back",
    ]
    assert found.replaced == (Replaced("local", MODEL, "1.1.0", "1.0.0"),)


def test_what_was_done_and_undone_is_told_and_replaced_nothing(ledger: Ledger) -> None:
    found = between(ledger, EVERYTHING, at(-1), at(10_000))
    assert found.replaced == ()
    assert "promoted" in {deed.action.value for deed in found.deeds}


def test_a_dataset_leads_to_its_releases_and_where_they_served(ledger: Ledger) -> None:
    (use,) = by_dataset(ledger, EVERYTHING, "weather")
    assert (use.version, use.role, use.digest) == ("1.1.0", Role.LOOKUP, "ef" * 16 + ".dir")
    assert [(s.environment, s.since, s.until) for s in use.served] == [
        ("local", at(120), at(10_000)),
        (PRODUCTION, at(25_120), at(50_000)),
    ]
    assert use.serves_now == ()
    flights = by_dataset(ledger, EVERYTHING, "flights")
    assert [(use.version, use.role, use.serves_now) for use in flights] == [
        ("1.0.0", Role.TRAINED, ("local", PRODUCTION)),
        ("1.1.0", Role.TRAINED, ()),
        ("2.0.0", Role.TRAINED, ()),
    ]
    assert flights[2].served == ()


def test_a_dataset_may_be_named_with_the_first_digits_of_its_digest(ledger: Ledger) -> None:
    assert [use.model for use in by_dataset(ledger, EVERYTHING, "loans@aaaaaa")] == [OTHER]
    assert len(by_dataset(ledger, EVERYTHING, "weather@" + "ef" * 16 + ".dir")) == 1
    with pytest.raises(NotFound, match=r"made of loans@bbbbbb\. Digests of loans, the newest: aaaaaaaaaaaa"):
        by_dataset(ledger, EVERYTHING, "loans@bbbbbb")
    with pytest.raises(NotFound, match="too short"):
        by_dataset(ledger, EVERYTHING, "loans@aaa")
    with pytest.raises(NotFound, match="There are: flights, loans, weather"):
        by_dataset(ledger, EVERYTHING, "loan")


def test_a_person_is_found_by_part_of_the_name_in_commits_and_in_rollouts(ledger: Ledger) -> None:
    assert [deed.action.value for deed in by_person(ledger, EVERYTHING, "sam")] == [
        "release",
        "candidate",
        "rejected",
        "unrecorded",
    ]
    (approved,) = by_person(ledger, EVERYTHING, "mia@example.org")
    assert (approved.action.value, approved.environment, approved.version) == ("asked", PRODUCTION, "1.1.0")
    assert approved.sentence == "Approved by Mia <mia@example.org>: risk, before 50 % of the users."
    assert len(by_person(ledger, EVERYTHING, LONG)) == 1  # YAML folds such a name
    with pytest.raises(NotFound, match=r"Nobody called Zoe .* There are: Ada .*, Kim, Sam"):
        by_person(ledger, EVERYTHING, "Zoe")


def test_a_commit_tells_what_it_records_and_which_releases_were_built_from_it(
    ledger: Ledger, told: World
) -> None:
    by_hand = told.git("rev-parse", "HEAD")
    story = by_commit(ledger, by_hand[:10])
    assert (story.commit, story.author, story.subject) == (by_hand, "Sam <sam@example.com>", "quick fix")
    assert [(deed.action.value, deed.environment) for deed in story.deeds] == [("unrecorded", PRODUCTION)]
    assert story.built == ()


def test_a_hash_that_is_none_or_of_nobody_is_said_to_be(ledger: Ledger) -> None:
    with pytest.raises(InputError, match="no commit's hash"):
        by_commit(ledger, "main")
    with pytest.raises(NotFound, match="No commit 0000000000 leads to the head"):
        by_commit(ledger, "0000000000")
