from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coalmine.errors import ReconcilerUnavailable
from coalmine.local.stack import LocalStack
from coalmine.reconcilers.process_files import ProcessFolder, ProcessSpec
from coalmine.reconcilers.processes import ProcessesReconciler
from coalmine.rollout.ports import SlotHealth
from coalmine.slots import Slot, SlotRelease
from tests.contracts.reconciler import BETTER, BROKEN, GOOD, ReconcilerContract, settled, slots
from tests.local.harness import dying, eventually, fake_server, kill, new_stack, pid_of, running_stack

LAST_WORDS = "ValueError: no such column: pressure"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    with running_stack(tmp_path) as stack:
        yield stack


def reconciler_of(stack: LocalStack) -> ProcessesReconciler:
    def command(slot: Slot, release: SlotRelease) -> ProcessSpec:
        name = f"m-{slot}"
        if release == BROKEN:
            return dying(name, LAST_WORDS)
        return dataclasses.replace(fake_server(stack, name), env={"VERSION": release.version})

    return ProcessesReconciler("m", stack.folder, command)


@pytest.fixture
def reconciler(stack: LocalStack) -> ProcessesReconciler:
    return reconciler_of(stack)


def wait_a_moment() -> None:
    time.sleep(0.05)


class TestProcessesKeepTheContract(ReconcilerContract):
    @pytest.fixture
    def reconciler(self, stack: LocalStack) -> ProcessesReconciler:
        return reconciler_of(stack)

    @pytest.fixture
    def wait(self) -> Callable[[], None]:
        return wait_a_moment

    @pytest.fixture
    def cut(self, stack: LocalStack) -> Callable[[], None]:
        return stack.down


def test_a_server_whose_spec_is_unchanged_is_not_restarted(
    stack: LocalStack, reconciler: ProcessesReconciler
) -> None:
    reconciler.reconcile(slots({Slot.BLUE: GOOD}))
    settled(reconciler, Slot.BLUE, wait_a_moment)
    before = pid_of(stack, "m-blue")
    reconciler.reconcile(slots({Slot.BLUE: GOOD, Slot.GREEN: BETTER}))
    settled(reconciler, Slot.GREEN, wait_a_moment)
    assert pid_of(stack, "m-blue") == before


def test_another_release_in_a_slot_replaces_its_server(
    stack: LocalStack, reconciler: ProcessesReconciler
) -> None:
    reconciler.reconcile(slots({Slot.BLUE: GOOD}))
    settled(reconciler, Slot.BLUE, wait_a_moment)
    before = pid_of(stack, "m-blue")
    reconciler.reconcile(slots({Slot.BLUE: BETTER}))
    assert settled(reconciler, Slot.BLUE, wait_a_moment).health is SlotHealth.READY
    assert pid_of(stack, "m-blue") != before


def test_a_release_is_taken_up_while_the_server_before_it_is_slow_to_end(stack: LocalStack) -> None:
    longer_than_anybody_waits_s = 60.0

    def command(slot: Slot, release: SlotRelease) -> ProcessSpec:
        server = fake_server(stack, f"m-{slot}", "stubborn" if release == GOOD else "")
        return dataclasses.replace(server, grace_s=longer_than_anybody_waits_s)

    reconciler = ProcessesReconciler("m", stack.folder, command)
    reconciler.reconcile(slots({Slot.BLUE: GOOD}))
    settled(reconciler, Slot.BLUE, wait_a_moment)
    before = pid_of(stack, "m-blue")
    reconciler.reconcile(slots({Slot.BLUE: BETTER}))
    assert reconciler.status(Slot.BLUE).health is SlotHealth.STARTING
    assert pid_of(stack, "m-blue") == before
    kill(before)
    assert settled(reconciler, Slot.BLUE, wait_a_moment).health is SlotHealth.READY


def test_a_server_that_dies_at_start_is_quoted_and_not_tried_again_by_itself(
    stack: LocalStack, reconciler: ProcessesReconciler
) -> None:
    reconciler.reconcile(slots({Slot.GREEN: BROKEN}))
    status = settled(reconciler, Slot.GREEN, wait_a_moment)
    assert status.health is SlotHealth.FAILED
    assert "status 3" in status.detail
    assert LAST_WORDS in status.detail
    time.sleep(0.5)
    assert stack.log("m-green").read_text().count(LAST_WORDS) == 1


def test_reconciling_again_tries_a_failed_server_once_more(
    stack: LocalStack, reconciler: ProcessesReconciler
) -> None:
    for _ in range(2):
        reconciler.reconcile(slots({Slot.GREEN: BROKEN}))
        assert settled(reconciler, Slot.GREEN, wait_a_moment).health is SlotHealth.FAILED
    assert stack.log("m-green").read_text().count(LAST_WORDS) == 2


def test_a_server_that_was_ready_and_crashed_is_ready_again(
    stack: LocalStack, reconciler: ProcessesReconciler
) -> None:
    reconciler.reconcile(slots({Slot.BLUE: GOOD}))
    settled(reconciler, Slot.BLUE, wait_a_moment)
    before = pid_of(stack, "m-blue")
    kill(before)
    eventually(lambda: pid_or_none(stack) not in (None, before), "another process took its place")
    assert settled(reconciler, Slot.BLUE, wait_a_moment).health is SlotHealth.READY


def test_what_was_asked_for_while_the_stack_was_down_runs_when_it_is_up(tmp_path: Path) -> None:
    stack = new_stack(tmp_path)
    reconciler = reconciler_of(stack)
    with pytest.raises(ReconcilerUnavailable, match="coalmine up"):
        reconciler.reconcile(slots({Slot.BLUE: GOOD}))
    stack.up()
    try:
        assert settled(reconciler, Slot.BLUE, wait_a_moment).health is SlotHealth.READY
    finally:
        stack.down()


def test_a_wish_that_was_edited_by_hand_is_reported_and_harms_no_other(
    stack: LocalStack, reconciler: ProcessesReconciler
) -> None:
    reconciler.reconcile(slots({Slot.BLUE: GOOD}))
    settled(reconciler, Slot.BLUE, wait_a_moment)
    (stack.folder / "processes" / "m-green.json").write_text("{")
    with pytest.raises(ReconcilerUnavailable, match=r"m-green\.json"):
        reconciler.status(Slot.GREEN)
    assert reconciler.status(Slot.BLUE).health is SlotHealth.READY


def pid_or_none(stack: LocalStack) -> int | None:
    status = ProcessFolder(stack.folder).status("m-blue")
    return None if status is None else status.pid
