"""A history with everything in it that an auditor meets: two environments, two models, lookups, an approval,
a kept champion, a rejection, a roll-back, and a change by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from coalmine.audit.attribution import to_trailer
from coalmine.durable import read_lines, replace_lines
from coalmine.journals.journal import EVENTS
from coalmine.manifest import DatasetVersion, LookupTable, Manifest, Trigger
from coalmine.slots import Slot, dump_slots, slots_path
from tests.audit.conftest import BAD, FIRST, GOOD, MODEL, World
from tests.journals.fake_rollouts import STARTED_AT_S, FakeRollout, make_manifest

ADA = Trigger(kind="person", who="Ada <ada@example.com>", proof="claimed")
MIA = "Mia <mia@example.org>"
LONG = "Dr. Alexandra von Hohenfels-Waldstein, second line, model risk and validation <avhw@example.org>"
OTHER, PRODUCTION = "credit-risk", "production"
WEATHER = LookupTable(
    dataset="weather", md5="ef" * 16 + ".dir", key=("origin", "hour"), columns=(), missing="null", files=()
)
LOANS = DatasetVersion(
    name="loans", md5="aa" * 16 + ".dir", train=("2012",), test=("2013",), train_rows=800, test_rows=200
)
TO_PRODUCTION = FakeRollout(
    version="1.0.0", stable_version=None, environment=PRODUCTION, started_at_s=STARTED_AT_S + 20_000
)
SECOND = FakeRollout(environment=PRODUCTION, who="Kim", started_at_s=STARTED_AT_S + 25_000)
LOAN_MODEL = FakeRollout(
    version="5.0.0",
    stable_version=None,
    environment=PRODUCTION,
    model=OTHER,
    started_at_s=STARTED_AT_S + 40_000,
)
BY_HAND_S = 50_000
SETTINGS = "schema_version: 1\nenvironments:\n  local: {}\n  production: {}\n"


def at(seconds_after_the_first_good_start: float) -> datetime:
    return datetime.fromtimestamp(STARTED_AT_S + seconds_after_the_first_good_start, UTC)


def with_weather() -> Manifest:
    return make_manifest("1.1.0").model_copy(update={"lookups": (WEATHER,)})


def tell(world: World) -> None:
    (world.top / "coalmine.yaml").write_text(SETTINGS)
    world.git("add", "coalmine.yaml")
    world.git("commit", "-qm", "Settings")
    world.promote(FIRST)
    world.decide("1.1.0", "release", GOOD.about.triggered_by, with_weather())
    world.promote(GOOD)
    world.now_s = STARTED_AT_S - 1000
    world.decide("1.1.1", "keep", ADA)
    world.reject(BAD, "too many failures")
    roll_back(world)
    world.promote(TO_PRODUCTION)
    folder = world.start(SECOND)
    approve(folder, MIA, SECOND.started_at_s + 30)
    approve(folder, LONG, SECOND.started_at_s + 31)
    world.at(SECOND.started_at_s + 120)
    world.record(folder).promote()
    world.now_s = LOAN_MODEL.started_at_s - 7200
    made_of = {"model": OTHER, "dataset": LOANS, "code": world.git("rev-parse", "HEAD")}
    loans = make_manifest("5.0.0", None).model_copy(update=made_of)
    world.decide("5.0.0", "release", ADA, loans)
    world.promote(LOAN_MODEL)
    change_by_hand(world)
    world.git("push", "-q", "origin", "main")


def roll_back(world: World) -> None:
    """To 1.0.0 in local, as `coalmine rollback` does."""
    world.at(STARTED_AT_S + 10_000)
    slots, old = world.slots(), world.releases["1.0.0"]
    trailers = {
        "Model": MODEL,
        "Version": "1.0.0",
        "Environment": "local",
        "Digest": old.model_digest,
        "Decision": "rolled-back",
        "Rolled-Back": "1.1.0",
        "Triggered-By": to_trailer(ADA),
    }
    slots = slots.with_release(Slot.BLUE, old).with_stable(Slot.BLUE)
    world.put_slots(slots, "Roll flight-delay back to 1.0.0 in local", trailers)


def change_by_hand(world: World) -> None:
    """Sam takes production back, by an editor and git alone."""
    world.at(STARTED_AT_S + BY_HAND_S)
    slots = world.slots(PRODUCTION)
    assert slots.stable is not None
    path = slots_path(PRODUCTION, MODEL)
    (world.top / path).write_text(dump_slots(slots.with_stable(slots.stable.other)))
    world.git("commit", "-qm", "quick fix", "--author", "Sam <sam@example.com>", "--", str(path))


def approve(folder: Path, who: str, at_s: float) -> None:
    """The words of an approval among the events of a rollout that is over and not recorded yet."""
    lines, _ = read_lines(folder / EVENTS)
    place = next(number for number, line in enumerate(lines) if line["at_s"] > at_s)
    sentence = f"Approved by {who}: risk, before 50 % of the users."
    weight = lines[place - 1]["weight_percent"]
    approved = {"at_s": at_s, "kind": "approved", "sentence": sentence, "weight_percent": weight}
    lines.insert(place, {"sequence": place, **approved})
    replace_lines(folder / EVENTS, [{**line, "sequence": number} for number, line in enumerate(lines)])
