"""Whose signatures count in this repository, read from its history alone.

allowed_signers, revoked_signers and coalmine.yaml lie in the repository that they protect, so a change of
them counts only where its commit is signed by somebody who was allowed before it. The first allowed_signers
is the root: its commit is signed by somebody whom it names. coalmine.yaml is held so while an environment
in it requires signatures, and before there is a root nothing is.

A branch cannot bring an older list back: a merge takes the side that knows all changes of the other, and
where each side has changes of its own, it must be signed by somebody whom both allow.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import yaml

from coalmine.errors import SpecError
from coalmine.registry.repository import Repository
from coalmine.registry.signed_objects import read_signed
from coalmine.settings import FILE as SETTINGS
from coalmine.settings import REQUIRED
from coalmine.signatures.signers import ALLOWED, REVOKED, Signers, parse_signers
from coalmine.yaml_loader import YAML_LOADER

_ALLOWED, _REVOKED, _SETTINGS = _FILES = tuple(map(str, (ALLOWED, REVOKED, SETTINGS)))


@dataclass(frozen=True)
class Unproven:
    """A commit that changed who may sign, or what must be signed, and may not. seen: why, as a clause."""

    commit: str
    paths: tuple[str, ...]
    seen: str


@dataclass(frozen=True)
class Trust:
    """
    signers: those whose signatures count now; None: there is no allowed_signers that counts.
    root: the commit that brought the first one.
    required_since: environments that require signatures now, to the first commit that asked for it.
    unproven: changes that do not count. pending: of those, the paths that HEAD still holds.
    """

    signers: Signers | None
    root: str | None
    required_since: Mapping[str, str]
    unproven: tuple[Unproven, ...] = ()
    pending: tuple[str, ...] = ()

    @property
    def listed(self) -> Signers:
        """`signers`; nobody where there are none."""
        return self.signers or Signers()


@dataclass(frozen=True)
class _State:
    """What counts at one commit, and what it holds: of each of `_FILES` the blob.

    changes: the commits that brought what counts here.
    """

    counts: Mapping[str, str | None]
    held: Mapping[str, str | None]
    changes: frozenset[str] = frozenset()
    root: str | None = None
    required_since: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_protected(self) -> bool:
        return self.counts[_ALLOWED] is not None


_NOTHING = dict.fromkeys(_FILES)
_BEGIN = _State(_NOTHING, _NOTHING)


def read_trust(repository: Repository) -> Trust:
    """As HEAD's history has it; a few git processes, whatever its length.

    Raises:
        RepositoryUnready: no commit yet, or a file of the history is not in this clone.
    """
    return _Reading(repository).trust()


class _Reading:
    def __init__(self, repository: Repository) -> None:
        self._parents = _touching(repository)
        self._held = _held(repository, self._parents)
        blobs = {blob for held in self._held.values() for blob in held.values() if blob is not None}
        read = zip(blobs, repository.read_all(blobs), strict=True)
        self._contents = {blob: (content or b"").decode(errors="replace") for blob, content in read}
        signed = read_signed(repository, self._parents)
        self._commits = dict(zip(self._parents, signed, strict=True))
        self._unproven: list[Unproven] = []

    def trust(self) -> Trust:
        after: dict[str, tuple[_State, ...]] = {}
        for commit, parents in self._parents.items():
            after[commit] = self._after(commit, [each for parent in parents for each in after[parent]])
        states = after[commit] if after else (_BEGIN,)
        state, *others = states
        pending = (
            ()
            if others
            else tuple(path for path in self._bound(states) if state.counts[path] != state.held[path])
        )
        return Trust(
            self._signers(state.counts) if state.is_protected and not others else None,
            state.root,
            state.required_since,
            tuple(self._unproven),
            _FILES if others else pending,
        )

    def _after(self, commit: str, before: Sequence[_State]) -> tuple[_State, ...]:
        """What counts once `commit` is there: several, where it joins branches that disagree and may not."""
        sides, held = _newest(before) or (_BEGIN,), self._held[commit]
        first, *others = sides
        changes = frozenset().union(*(side.changes for side in sides))
        if others:
            changed = {
                path for path, blob in held.items() if any(blob != side.counts[path] for side in sides)
            }
        else:
            changed = {
                path for path, blob in held.items() if blob not in (first.held[path], first.counts[path])
            }
        bound = changed & set(self._bound(sides))
        seen = self._refusal(commit, sides, held) if bound else None
        if seen is not None:
            self._unproven.append(Unproven(commit, tuple(sorted(bound)), seen))
            if others:
                return tuple(replace(side, held=held) for side in sides)
            changed -= bound
        if not changed:
            return (replace(first, held=held, changes=changes),)
        counts = {**first.counts, **{path: held[path] for path in changed}}
        earlier = ChainMap(*(dict(side.required_since) for side in sides))
        since = {name: earlier.get(name, commit) for name in self._required(counts)}
        root = first.root if first.is_protected else commit if counts[_ALLOWED] is not None else None
        return (_State(counts, held, changes | {commit}, root, since),)

    def _bound(self, sides: Iterable[_State]) -> tuple[str, ...]:
        """The files that change by a signed commit alone."""
        if not any(side.is_protected for side in sides):
            return (_ALLOWED,)
        return _FILES if any(side.required_since for side in sides) else (_ALLOWED, _REVOKED)

    def _refusal(self, commit: str, sides: Iterable[_State], held: Mapping[str, str | None]) -> str | None:
        """Why `commit` may not leave the files as they are in `held`; None: it may."""
        judges = [side.counts for side in sides if side.is_protected] or [held]
        try:
            after = self._signers(held)
            checked = [self._commits[commit].checked(self._signers(judge)) for judge in judges]
        except SpecError as error:
            return f"a file that cannot be read ({error})"
        if held[_ALLOWED] is not None and not after.allowed:
            return "a list that names nobody, after which nobody could change it"
        return next((each.words for each in checked if not each.is_good), None)

    def _signers(self, files: Mapping[str, str | None]) -> Signers:
        allowed, revoked = (self._contents.get(files[path] or "", "") for path in (_ALLOWED, _REVOKED))
        return parse_signers(allowed, revoked)

    def _required(self, files: Mapping[str, str | None]) -> list[str]:
        """The environments whose releases must be signed, as coalmine.yaml says."""
        try:
            settings = yaml.load(self._contents.get(files[_SETTINGS] or "", ""), Loader=YAML_LOADER)
            environments = dict(settings["environments"])
        except (yaml.YAMLError, TypeError, KeyError, ValueError):
            return []
        return [
            name
            for name, each in environments.items()
            if isinstance(each, dict) and each.get("signatures") == REQUIRED
        ]


def _newest(states: Iterable[_State]) -> tuple[_State, ...]:
    """Those of which no other one knows all changes, and more; one of those that know the same."""
    found: dict[frozenset[str], _State] = {}
    for state in states:
        found.setdefault(state.changes, state)
    return tuple(state for changes, state in found.items() if not any(changes < other for other in found))


# --- Git -------------------------------------------------------------------------------


def _touching(repository: Repository) -> dict[str, list[str]]:
    """The commits that change one of the files, and those that join such, with the nearest of them before
    each; parents before children."""
    told = repository.git(
        *("rev-list", "--topo-order", "--reverse", "--parents", "--full-history", "--simplify-merges"),
        *(repository.head(), "--", *_FILES),
    )
    lines = (line.split() for line in told.splitlines())
    return {commit: parents for commit, *parents in lines}


def _held(repository: Repository, commits: Iterable[str]) -> dict[str, dict[str, str | None]]:
    """Of each commit the blobs of the files; None where it has no such file."""
    asked = [(commit, path) for commit in commits for path in _FILES]
    names = "".join(f"{commit}:{path}\n" for commit, path in asked)
    told = repository.git("cat-file", "--batch-check", stdin=names.encode()).splitlines()
    held: dict[str, dict[str, str | None]] = {}
    for (commit, path), line in zip(asked, told, strict=True):
        held.setdefault(commit, {})[path] = None if line.endswith(" missing") else line.split(" ")[0]
    return held
