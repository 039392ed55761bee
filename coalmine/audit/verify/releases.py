"""Each release and kept champion: its trailers against its manifest, its data, its lock, its tag.

A file that the commit itself does not change is the one that some commit before it left: a release that was
joined with others' work (decision 0005) stands on top of newer files than it was made from.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import yaml

from coalmine.audit.verify.cores import Cores
from coalmine.audit.verify.findings import Finding, Kind, Scope, Where, by_whom
from coalmine.audit.verify.lineage import ancestors_among
from coalmine.audit.verify.snapshot import Entry, Snapshot, Written
from coalmine.errors import IntegrityError
from coalmine.manifest import Manifest, ReleaseFile, manifest_path, parse_manifest
from coalmine.registry.repository import Commit
from coalmine.registry.tags import release_tag, released_model
from coalmine.registry.whole_history import TagReference
from coalmine.yaml_loader import YAML_LOADER

_COMPARE = "Compare this clone with another one before you trust either: history was rewritten, or forged."
DATA = "partitions.dvc"


@dataclass(frozen=True)
class Release:
    """One release as its commit has it. digest: of the manifest. fault: why that cannot be read; then what it
    would say is empty."""

    commit: Commit
    model: str
    version: str
    digest: str
    code: str = ""
    datasets: tuple[tuple[str, str], ...] = ()
    files: tuple[ReleaseFile, ...] = ()
    says: str = ""  # model and version, in the manifest's own words
    fault: str = ""


def read_releases(snapshot: Snapshot, cores: Cores) -> dict[str, Release]:
    """By commit, oldest first; of all models, since what a slot names may be any. Without those that hold no
    manifest of their model."""
    made = [
        (entry, change.after)
        for entry in snapshot.entries
        if entry.decision == "release"
        and (change := entry.changed(Written.MANIFEST, entry.commit.trailers.get("Model", "")))
        and change.after
    ]
    contents = snapshot.contents(blob for _, blob in made)
    commits = [entry.commit for entry, _ in made]
    releases = cores.map(_release, zip(commits, contents, strict=True), len(made))
    return {release.commit.sha: release for release in releases}


def _release(of: tuple[Commit, bytes]) -> Release:
    commit, content = of
    model, version = commit.trailers["Model"], commit.trailers.get("Version", "")
    digest = hashlib.sha256(content).hexdigest()
    try:
        manifest = parse_manifest(content.decode(errors="replace"), str(manifest_path(model)))
    except IntegrityError as error:
        return Release(commit, model, version, digest, fault=str(error))
    return Release(
        commit,
        model,
        version,
        digest,
        manifest.code,
        tuple(manifest.dataset_digests.items()),
        manifest.all_files,
        _named(manifest),
    )


def _named(manifest: Manifest) -> str:
    return f"{manifest.model} {manifest.version}"


# --- what is checked -------------------------------------------------------------------


def decisions(snapshot: Snapshot, scope: Scope) -> list[Entry]:
    """The commits that release a model or keep its champion."""
    return [
        entry
        for entry in snapshot.entries
        if entry.decision in ("release", "keep") and scope.has(entry.commit.trailers.get("Model", ""))
    ]


def release_findings(snapshot: Snapshot, releases: Mapping[str, Release], scope: Scope) -> Iterator[Finding]:
    decided = decisions(snapshot, scope)
    made = [entry for entry in decided if entry.decision == "release"]
    for entry in made:
        yield from _manifest(entry.commit, releases.get(entry.commit.sha))
    yield from _code(snapshot, [releases[e.commit.sha] for e in made if e.commit.sha in releases])
    yield from _pinned_files(snapshot, decided)
    yield from _tags(snapshot, made, scope)


def _manifest(commit: Commit, release: Release | None) -> Iterator[Finding]:
    trailers = commit.trailers
    model = trailers.get("Model", "")
    where = Where(commit.sha, manifest_path(model).as_posix())
    if release is None:
        seen = f"no manifest in the commit, {by_whom(commit)}"
        yield Finding(Kind.MANIFEST, where, "the manifest of the release", seen, _COMPARE)
        return
    if release.digest != trailers.get("Digest", release.digest):
        expected = f"the sha256 of its trailer Digest, {trailers['Digest'][:12]}"
        yield Finding(Kind.MANIFEST, where, expected, f"the sha256 {release.digest[:12]}", _COMPARE)
    if release.fault:
        yield Finding(Kind.MANIFEST, where, "a release manifest", release.fault, _COMPARE)
        return
    if release.says != f"{model} {release.version}":
        expected = f"the manifest of {model} {release.version}, as the commit says"
        yield Finding(Kind.MANIFEST, where, expected, f"that of {release.says}", _COMPARE)
    told = ", ".join(f"{name} {md5}" for name, md5 in release.datasets)
    if told != trailers.get("Dataset", told):
        expected = f"the datasets of the trailer, {trailers['Dataset']}"
        yield Finding(Kind.DATASET, where, expected, told, _COMPARE)


def _code(snapshot: Snapshot, releases: Iterable[Release]) -> Iterator[Finding]:
    told = [release for release in releases if not release.fault]
    before = ancestors_among(snapshot.entries, {release.code for release in told})
    for release in told:
        if not before(release.code, release.commit.sha):
            yield Finding(
                Kind.CODE,
                Where(release.commit.sha, manifest_path(release.model).as_posix()),
                f"code of a commit below the release, as the manifest names it: {release.code[:12]}",
                "no such commit there",
                "Nobody can see what this model was built from: look for the commit in other clones.",
            )


# --- files that the trailers pin -------------------------------------------------------


def _pinned_files(snapshot: Snapshot, decided: Iterable[Entry]) -> Iterator[Finding]:
    """dvc.lock and the datasets' pointers: those that a decision changes are those that its trailers tell,
    and the others were there before."""
    asked = {entry.commit.sha for entry in decided}
    digests = _digests(snapshot)
    left: defaultdict[tuple[Written, str], set[str]] = defaultdict(set)
    for entry in snapshot.entries:
        if entry.commit.sha in asked:
            for (written, name), told in _told(entry.commit).items():
                yield from _pinned(entry, written, name, told, digests, left[written, name])
        for change in entry.changes:
            if change.after in digests:
                left[change.of.written, change.of.name].add(digests[change.after])


def _told(commit: Commit) -> dict[tuple[Written, str], str]:
    told = {}
    if lock := commit.trailers.get("Lock"):
        told[Written.LOCK, commit.trailers.get("Model", "")] = lock
    for dataset in filter(None, commit.trailers.get("Dataset", "").split(", ")):
        name, _, md5 = dataset.partition(" ")
        told[Written.POINTER, name] = md5
    return told


def _pinned(
    entry: Entry, written: Written, name: str, told: str, digests: Mapping[str | None, str], left: set[str]
) -> Iterator[Finding]:
    change = entry.changed(written, name)
    seen = None if change is None else digests.get(change.after, "no file")
    if seen == told or (seen is None and told in left):
        return
    of_lock = written is Written.LOCK
    path = f"models/{name}/dvc.lock" if of_lock else f"data/{name}/{DATA}"
    yield Finding(
        Kind.LOCK if of_lock else Kind.DATASET,
        Where(entry.commit.sha, path),
        f"{'the sha256 of its trailer Lock' if of_lock else 'the md5 of its trailer Dataset'}, {told[:12]}",
        f"{seen[:12]} there" if seen is not None else "no commit up to it that has that",
        _COMPARE,
    )


def _digests(snapshot: Snapshot) -> dict[str | None, str]:
    """Blob to what trailers call it: a lock's sha256, a pointer's md5."""
    found = {c.after: c.of.written for c in snapshot.changes(Written.LOCK, Written.POINTER) if c.after}
    contents = snapshot.contents(found)
    return {
        blob: hashlib.sha256(content).hexdigest() if written is Written.LOCK else _md5_of(content)
        for (blob, written), content in zip(found.items(), contents, strict=True)
    }


def _md5_of(pointer: bytes) -> str:
    try:
        return str(yaml.load(pointer, Loader=YAML_LOADER)["outs"][0]["md5"])
    except (yaml.YAMLError, KeyError, TypeError, IndexError):
        return "unreadable"


# --- tags ------------------------------------------------------------------------------


def _tags(snapshot: Snapshot, made: Iterable[Entry], scope: Scope) -> Iterator[Finding]:
    stands: dict[str, Commit] = {}
    for entry in made:
        commit = entry.commit
        name = release_tag(commit.trailers.get("Model", ""), commit.trailers.get("Version", ""))
        if name in stands:
            yield Finding(
                Kind.RELEASED_TWICE,
                Where(commit.sha, tag=name),
                f"one release of that version, commit {stands[name].sha[:12]}",
                f"another one {by_whom(commit)}",
                "coalmine releases no version twice: somebody else made this commit. Ask them.",
            )
            continue
        stands[name] = commit
        yield from tag_findings(snapshot, name, commit.sha, "the release")
    beyond = {entry.commit.sha for entry in snapshot.elsewhere}
    for tag in snapshot.tags.values():
        model = released_model(tag.name)
        if model is not None and scope.has(model) and tag.name not in stands and tag.commit not in beyond:
            yield stray(tag, "a release: a commit with the trailers of one")


def tag_findings(snapshot: Snapshot, name: str, commit: str, of: str) -> Iterator[Finding]:
    """The annotated tag `name` stands on `commit`. of: what that is, for people."""
    tag = snapshot.tags.get(name)
    again = f"Take it from a clone that has it: git fetch URL tag '{name}'."
    if tag is None:
        yield Finding(Kind.TAG_MISSING, Where(commit, tag=name), f"a tag on {of}", "none", again)
    elif tag.commit != commit:
        expected = f"{of}, commit {commit[:12]}"
        seen = f"it on commit {tag.commit[:12]}"
        yield Finding(Kind.TAG_MOVED, Where(commit, tag=name), expected, seen, again)
    elif tag.says != name:
        expected = "an annotated tag, which says who made it and when"
        seen = f"the tag {tag.says} under another name" if tag.says else "a lightweight one"
        yield Finding(Kind.TAG_LIGHTWEIGHT, Where(commit, tag=name), expected, seen, again)


def stray(tag: TagReference, expected: str) -> Finding:
    return Finding(
        Kind.TAG_STRAY,
        Where(tag.commit, tag=tag.name),
        expected,
        "no such commit in HEAD's history",
        f"If nobody can say what it is for: git tag -d '{tag.name}', here and on the remote.",
    )
