"""A rollback whose older release does not start: only what nobody has carried out is forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from coalmine.errors import RouterUnavailable, ServerUnavailable
from coalmine.manifest import Trigger
from coalmine.operations.going_back import Intent, carry_out, intend, intended
from coalmine.operations.serving_environment import ServingEnvironment
from coalmine.operations.workspace import Workspace
from coalmine.rollout.ports import TrafficSplit
from coalmine.scaffold.repository import init
from coalmine.slots import Slot, SlotRelease, Slots
from tests.operations.conftest import as_kim
from tests.operations.place import Place

MODEL = "flight-delays"
GOOD, BAD = (
    SlotRelease(version=version, commit=version, model_digest=version) for version in ("1.0.0", "1.1.0")
)
BEFORE = Slots(
    environment="local", model=MODEL, stable=Slot.GREEN, releases={Slot.BLUE: GOOD, Slot.GREEN: BAD}
)
AFTER = BEFORE.with_stable(Slot.BLUE)


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("kim") / "work"
    with pytest.MonkeyPatch.context() as patch:
        as_kim(patch)
        init(top, examples=(MODEL,))
    return top


@pytest.fixture
def workspace(top: Path) -> Workspace:
    return Workspace.open(top)


def go_back(workspace: Workspace, place: Place) -> Intent | None:
    """What is left of the rollback that fails."""
    trigger = Trigger(kind="person", who="Kim", proof="claimed")
    intent = Intent(before=BEFORE, after=AFTER, assignment=3, triggered_by=trigger)
    intend(workspace.top, intent)
    before = workspace.repository.head()
    with pytest.raises(ServerUnavailable, match="so the users stay: blue has no memory left"):
        carry_out(workspace, cast(ServingEnvironment, place), intent, lambda _: None)
    assert place.moved == []
    assert workspace.repository.head() == before
    return intended(workspace.top, "local", MODEL)


def test_where_the_users_are_on_the_other_release_git_says_what_runs_again(workspace: Workspace) -> None:
    place = Place(BEFORE, TrafficSplit.all_to(Slot.GREEN))
    assert go_back(workspace, place) is None
    assert place.started == [BEFORE]


@pytest.mark.parametrize(
    "shows",
    [TrafficSplit.all_to(Slot.BLUE), RouterUnavailable("Envoy does not answer")],
    ids=["moved", "unreadable"],
)
def test_where_an_earlier_call_may_have_moved_them_the_rollback_is_kept(
    workspace: Workspace, shows: TrafficSplit | RouterUnavailable
) -> None:
    place = Place(BEFORE, shows)
    assert go_back(workspace, place) is not None
    assert BEFORE not in place.started
