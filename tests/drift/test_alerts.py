"""Told once of each change, whoever is killed; quiet through what is honest and of what nobody could read."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from coalmine.drift.alerts import HEALS_AFTER_S, MOST_WAITING, Notice, Watched
from coalmine.drift.compare import Look, compare
from coalmine.drift.facts import Running
from coalmine.drift.findings import AT_ONCE, Aspect, Heal
from tests.drift.place import DIVERGENCES, MODEL, Divergence, at_rest, environment

TO = ("pager",)
WELL = compare(environment())
DIED = compare(DIVERGENCES["a server that died"].facts)
TAG = compare(DIVERGENCES["a tag without a manifest"].facts)


def looks(*seen: tuple[float, Look], watched: Watched | None = None) -> Watched:
    """What is kept after looks at these times."""
    watched = watched or Watched()
    for at_s, look in seen:
        watched = watched.with_look(look, at_s, TO)
        assert Watched.from_json(json.loads(json.dumps(watched.to_json()))) == watched
    return watched


def told(watched: Watched) -> list[tuple[list[str], list[str]]]:
    """Kinds that appeared and that ended, notice by notice."""
    return [
        ([each.finding.kind for each in notice.appeared], [each.finding.kind for each in notice.ended])
        for notice in watched.waiting
    ]


@pytest.mark.parametrize("divergence", DIVERGENCES.values(), ids=DIVERGENCES)
def test_each_divergence_is_told_once_and_its_end_once(divergence: Divergence) -> None:
    settles_s, bad = divergence.kind.settles_s, compare(divergence.facts)
    every_s = max(settles_s, 60.0)
    watched = looks(*((number * every_s, bad) for number in range(6)))
    assert told(watched) == [([divergence.kind], [])]
    (notice,) = watched.waiting
    assert notice.at_s == (0.0 if settles_s == AT_ONCE else every_s)
    assert notice.appeared[0].first_s == 0.0
    watched = looks(*((number * every_s, WELL) for number in range(6, 12)), watched=watched)
    assert told(watched) == [([divergence.kind], []), ([], [divergence.kind])]
    assert watched.open == {}


def test_a_flap_within_one_look_or_less_than_a_change_takes_is_not_told() -> None:
    assert told(looks((0, DIED), (60, WELL), (120, DIED), (180, WELL))) == []
    assert told(looks((0, DIED), (10, DIED), (20, DIED), (30, WELL))) == []


def test_what_is_told_and_flaps_is_not_told_again() -> None:
    watched = looks((0, DIED), (60, DIED), (90, WELL), (100, DIED), (120, WELL), (130, DIED), (190, DIED))
    assert told(watched) == [(["server down"], [])]


def test_what_comes_back_after_its_end_was_told_is_news() -> None:
    watched = looks((0, TAG), (60, WELL), (120, TAG))
    assert [len(appeared) - len(ended) for appeared, ended in told(watched)] == [1, -1, 1]


def test_what_a_look_could_not_see_has_neither_ended_nor_begun_anew() -> None:
    blind = compare(environment(replace(at_rest(), running=Running(unread={Aspect.SERVERS: "no answer"}))))
    watched = looks((0, DIED), (60, DIED), (120, blind), (180, blind), (600, DIED))
    assert told(watched)[0] == (["server down"], [])
    assert all("server down" not in ended for _, ended in told(watched))
    assert watched.open[DIED.findings[0].key].first_s == 0


def test_all_that_one_look_makes_news_is_one_notice() -> None:
    both = Look((*TAG.findings, *compare(DIVERGENCES["Flux that is suspended"].facts).findings), WELL.models)
    assert told(looks((0, both))) == [(["tag without manifest", "Flux suspended"], [])]


def test_nobody_is_told_where_nobody_is_to_be_told_and_it_counts_as_told() -> None:
    watched = Watched().with_look(TAG, 0, ())
    assert watched.waiting == ()
    assert watched.open[TAG.findings[0].key].told


def test_whoever_was_told_is_struck_out_and_the_others_wait() -> None:
    watched = Watched().with_look(TAG, 0, ("pager", "chat"))
    (notice,) = watched.with_told(1, "pager").waiting
    assert notice.to == ("chat",)
    assert watched.with_told(1, "pager").with_told(1, "chat").waiting == ()


def test_an_address_that_was_taken_out_is_waited_for_no_more_and_too_old_news_is_given_up_by_name() -> None:
    watched = Watched().with_look(TAG, 0, ("pager", "chat"))
    assert watched.without({"chat"})[0].waiting[0].to == ("chat",)
    many = tuple(Notice(number, 0.0, (), (), TO) for number in range(MOST_WAITING + 2))
    kept, given_up = Watched(waiting=many).without({"pager"})
    assert [each.number for each in given_up] == [0, 1]
    assert len(kept.waiting) == MOST_WAITING


def test_healing_waits_as_long_as_a_lease_lasts_and_is_told_at_once() -> None:
    watched = looks((0, DIED))
    assert watched.to_heal(DIED, HEALS_AFTER_S - 1) == ()
    (finding,) = watched.to_heal(DIED, HEALS_AFTER_S)
    watched = watched.with_look(DIED, HEALS_AFTER_S, TO, {finding.key})
    assert told(watched) == [(["server down"], [])]
    assert told(looks((20, WELL), (80, WELL), watched=watched))[1] == ([], ["server down"])


@pytest.mark.parametrize("divergence", DIVERGENCES.values(), ids=DIVERGENCES)
def test_what_a_person_must_decide_is_not_offered_for_healing(divergence: Divergence) -> None:
    look = compare(divergence.facts)
    found = looks((0, look)).to_heal(look, 1000.0)
    assert bool(found) == (look.findings[0].heal is not Heal.PERSON)


@pytest.mark.parametrize("broken", [{}, {"open": [{}], "waiting": [], "number": 1}, {"open": None}])
def test_what_was_edited_is_said_to_be_unreadable(broken: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Watched.from_json(broken)


def test_a_thousand_findings_and_their_notice_fit_a_config_map() -> None:
    """Which ends at 1 MiB."""
    (died,) = DIED.findings
    many = Look(tuple(replace(died, model=f"{MODEL}-{number:04}") for number in range(1000)), frozenset())
    watched = looks((0, many), (60, many))
    assert len(watched.waiting[0].appeared) == 1000
    assert len(json.dumps(watched.to_json())) < 1_048_576
