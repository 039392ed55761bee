from __future__ import annotations

from pathlib import Path

import pytest

from coalmine.journals import cluster_store
from coalmine.journals.journal import FileJournal, begin
from tests.journals.cluster_place import FAKE, Place
from tests.journals.fake_rollouts import FakeRollout


@pytest.fixture
def journal(tmp_path: Path) -> FileJournal:
    return FileJournal(begin(tmp_path, FakeRollout().about))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A cluster that nobody has used, on which nobody waits for long."""
    monkeypatch.setattr(cluster_store, "TRIED_FOR_S", 0.1)
    monkeypatch.setattr(cluster_store, "TRY_AGAIN_S", 0.02)
    return Place(tmp_path)


@pytest.fixture
def published(place: Place) -> Place:
    """A cluster on which a rollout is about to begin."""
    place.machine().publish(FAKE)
    return place
