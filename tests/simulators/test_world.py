"""The simulators keep what the adapters keep: the same contract suites."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coalmine.rollout.gates import Verdict
from coalmine.rollout.ports import Request
from tests.contracts.check import CheckContract
from tests.contracts.journal import JournalContract
from tests.contracts.reconciler import ReconcilerContract
from tests.contracts.router import RouterContract
from tests.contracts.telemetry import EndRequest, Outcome, TelemetryContract
from tests.simulators.world import (
    MemoryJournal,
    SimulatedCheck,
    SimulatedReconciler,
    SimulatedRouter,
    SimulatedTelemetry,
    World,
)


@pytest.fixture
def world() -> World:
    return World(requests_per_s=0)


class TestSimulatedRouter(RouterContract):
    @pytest.fixture
    def router(self, world: World) -> SimulatedRouter:
        return world.router

    @pytest.fixture
    def neighbour(self) -> SimulatedRouter:
        return SimulatedRouter()

    @pytest.fixture
    def cut(self, router: SimulatedRouter) -> Callable[[], None]:
        return lambda: setattr(router, "down", True)


class TestSimulatedReconciler(ReconcilerContract):
    @pytest.fixture
    def reconciler(self, world: World) -> SimulatedReconciler:
        return world.reconciler

    @pytest.fixture
    def wait(self, world: World) -> Callable[[], None]:
        return lambda: world.pass_time(1)

    @pytest.fixture
    def cut(self, reconciler: SimulatedReconciler) -> Callable[[], None]:
        return lambda: setattr(reconciler, "down", True)


class TestSimulatedTelemetry(TelemetryContract):
    @pytest.fixture
    def telemetry(self, world: World) -> SimulatedTelemetry:
        return world.telemetry

    @pytest.fixture
    def end_request(self, telemetry: SimulatedTelemetry) -> EndRequest:
        return lambda slot, outcome: telemetry.end_request(
            slot,
            failed=outcome is not Outcome.ANSWERED,
            seconds=1.0 if outcome is Outcome.TIMEOUT else 0.01,
        )

    @pytest.fixture
    def restart(self, telemetry: SimulatedTelemetry) -> Callable[[], None]:
        return telemetry.restart

    @pytest.fixture
    def cut(self, telemetry: SimulatedTelemetry) -> Callable[[], None]:
        return lambda: setattr(telemetry, "error", "cut")


class TestSimulatedCheck(CheckContract):
    @pytest.fixture
    def check(self) -> SimulatedCheck:
        return SimulatedCheck()

    @pytest.fixture
    def spoil(self, check: SimulatedCheck) -> Callable[[], None]:
        return lambda: setattr(check, "says", Verdict.FAIL)

    @pytest.fixture
    def cut(self, check: SimulatedCheck) -> Callable[[], None]:
        return lambda: setattr(check, "says", Verdict.ERROR)


class TestMemoryJournal(JournalContract):
    @pytest.fixture
    def journal(self) -> MemoryJournal:
        return MemoryJournal()

    @pytest.fixture
    def open_journal(self, journal: MemoryJournal) -> Callable[[], MemoryJournal]:
        return lambda: journal

    @pytest.fixture
    def ask(self, journal: MemoryJournal) -> Callable[[Request], None]:
        return journal.asked.append

    @pytest.fixture
    def told(self, journal: MemoryJournal) -> Callable[[], tuple[list[int], list[int]]]:
        return lambda: (
            [tick["sequence"] for tick in journal.ticks],
            [event["sequence"] for event in journal.events],
        )
