"""Makes what Git says about one model run as processes of this machine.

The slots become files; the supervisor of this repository (`coalmine.local.supervisor`) makes
the files true. A server whose spec did not change is not touched. How a release becomes a
command line is the caller's to say.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import assert_never

from coalmine.errors import IntegrityError, MachineUnready, ReconcilerUnavailable
from coalmine.reconcilers.process_files import ProcessFolder, ProcessHealth, ProcessSpec
from coalmine.rollout.ports import SlotHealth, SlotStatus
from coalmine.slots import Slot, SlotRelease, Slots

TAKEN_UP_WITHIN_S = 10.0  # the supervisor looks ten times a second, but may be waiting for a slow server


class ProcessesReconciler:
    """The reconciler of `model`. `folder` is the supervisor's; `command` says how to serve a release."""

    def __init__(self, model: str, folder: Path, command: Callable[[Slot, SlotRelease], ProcessSpec]) -> None:
        self._model = model
        self._files = ProcessFolder(folder)
        self._command = command

    def reconcile(self, slots: Slots) -> None:
        try:
            requests = {slot: self._ask_for(slot, slots.releases.get(slot)) for slot in Slot}
            self._await_taken_up(requests)
        except (MachineUnready, IntegrityError) as error:
            raise ReconcilerUnavailable(str(error)) from error

    def status(self, slot: Slot) -> SlotStatus:
        try:
            self._require_supervisor()
            desired = self._files.desired(self._name(slot))
            status = self._files.status(self._name(slot))
        except IntegrityError as error:
            raise ReconcilerUnavailable(str(error)) from error
        if desired is None:
            return SlotStatus(SlotHealth.FAILED, f"nothing is meant to run in {slot}")
        if status is None or status.request != desired.request:
            return SlotStatus(SlotHealth.STARTING, "the supervisor has not seen it yet")
        return SlotStatus(_slot_health(status.health), status.detail)

    def _ask_for(self, slot: Slot, release: SlotRelease | None) -> str | None:
        """What the supervisor must have seen; None when nothing should run."""
        if release is None:
            self._files.dismiss(self._name(slot))
            return None
        spec = replace(self._command(slot, release), name=self._name(slot))
        return self._files.desire(spec).request

    def _await_taken_up(self, requests: dict[Slot, str | None]) -> None:
        deadline = time.monotonic() + TAKEN_UP_WITHIN_S
        while not all(self._is_taken_up(slot, request) for slot, request in requests.items()):
            self._require_supervisor()
            if time.monotonic() > deadline:
                raise ReconcilerUnavailable(
                    f"The supervisor of this repository did not take up the slots of {self._model} within "
                    f"{TAKEN_UP_WITHIN_S:g} s: the machine may be overloaded. What it does stands in "
                    f"{self._files.log('supervisor')}. Run again."
                )
            time.sleep(0.02)

    def _is_taken_up(self, slot: Slot, request: str | None) -> bool:
        status = self._files.status(self._name(slot))
        if request is None:
            return status is None or status.health is ProcessHealth.STOPPING
        return status is not None and status.request == request

    def _require_supervisor(self) -> None:
        if self._files.supervisor_pid() is None:
            raise ReconcilerUnavailable(
                f"Nothing runs the servers of {self._model} on this machine: the local stack is down. "
                "Start it: coalmine up"
            )

    def _name(self, slot: Slot) -> str:
        return f"{self._model}-{slot}"


def _slot_health(health: ProcessHealth) -> SlotHealth:
    match health:
        case ProcessHealth.READY:
            return SlotHealth.READY
        case ProcessHealth.STARTING:
            return SlotHealth.STARTING
        case ProcessHealth.FAILED | ProcessHealth.STOPPING:
            return SlotHealth.FAILED
        case _:
            assert_never(health)
