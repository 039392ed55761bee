"""What every Reconciler keeps, run over each adapter and the simulator.

Subclass `ReconcilerContract` in a test module and give it the fixtures.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coalmine.errors import ReconcilerUnavailable
from coalmine.rollout.ports import Reconciler, SlotHealth, SlotStatus
from coalmine.slots import Slot, SlotRelease, Slots

GOOD = SlotRelease(version="1.0.0", commit="a" * 40, model_digest="1" * 64)
BETTER = SlotRelease(version="1.1.0", commit="b" * 40, model_digest="2" * 64)
BROKEN = SlotRelease(version="1.2.0-broken", commit="c" * 40, model_digest="3" * 64)  # dies at start
LONGEST_WAIT = 600  # calls of `wait`


class ReconcilerContract:
    @pytest.fixture
    def reconciler(self) -> Reconciler:
        """The reconciler of model `m`; GOOD and BETTER become ready, BROKEN dies at start."""
        raise NotImplementedError

    @pytest.fixture
    def wait(self) -> Callable[[], None]:
        """Lets a moment pass."""
        raise NotImplementedError

    @pytest.fixture
    def cut(self) -> Callable[[], None]:
        """Ends whatever makes the slots run."""
        raise NotImplementedError

    def test_a_release_becomes_ready(self, reconciler: Reconciler, wait: Callable[[], None]) -> None:
        reconciler.reconcile(slots({Slot.BLUE: GOOD}))
        assert settled(reconciler, Slot.BLUE, wait).health is SlotHealth.READY

    def test_a_release_that_dies_at_start_fails_with_its_own_words(
        self, reconciler: Reconciler, wait: Callable[[], None]
    ) -> None:
        reconciler.reconcile(slots({Slot.GREEN: BROKEN}))
        status = settled(reconciler, Slot.GREEN, wait)
        assert status.health is SlotHealth.FAILED
        assert status.detail

    def test_a_failing_slot_leaves_the_other_ready(
        self, reconciler: Reconciler, wait: Callable[[], None]
    ) -> None:
        reconciler.reconcile(slots({Slot.BLUE: GOOD}))
        settled(reconciler, Slot.BLUE, wait)
        reconciler.reconcile(slots({Slot.BLUE: GOOD, Slot.GREEN: BROKEN}))
        settled(reconciler, Slot.GREEN, wait)
        assert reconciler.status(Slot.BLUE).health is SlotHealth.READY

    def test_what_is_ready_stays_ready_when_reconciled_again(
        self, reconciler: Reconciler, wait: Callable[[], None]
    ) -> None:
        reconciler.reconcile(slots({Slot.BLUE: GOOD, Slot.GREEN: BETTER}))
        for slot in Slot:
            settled(reconciler, slot, wait)
        reconciler.reconcile(slots({Slot.BLUE: GOOD, Slot.GREEN: BETTER}))
        assert [reconciler.status(slot).health for slot in Slot] == [SlotHealth.READY, SlotHealth.READY]

    def test_an_emptied_slot_is_not_ready(self, reconciler: Reconciler, wait: Callable[[], None]) -> None:
        reconciler.reconcile(slots({Slot.BLUE: GOOD, Slot.GREEN: BETTER}))
        settled(reconciler, Slot.GREEN, wait)
        reconciler.reconcile(slots({Slot.BLUE: GOOD}))
        assert reconciler.status(Slot.GREEN).health is SlotHealth.FAILED

    def test_the_status_after_reconcile_is_never_that_of_the_release_before(
        self, reconciler: Reconciler, wait: Callable[[], None]
    ) -> None:
        reconciler.reconcile(slots({Slot.GREEN: BROKEN}))
        settled(reconciler, Slot.GREEN, wait)
        reconciler.reconcile(slots({Slot.GREEN: GOOD}))
        assert reconciler.status(Slot.GREEN).health is not SlotHealth.FAILED
        assert settled(reconciler, Slot.GREEN, wait).health is SlotHealth.READY

    def test_with_nothing_to_run_the_slots_it_is_unavailable(
        self, reconciler: Reconciler, cut: Callable[[], None]
    ) -> None:
        cut()
        with pytest.raises(ReconcilerUnavailable):
            reconciler.reconcile(slots({Slot.BLUE: GOOD}))
        with pytest.raises(ReconcilerUnavailable):
            reconciler.status(Slot.BLUE)


def slots(releases: dict[Slot, SlotRelease]) -> Slots:
    return Slots(environment="test", model="m", releases=releases)


def settled(reconciler: Reconciler, slot: Slot, wait: Callable[[], None]) -> SlotStatus:
    """The status of `slot` once it is no longer starting."""
    for _ in range(LONGEST_WAIT):
        status = reconciler.status(slot)
        if status.health is not SlotHealth.STARTING:
            return status
        wait()
    raise AssertionError(f"{slot} is still starting: {status}")
