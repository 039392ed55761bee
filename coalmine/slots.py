"""The two slots of a model in an environment: what should run where, and in which role.

`k8s/environments/<environment>/<model>/slots.yaml` is the one machine-written file per
environment and model. Git holds it; a reconciler makes it true; a promotion changes
`stable` and the weights that follow from it, so that what was tested is what serves.

On a cluster, Kustomize copies `pods` and `weights` into the objects that people own
(k8s/components/slots); the file itself never becomes an object there.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from coalmine.errors import IntegrityError
from coalmine.yaml_loader import YAML_LOADER


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


class SlotPod(BaseModel):
    """What the pods of a slot are given, word for word: with it a pod needs neither Git nor model.yaml.

    digest: sha256 of `manifest`, which is the release's manifest.yaml. timeout_s, queue: the options of
    the model server.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    digest: str
    image: str
    manifest: str
    timeout_s: str
    queue: str


class Slots(BaseModel):
    """Law: `parse(dump(slots)) == slots`.

    pods: of the slots that hold a release, where pods serve; empty where processes of a machine do.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    environment: str
    model: str
    stable: Slot | None = None  # who serves the users at rest
    candidate: Slot | None = None  # the slot that a rollout moves users to; None at rest
    releases: dict[Slot, SlotRelease] = {}
    pods: dict[Slot, SlotPod] = {}

    @property
    def weights(self) -> dict[Slot, int]:
        """Each slot's share of the users at rest, in percent; nobody's before the first release."""
        return {slot: 100 if slot is self.stable else 0 for slot in Slot}

    @property
    def stable_release(self) -> SlotRelease | None:
        return None if self.stable is None else self.releases[self.stable]

    @property
    def candidate_release(self) -> SlotRelease | None:
        return None if self.candidate is None else self.releases[self.candidate]

    def with_candidate(self, release: SlotRelease, pod: SlotPod | None = None) -> Slots:
        """`release` in the slot that is not stable; what stood there before is gone."""
        slot = Slot.BLUE if self.stable is None else self.stable.other
        return self.with_release(slot, release, pod).model_copy(update={"candidate": slot})

    def with_release(self, slot: Slot, release: SlotRelease, pod: SlotPod | None = None) -> Slots:
        """`release` in `slot`, whatever stood there before."""
        without = self._without(slot)
        pods = without.pods if pod is None else {**without.pods, slot: pod}
        return without.model_copy(update={"releases": {**without.releases, slot: release}, "pods": pods})

    def with_promotion(self) -> Slots:
        """The candidate is stable; the old stable stays in its slot, ready to go back to."""
        return self.model_copy(update={"stable": self.candidate, "candidate": None})

    def with_rejection(self) -> Slots:
        """Stable stays; the rejected release leaves its slot, so nothing can go back to it."""
        return self._without(self.candidate).model_copy(update={"candidate": None})

    def with_stable(self, slot: Slot) -> Slots:
        """`slot`, which must hold a release, serves the users at rest."""
        assert slot in self.releases
        return self.model_copy(update={"stable": slot, "candidate": None})

    def _without(self, slot: Slot | None) -> Slots:
        releases = {each: release for each, release in self.releases.items() if each is not slot}
        pods = {each: pod for each, pod in self.pods.items() if each is not slot}
        return self.model_copy(update={"releases": releases, "pods": pods})


def slots_path(environment: str, model: str) -> Path:
    """Where the slots of `model` stand, from the top of the repository."""
    return Path("k8s/environments") / environment / model / "slots.yaml"


def parse_slots(text: str, where: str) -> Slots:
    """
    Raises:
        IntegrityError: a machine writes this file; a broken one was edited by hand.
    """
    try:
        return Slots.model_validate(_said_once(yaml.load(text, Loader=YAML_LOADER)))
    except (yaml.YAMLError, ValidationError) as error:
        raise IntegrityError(
            f"{where} is written by coalmine and cannot be read: {error}. "
            f"Take the last good one back: git checkout HEAD~1 -- {where}"
        ) from error


def parse_roles(text: str, where: str) -> Slots:
    """`parse_slots` without `pods`, which hold a whole manifest each: for reading many.

    Raises:
        IntegrityError: a machine writes this file; a broken one was edited by hand.
    """
    head, _, _ = text.partition("\npods:\n")
    as_written = all(f"\n{key}:" in head for key in ("stable", "candidate", "releases"))
    return parse_slots(head if as_written else text, where)


def dump_slots(slots: Slots) -> str:
    content = slots.model_dump(mode="json")
    content["pods"] = {slot.value: _pod(slots.pods.get(slot)) for slot in Slot}
    content["weights"] = _weights(slots.weights)
    head = "# Written by coalmine. People own everything else under k8s/.\n"
    return head + yaml.dump({**_FOR_KUSTOMIZE, **content}, Dumper=_Dumper, sort_keys=False)


# --- for Kustomize ---------------------------------------------------------------------

# It takes the file for an object, copies from it, and leaves it out of what it builds.
_FOR_KUSTOMIZE: dict[str, Any] = {
    "apiVersion": "coalmine.dev/v1",
    "kind": "Slots",
    "metadata": {"name": "slots", "annotations": {"config.kubernetes.io/local-config": "true"}},
}
_NOTHING = "none"  # Kustomize copies no field that is absent or empty


def _pod(pod: SlotPod | None) -> dict[str, str]:
    """absent: whether the slot's objects are left out, in the words of Kustomize's own annotation."""
    if pod is None:
        return {"absent": "true", **dict.fromkeys(SlotPod.model_fields, _NOTHING)}
    return {"absent": "false", **pod.model_dump()}


def _weights(weights: Mapping[Slot, int]) -> dict[str, int]:
    """With what is missing from 100, since there are technologies that refuse weights without a sum."""
    shares = {slot.value: weight for slot, weight in weights.items()}
    return {**shares, "nobody": 100 - sum(weights.values())}


def _said_once(content: Any) -> Any:
    """`content` of the file without what follows from the rest."""
    if not isinstance(content, dict):
        return content
    content = {key: each for key, each in content.items() if key not in (*_FOR_KUSTOMIZE, "weights")}
    if isinstance(pods := content.get("pods"), dict):
        content["pods"] = {
            slot: {key: each for key, each in pod.items() if key != "absent"}
            for slot, pod in pods.items()
            if isinstance(pod, dict) and pod.get("absent") == "false"
        }
    return content


class _Dumper(yaml.SafeDumper):
    """A text of several lines as such: a manifest is to be read."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
