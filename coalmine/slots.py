"""The two slots of a model in an environment: what should run where, and in which role.

`k8s/environments/<environment>/<model>/slots.yaml` is the one machine-written file per
environment and model. Git holds it; a reconciler makes it true; a promotion changes
`stable` and nothing else, so that what was tested is what serves.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from coalmine.errors import IntegrityError
from coalmine.spec import YAML_LOADER


class Slot(StrEnum):
    BLUE = "blue"
    GREEN = "green"

    @property
    def other(self) -> Slot:
        return Slot.GREEN if self is Slot.BLUE else Slot.BLUE


class SlotRelease(BaseModel):
    """One release in one slot, by digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    commit: str  # the commit that recorded the release, where its manifest stands
    model_digest: str  # sha256 of the manifest, which itself holds every file's digest
    dataset_digests: dict[str, str] = {}
    image_digest: str | None = None


class Slots(BaseModel):
    """Law: `parse(dump(slots)) == slots`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    environment: str
    model: str
    stable: Slot | None = None  # who serves the users at rest
    candidate: Slot | None = None  # the slot that a rollout moves users to; None at rest
    releases: dict[Slot, SlotRelease] = {}

    @property
    def stable_release(self) -> SlotRelease | None:
        return None if self.stable is None else self.releases[self.stable]

    @property
    def candidate_release(self) -> SlotRelease | None:
        return None if self.candidate is None else self.releases[self.candidate]

    def with_candidate(self, release: SlotRelease) -> Slots:
        """`release` in the slot that is not stable; what stood there before is gone."""
        slot = Slot.BLUE if self.stable is None else self.stable.other
        return self.model_copy(update={"candidate": slot, "releases": {**self.releases, slot: release}})

    def with_promotion(self) -> Slots:
        """The candidate is stable; the old stable stays in its slot, ready to go back to."""
        return self.model_copy(update={"stable": self.candidate, "candidate": None})

    def with_rejection(self) -> Slots:
        """Stable stays; the rejected release leaves its slot, so nothing can go back to it."""
        releases = {slot: r for slot, r in self.releases.items() if slot is not self.candidate}
        return self.model_copy(update={"candidate": None, "releases": releases})

    def with_stable(self, slot: Slot) -> Slots:
        """`slot`, which must hold a release, serves the users at rest."""
        assert slot in self.releases
        return self.model_copy(update={"stable": slot, "candidate": None})


def slots_path(environment: str, model: str) -> Path:
    """Where the slots of `model` stand, from the top of the repository."""
    return Path("k8s/environments") / environment / model / "slots.yaml"


def parse_slots(text: str, where: str) -> Slots:
    """
    Raises:
        IntegrityError: a machine writes this file; a broken one was edited by hand.
    """
    try:
        return Slots.model_validate(yaml.load(text, Loader=YAML_LOADER))
    except (yaml.YAMLError, ValidationError) as error:
        raise IntegrityError(
            f"{where} is written by coalmine and cannot be read: {error}. "
            f"Take the last good one back: git checkout HEAD~1 -- {where}"
        ) from error


def dump_slots(slots: Slots) -> str:
    head = "# Written by coalmine. People own everything else under k8s/.\n"
    return head + yaml.safe_dump(slots.model_dump(mode="json"), sort_keys=False)
