from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coalmine.cluster.client import Cluster
from coalmine.reconcilers.apply import ApplyReconciler
from coalmine.rollout.ports import Reconciler
from tests.cluster.flux_place import Delivering, flux_place
from tests.cluster.slot_objects import objects_of
from tests.contracts.reconciler import ReconcilerContract


def wait_a_moment() -> None:
    time.sleep(0.2)


@pytest.fixture
def cut_off(cluster: Cluster) -> tuple[Cluster, Callable[[], None]]:
    """The cluster, and what takes it out of reach."""
    reached = Cluster.connect(cluster.namespace)

    def cut() -> None:
        reached.api.configuration.refresh_api_key_hook = None  # it would bring the address back
        reached.api.configuration.host = "https://127.0.0.1:9"

    return reached, cut


class TestApplyKeepsTheContract(ReconcilerContract):
    @pytest.fixture
    def reconciler(self, cut_off: tuple[Cluster, Callable[[], None]]) -> Reconciler:
        return ApplyReconciler(cut_off[0], "m", objects_of)

    @pytest.fixture
    def wait(self) -> Callable[[], None]:
        return wait_a_moment

    @pytest.fixture
    def cut(self, cut_off: tuple[Cluster, Callable[[], None]]) -> Callable[[], None]:
        return cut_off[1]


class TestFluxKeepsTheContract(ReconcilerContract):
    @pytest.fixture
    def reconciler(self, cut_off: tuple[Cluster, Callable[[], None]], tmp_path: Path) -> Iterator[Reconciler]:
        with flux_place(cut_off[0], tmp_path) as place:
            yield Delivering(place)

    @pytest.fixture
    def wait(self) -> Callable[[], None]:
        return wait_a_moment

    @pytest.fixture
    def cut(self, cut_off: tuple[Cluster, Callable[[], None]]) -> Callable[[], None]:
        return cut_off[1]
