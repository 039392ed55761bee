from __future__ import annotations

from pathlib import Path

import pytest

from coalmine.audit.ledger import Ledger, read_ledger
from coalmine.audit.questions.in_full import in_full
from coalmine.audit.questions.scope import Scope
from coalmine.errors import IntegrityError, NotFound
from coalmine.manifest import manifest_path
from coalmine.slots import Slot
from tests.audit.conftest import BAD, ENVIRONMENT, GOOD, MODEL, SLOTS, World, copy_world
from tests.audit.simulated_rollouts import EVERYTHING, simulate
from tests.audit.told import LONG, MIA, PRODUCTION, SECOND, at
from tests.simulators.world import World as Simulated


def test_release_evidence_and_people_are_told_together(ledger: Ledger) -> None:
    (found,) = in_full(ledger, Scope(MODEL, PRODUCTION), at(30_000))
    assert (found.serving.version, found.serving.since, found.serving.until) == (
        "1.1.0",
        at(25_120),
        at(50_000),
    )
    assert found.manifest.dataset_digests == {
        "flights": "0123456789abcdef0123456789abcdef.dir",
        "weather": "ef" * 16 + ".dir",
    }
    metric = found.manifest.decision.metrics["roc_auc"]
    assert metric.low < metric.value < metric.high
    course = found.put_there
    assert course is not None
    assert (course.record.id, course.commit) == (SECOND.about.id, found.serving.commit)
    assert [event.weight_percent for event in course.weights] == [0, 0, 5, 5, 5, 25, 50, 100, 100, 100]
    assert {said.gate for said in course.gates} == {"errors", "latency"}
    assert course.gates[0].said.endswith("on stable.")
    assert [(asked.what, asked.who.who, asked.who.proof, asked.gates) for asked in course.asked] == [
        ("started", "Kim", "claimed", ()),
        ("approved", MIA, "unknown", ("risk",)),
        ("approved", LONG, "unknown", ("risk",)),
    ]
    assert found.beside is None


def test_a_rollout_that_ran_beside_it_is_told_as_well(ledger: Ledger) -> None:
    (found,) = in_full(ledger, Scope(MODEL, ENVIRONMENT), at(7_204))
    assert found.beside is not None
    assert (found.beside.record.id, found.beside.record.reason) == (BAD.about.id, "too many failures")
    assert found.put_there is not None
    assert found.put_there.record.id == GOOD.about.id


def test_what_no_rollout_put_there_has_no_course(ledger: Ledger) -> None:
    (found,) = in_full(ledger, Scope(MODEL, PRODUCTION), at(60_000))
    assert found.put_there is None


def test_the_gates_verdicts_come_from_the_ticks(world: World) -> None:
    """As a real runner writes them; the stages of a fake one have none."""
    world.hand_over(GOOD)
    folder = simulate(world.top, EVERYTHING, Simulated(), GOOD)
    world.record(folder).promote()
    (found,) = in_full(read_ledger(world.repository), Scope(MODEL), at(99_999))
    assert found.put_there is not None
    last = {said.gate: said.verdict for said in found.put_there.gates}
    assert (last["errors"], last["memory"]) == ("pass", "pass")
    assert [asked.what for asked in found.put_there.asked][:2] == ["started", "approved"]


def test_before_the_first_deployment_nothing_served_and_the_first_is_named(ledger: Ledger) -> None:
    with pytest.raises(NotFound, match=r"served nobody in local .* first at 2013-04-04 00:02:00 UTC"):
        in_full(ledger, Scope(MODEL, ENVIRONMENT), at(-7081))
    with pytest.raises(NotFound, match=r"Nothing of churn was ever in front of users, as far"):
        in_full(ledger, Scope("churn"), at(0))


def test_a_manifest_that_is_not_the_one_put_there_stops_the_answer(
    told: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = copy_world(told, tmp_path, monkeypatch)
    forged = own.commit_file(manifest_path(MODEL), "version: 1.0.0\n")
    slots = own.slots()
    stable = slots.releases[Slot.BLUE].model_copy(update={"commit": forged})
    own.put_slots(slots.model_copy(update={"releases": {Slot.BLUE: stable}}), "Forge", {})
    assert SLOTS.name in own.git("show", "--stat")
    with pytest.raises(IntegrityError, match=f"at commit {forged[:12]} has the digest"):
        in_full(read_ledger(own.repository), Scope(MODEL, ENVIRONMENT), at(99_999))
