"""Which releases were made of a dataset, and where they served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import PurePosixPath

from coalmine.audit.deeds import who_of
from coalmine.audit.ledger import Ledger, Span
from coalmine.audit.questions.scope import Scope
from coalmine.errors import NotFound
from coalmine.manifest import Manifest, Trigger, manifest_path, parse_manifest
from coalmine.registry.repository import Commit

_SHORTEST = 6  # digits of a digest that name it


class Role(StrEnum):
    TRAINED = "train and test"
    TRAIN = "train"  # of a partition, as the next one
    TEST = "test"
    LOOKUP = "lookup"


@dataclass(frozen=True)
class Served:
    """One time for which a release was stable. until: None while it is."""

    environment: str
    since: datetime
    until: datetime | None


@dataclass(frozen=True)
class Use:
    """One release that the dataset is part of. served: oldest first; empty where it never was."""

    model: str
    version: str
    dataset: str
    digest: str
    role: Role
    released: datetime
    commit: str
    who: Trigger
    served: tuple[Served, ...]

    @property
    def serves_now(self) -> tuple[str, ...]:
        """Environments."""
        return tuple(each.environment for each in self.served if each.until is None)


def by_dataset(ledger: Ledger, scope: Scope, asked: str) -> tuple[Use, ...]:
    """
    asked: NAME, NAME/PARTITION, or NAME@DIGEST with the digest's first digits.

    Raises:
        NotFound: no release is made of it; names the datasets, or its digests, that there are.
    """
    dataset, _, digits = asked.partition("@")
    name, _, partition = dataset.partition("/")
    made_of = _made_of(ledger)
    uses: dict[str, tuple[Commit, str]] = {
        sha: (commit, datasets[name])
        for sha, (commit, datasets) in made_of.items()
        if name in datasets and datasets[name].startswith(digits)
    }
    if not uses or 0 < len(digits) < _SHORTEST:
        raise NotFound(_unknown(name, digits, [datasets for _, datasets in made_of.values()]))
    uses = {sha: use for sha, use in uses.items() if scope.has(None, use[0].trailers["Model"])}
    roles = _of_partition(ledger, uses, name, partition) if partition else {}
    if partition and not roles:
        raise NotFound(f"No release is made of the partition {partition} of {name}.")
    served = served_times(ledger, scope)
    found = []
    for sha, (commit, digest) in uses.items():
        if partition and sha not in roles:
            continue
        model, version = commit.trailers["Model"], commit.trailers["Version"]
        role = roles.get(sha) or (Role.TRAINED if next(iter(made_of[sha][1])) == name else Role.LOOKUP)
        times = tuple(served.get((model, version), ()))
        found.append(Use(model, version, name, digest, role, commit.at, sha, who_of(commit), times))
    return tuple(found)


def _made_of(ledger: Ledger) -> dict[str, tuple[Commit, Mapping[str, str]]]:
    """Each release's commit, and its datasets with their digests, its own first."""
    found = {commit.sha: (commit, _in_trailer(commit)) for commit in ledger.releases}
    silent = [commit for commit, datasets in found.values() if not datasets]
    names = [f"{commit.sha}:{manifest_path(commit.trailers['Model'])}" for commit in silent]
    for commit, name, text in zip(silent, names, ledger.repository.read_all(names), strict=True):
        if text is not None:
            found[commit.sha] = (commit, parse_manifest(text.decode(), name).dataset_digests)
    return found


def _in_trailer(commit: Commit) -> Mapping[str, str]:
    words = (each.split(" ") for each in commit.trailers.get("Dataset", "").split(", "))
    return {pair[0]: pair[1] for pair in words if len(pair) == 2}


def _of_partition(
    ledger: Ledger, uses: Mapping[str, tuple[Commit, str]], dataset: str, partition: str
) -> dict[str, Role]:
    """Those releases of which `partition` is a part, and what it was for, as their manifests say."""
    names = [f"{sha}:{manifest_path(commit.trailers['Model'])}" for sha, (commit, _) in uses.items()]
    found = {}
    for sha, name, text in zip(uses, names, ledger.repository.read_all(names), strict=True):
        if text is not None and partition.encode() in text:  # before it is parsed
            role = _role(parse_manifest(text.decode(), name), dataset, partition)
            if role is not None:
                found[sha] = role
    return found


def _role(manifest: Manifest, dataset: str, partition: str) -> Role | None:
    own = manifest.dataset if manifest.dataset.name == dataset else None
    files = [file for table in manifest.lookups if table.dataset == dataset for file in table.files]
    if own is not None and partition in own.train:
        return Role.TRAINED if partition in own.test else Role.TRAIN
    if own is not None and partition in own.test:
        return Role.TEST
    return Role.LOOKUP if any(PurePosixPath(file.path).stem == partition for file in files) else None


def served_times(ledger: Ledger, scope: Scope) -> dict[tuple[str, str], list[Served]]:
    """By model and version, oldest first."""
    spans: list[Span] = [span for place in scope.places(ledger) for span in ledger.spans(place)]
    served: dict[tuple[str, str], list[Served]] = {}
    for span in sorted(spans, key=lambda span: span.since):
        assert span.turn.version is not None
        key = (span.model, span.turn.version)
        served.setdefault(key, []).append(Served(span.environment, span.since, span.until))
    return served


def _unknown(name: str, digits: str, datasets: list[Mapping[str, str]]) -> str:
    digests = dict.fromkeys(each[name] for each in datasets if name in each)
    if not digests:
        names = sorted({each for digests in datasets for each in digests})
        return f"No release is made of a dataset {name}. There are: {', '.join(names) or 'none'}."
    if len(digits) < _SHORTEST:
        return f"{name}@{digits} is too short to name a digest: give {_SHORTEST} of its digits or more."
    newest = [digest.removesuffix(".dir")[:12] for digest in list(digests)[-5:]]
    return f"No release is made of {name}@{digits}. Digests of {name}, the newest: {', '.join(newest)}."
