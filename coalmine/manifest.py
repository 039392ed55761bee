"""models/<model>/manifest.yaml: what one release is, so that it can be served, audited, rebuilt.

The pipeline writes it, once per release; its history is Git's. It names every file by
digest: the digest of the manifest is therefore the digest of the release.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from coalmine.errors import IntegrityError
from coalmine.spec import Task
from coalmine.yaml_loader import YAML_LOADER


class Value(BaseModel):
    # Built when first used: a command looks at one or two of them.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class ReleaseFile(Value):
    """One file of a release. `md5` is its name in the DVC remote, `sha256` what a server verifies."""

    path: str  # from the top of the repository
    sha256: str
    md5: str
    size_bytes: int


class Tensor(Value):
    """An input or an output of the model, in the Open Inference Protocol's types."""

    name: str
    datatype: Literal["BOOL", "INT64", "FP64", "BYTES"]
    nullable: bool = False


class Example(Value):
    """One row of the test set and what the model says to it: the server's self-check."""

    inputs: dict[str, Any]
    outputs: dict[str, Any]


class DatasetVersion(Value):
    name: str
    md5: str  # DVC's digest of the partitions folder
    train: tuple[str, ...]  # partitions
    test: tuple[str, ...]
    train_rows: int
    test_rows: int


class LookupTable(Value):
    """A dataset that is served with the model: what it adds to the row of a request, by key."""

    dataset: str
    md5: str  # DVC's digest of the partitions folder
    key: tuple[str, ...]  # inputs that together name one of its rows
    columns: tuple[Tensor, ...]  # what it adds
    missing: Literal["refuse", "null"]  # what a key without a row meets
    files: tuple[ReleaseFile, ...]  # its partitions


class Predictor(Value):
    """Which code answers: scikit-learn, or an exact translation of the model that is faster.

    The translation is used only where it agreed with scikit-learn on every row of the test set:
    the same labels, and numbers that differ by `tolerance` at most.
    """

    kind: Literal["compiled", "scikit-learn"] = "scikit-learn"
    reason: str = "released before models were translated"
    tolerance: float | None = None
    max_difference: float | None = None
    rows: int = 0  # compared


class Estimate(Value):
    """A metric with its interval, both ends inclusive, at the evaluation's confidence."""

    value: float
    low: float
    high: float


class Comparison(Value):
    """Challenger against champion on the same rows; `gain` is positive where the challenger is better."""

    metric: str
    slice: str | None  # "origin=JFK", None for all rows
    rows: int
    challenger: float
    champion: float
    gain: Estimate
    required_gain: float | None  # None: reported, not judged
    passed: bool


class Outcome(StrEnum):
    RELEASE = "release"
    KEEP = "keep"  # the champion stays


class ReleaseDecision(Value):
    outcome: Outcome
    reasons: tuple[str, ...]  # whole sentences, for people
    champion: str | None  # version, None for a first release
    metrics: dict[str, Estimate]  # the challenger's
    champion_metrics: dict[str, Estimate] = {}  # on the same rows
    comparisons: tuple[Comparison, ...] = ()


class Trigger(Value):
    """Who or what asked, and what proves it.

    A change is its author's; why it, lost quality or a shift made the model due stands in `because`.
    """

    kind: Literal["schedule", "person", "automation", "change", "quality", "drift"]
    who: str
    proof: Literal["signature", "claimed", "unknown"] = "unknown"
    run: str | None = None  # the Prefect flow run
    # Left out where there is none, so that releases from before it keep their digest.
    because: str | None = Field(None, exclude_if=lambda because: because is None)


class Manifest(Value):
    """Law: `parse(dump(m)) == m`; the same inputs give the same bytes except `created`, `trigger`."""

    schema_version: Literal[1] = 1
    model: str
    version: str
    parent: str | None
    task: Task
    files: tuple[ReleaseFile, ...]  # the model's; those of `lookups` stand there
    predictor: Predictor = Predictor()
    inputs: tuple[Tensor, ...]  # what a request brings
    features: tuple[Tensor, ...] = ()  # what the model takes; empty: the inputs themselves
    lookups: tuple[LookupTable, ...] = ()
    outputs: tuple[Tensor, ...]
    classes: tuple[Any, ...] = ()  # the labels, in the order of the probabilities
    example: Example
    trusted_types: tuple[str, ...]  # what skops may build beyond its own safe list
    dataset: DatasetVersion
    code: str  # the commit whose code and specs built this
    estimator: dict[str, Any]
    tuning: dict[str, Any] | None = None
    decision: ReleaseDecision
    environment: dict[str, str]  # python and libraries, name to version
    created: str  # ISO 8601, UTC
    trigger: Trigger

    @property
    def columns(self) -> tuple[Tensor, ...]:
        """What the model takes, in its order: inputs, and columns of `lookups`."""
        return self.features or self.inputs

    @property
    def all_files(self) -> tuple[ReleaseFile, ...]:
        """Every file that must be there, and as recorded, before anything is served."""
        return self.files + tuple(file for table in self.lookups for file in table.files)

    @property
    def dataset_digests(self) -> dict[str, str]:
        """DVC's digest of every dataset that this release is made of, its own first."""
        return {self.dataset.name: self.dataset.md5, **{table.dataset: table.md5 for table in self.lookups}}

    @property
    def digest(self) -> str:
        """sha256 of the file as written."""
        return hashlib.sha256(dump_manifest(self).encode()).hexdigest()


def manifest_path(model: str) -> Path:
    return Path("models") / model / "manifest.yaml"


def dump_manifest(manifest: Manifest) -> str:
    head = "# Written by coalmine at release; its history is Git's.\n"
    return head + yaml.safe_dump(manifest.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def parse_manifest(text: str, where: str) -> Manifest:
    """
    Raises:
        IntegrityError: a machine writes this file; a broken one was edited by hand.
    """
    try:
        return Manifest.model_validate(yaml.load(text, Loader=YAML_LOADER))
    except (yaml.YAMLError, ValidationError) as error:
        raise IntegrityError(
            f"{where} is not a release manifest that this coalmine reads: {error}"
        ) from error


class Considered(Value):
    """models/<model>/decision.yaml: the newest challenger, released or not, and why.

    lock: sha256 of the model's dvc.lock, which pins data, code, parameters and outputs.
    version: what it was released as; None when the champion was kept.
    """

    schema_version: Literal[1] = 1
    model: str
    lock: str
    version: str | None
    decision: ReleaseDecision
    decided: str  # ISO 8601, UTC
    trigger: Trigger


def considered_path(model: str) -> Path:
    return Path("models") / model / "decision.yaml"


def dump_considered(considered: Considered) -> str:
    head = "# Written by coalmine for every challenger, released or not; its history is Git's.\n"
    return head + yaml.safe_dump(considered.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def parse_considered(text: str, where: str) -> Considered:
    """
    Raises:
        IntegrityError: a machine writes this file; a broken one was edited by hand.
    """
    try:
        return Considered.model_validate(yaml.load(text, Loader=YAML_LOADER))
    except (yaml.YAMLError, ValidationError) as error:
        raise IntegrityError(f"{where} is not a decision that this coalmine reads: {error}") from error
