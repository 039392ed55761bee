from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coalmine.audit.attribution import to_trailer
from coalmine.audit.closing import Ending
from coalmine.audit.history import Action, deployments, history, rollout_record, served
from coalmine.errors import InputError, IntegrityError, NotFound
from coalmine.manifest import Trigger, manifest_path
from coalmine.registry.repository import Repository
from coalmine.slots import Slot
from tests.audit.conftest import BAD, ENVIRONMENT, FIRST, GOOD, MODEL, SLOTS, World, copy_world, make_world
from tests.journals.fake_rollouts import STARTED_AT_S

ADA = Trigger(kind="person", who="Ada <ada@example.com>", proof="signature")


def at(seconds_after_the_first_good_start: float) -> datetime:
    return datetime.fromtimestamp(STARTED_AT_S + seconds_after_the_first_good_start, UTC)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """1.0.0 first, 1.1.0 promoted, a champion kept, 2.0.0 turned away, back to 1.0.0 by a person."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        world = make_world(tmp_path_factory.mktemp("told"), monkeypatch)
        world.promote(FIRST)
        world.promote(GOOD)
        world.decide("1.1.1", "keep", ADA)
        world.reject(BAD, "too many failures")
        world.at(STARTED_AT_S + 10_000)
        slots = world.slots()
        back = {**slots.releases, Slot.BLUE: world.releases["1.0.0"]}
        trailers = {
            "Model": MODEL,
            "Version": "1.0.0",
            "Environment": ENVIRONMENT,
            "Decision": "rolled-back",
            "Triggered-By": to_trailer(ADA),
        }
        slots = slots.model_copy(update={"releases": back}).with_stable(Slot.BLUE)
        world.put_slots(slots, "Roll back flight-delay to 1.0.0 in local", trailers)
        yield world


@pytest.fixture
def own(told: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The same, to be changed by one test."""
    return copy_world(told, tmp_path, monkeypatch)


def test_a_plain_clone_tells_who_deployed_what(told: World, tmp_path: Path) -> None:
    told.git("clone", "-q", str(told.remote), str(tmp_path / "plain"))
    found = deployments(Repository.open(tmp_path / "plain"))
    assert [(d.at, d.version, d.outcome, d.who.who, d.who.proof, d.rollout) for d in found] == [
        (at(-7080), "1.0.0", Action.PROMOTED, "nightly schedule", "claimed", FIRST.about.id),
        (at(120), "1.1.0", Action.PROMOTED, "nightly schedule", "claimed", GOOD.about.id),
        (at(7260), "2.0.0", Action.REJECTED, "Sam", "claimed", BAD.about.id),
        (at(10_000), "1.0.0", Action.ROLLED_BACK, "Ada <ada@example.com>", "signature", None),
    ]
    record = rollout_record(told.repository, found[2])
    assert (record.outcome, record.reason) == (Ending.REJECTED, "too many failures")
    assert {(d.environment, d.model) for d in found} == {("local", "flight-delay")}
    assert deployments(told.repository, environment="production") == []
    assert deployments(told.repository, model="credit-risk") == []
    with pytest.raises(NotFound, match="without a rollout"):
        rollout_record(told.repository, found[3])


@pytest.mark.parametrize(
    ("after_s", "version", "since", "until"),
    [
        (-7080, "1.0.0", at(-7080), at(120)),
        (119, "1.0.0", at(-7080), at(120)),
        (120, "1.1.0", at(120), at(10_000)),
        (7_300, "1.1.0", at(120), at(10_000)),
        (99_999, "1.0.0", at(10_000), None),
    ],
    ids=[
        "at the first promotion",
        "just before",
        "at the promotion",
        "past a rejection",
        "after the roll-back",
    ],
)
def test_what_served_when(
    told: World, after_s: float, version: str, since: datetime, until: datetime | None
) -> None:
    answer = served(told.repository, ENVIRONMENT, MODEL, at(after_s))
    assert (answer.version, answer.since, answer.until) == (version, since, until)
    assert answer.manifest.version == version
    assert (answer.dataset.name, answer.code[:7]) == ("flights", "9f8e7d6")
    assert answer.metrics["roc_auc"].low < answer.metrics["roc_auc"].value


@pytest.mark.parametrize(
    ("after_s", "beside"),
    [
        (-1, None),
        (1, (GOOD.about.id, "1.1.0", 0)),
        (3, (GOOD.about.id, "1.1.0", 5)),
        (119, (GOOD.about.id, "1.1.0", 100)),
        (120, None),
        (7_204, (BAD.about.id, "2.0.0", 5)),
        (7_259, (BAD.about.id, "2.0.0", 0)),
        (99_999, None),
    ],
    ids=[
        "before",
        "starting",
        "entering stage 1",
        "baked",
        "recorded",
        "bad one in stage 1",
        "bad one off again",
        "long after",
    ],
)
def test_a_rollout_that_ran_then_is_told_with_its_recorded_weight(
    told: World, after_s: float, beside: tuple[str, str, int] | None
) -> None:
    found = served(told.repository, ENVIRONMENT, MODEL, at(after_s)).beside
    assert (None if found is None else (found.rollout, found.version, found.weight_percent)) == beside


def test_before_the_first_deployment_nothing_served_and_the_first_is_named(told: World) -> None:
    with pytest.raises(NotFound, match=r"served nobody in local .* first at 2013-04-04 00:02:00 UTC"):
        served(told.repository, ENVIRONMENT, MODEL, at(-7081))
    with pytest.raises(NotFound, match=r"Nothing of credit-risk"):
        served(told.repository, ENVIRONMENT, "credit-risk", at(0))


def test_a_time_without_a_zone_is_refused(told: World) -> None:
    with pytest.raises(InputError, match="write 2013-04-04T02:00:00Z"):
        served(told.repository, ENVIRONMENT, MODEL, datetime(2013, 4, 4, 2))


def test_a_models_life_holds_kept_champions_and_rejections_too(told: World) -> None:
    entries = history(told.repository, MODEL)
    assert [(entry.action.value, entry.version, entry.environment) for entry in entries] == [
        ("release", "1.0.0", None),
        ("promoted", "1.0.0", "local"),
        ("release", "1.1.0", None),
        ("promoted", "1.1.0", "local"),
        ("keep", "1.1.1", None),
        ("release", "2.0.0", None),
        ("rejected", "2.0.0", "local"),
        ("rolled-back", "1.0.0", "local"),
    ]
    assert entries[4].who == ADA
    assert entries[4].sentence == "Keep the champion of flight-delay"
    assert history(told.repository, "flight") == []


def test_a_slots_file_changed_by_hand_is_told_as_such_with_its_author(own: World) -> None:
    own.at(STARTED_AT_S + 20_000)
    (own.top / SLOTS).unlink()
    own.git("commit", "-qam", "away with it")
    last = deployments(own.repository)[-1]
    assert (last.version, last.outcome, last.who.who) == (None, Action.UNRECORDED, "Ada <ada@example.com>")
    assert last.who.proof == "claimed"
    with pytest.raises(NotFound, match="served nobody"):
        served(own.repository, ENVIRONMENT, MODEL, at(20_000))


def test_a_manifest_that_is_not_the_one_put_there_stops_the_answer(own: World) -> None:
    forged = own.commit_file(manifest_path(MODEL), "version: 1.0.0\n")
    slots = own.slots()
    stable = slots.releases[Slot.BLUE].model_copy(update={"commit": forged})
    own.put_slots(slots.model_copy(update={"releases": {Slot.BLUE: stable}}), "Forge", {})
    with pytest.raises(IntegrityError, match=f"at commit {forged[:12]} has the digest"):
        served(own.repository, ENVIRONMENT, MODEL, at(99_999))
