"""The whole record of a clone, read once, by a handful of git processes whatever its length.

The commits' trailers are its index: which place each one was about, and what it put there. The slots files
are the truth. Commits without trailers are compared with their parents, so that what was done by hand is
known; and the index must lead to what the files hold now. Where it does not, every state of every file is
read, which is slow, and the files win.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import PurePosixPath

from coalmine.audit.deeds import Action, Deed, recorded_deed, who_of
from coalmine.audit.slots_history import Place, SlotsChange, place_of, slots_history
from coalmine.registry.repository import Commit, Repository
from coalmine.registry.signed_objects import signers_of
from coalmine.registry.trust import read_trust
from coalmine.slots import SlotRelease, Slots, parse_roles, slots_path

_ROOT = "k8s/environments"
_TURNING = (Action.PROMOTED, Action.ROLLED_BACK)


@dataclass(frozen=True)
class Turn:
    """From this commit on another release was stable, or none: version None.

    digest: the sha256 of its manifest. release: the commit that recorded it. None: it does not say.
    """

    deed: Deed
    version: str | None
    digest: str | None
    release: str | None

    @property
    def at(self) -> datetime:
        return self.deed.at

    def is_to(self, release: SlotRelease | None) -> bool:
        """Whether it left `release` stable, as far as its commit says."""
        if release is None or self.version is None:
            return release is None and self.version is None
        known = (
            (self.version, release.version),
            (self.digest, release.model_digest),
            (self.release, release.commit),
        )
        return all(said in (None, held) for said, held in known)


@dataclass(frozen=True)
class Span:
    """One release being stable in one place. until: None while it is."""

    environment: str
    model: str
    turn: Turn
    until: datetime | None

    @property
    def since(self) -> datetime:
        return self.turn.at


@dataclass(frozen=True)
class Ledger:
    """commits: oldest first. touching: those that may have changed a place's slots file, oldest first.
    turns: oldest first. now: the slots that the last commit holds."""

    repository: Repository
    head: str
    commits: tuple[Commit, ...]
    touching: Mapping[Place, tuple[Commit, ...]]
    turns: Mapping[Place, tuple[Turn, ...]]
    now: Mapping[Place, Slots]

    @cached_property
    def deeds(self) -> tuple[Deed, ...]:
        """Everything that was done, by coalmine or by hand, in the order of the commits."""
        by_hand: dict[str, list[Deed]] = {}
        for turn in (turn for turns in self.turns.values() for turn in turns):
            if turn.deed.action is Action.UNRECORDED:
                by_hand.setdefault(turn.deed.commit, []).append(turn.deed)
        found: list[Deed] = []
        for commit in self.commits:
            recorded = recorded_deed(commit)
            found += (
                by_hand.get(commit.sha, ()) if recorded is None else (recorded, *by_hand.get(commit.sha, ()))
            )
        return tuple(found)

    @cached_property
    def releases(self) -> tuple[Commit, ...]:
        """The commits that recorded one, oldest first."""
        return tuple(
            commit
            for commit in self.commits
            if commit.trailers.get("Decision") == Action.RELEASE
            and {"Model", "Version"} <= set(commit.trailers)
        )

    @property
    def models(self) -> set[str]:
        return {commit.trailers["Model"] for commit in self.commits if "Model" in commit.trailers}

    @property
    def environments(self) -> set[str]:
        return {environment for environment, _ in self.turns}

    def spans(self, place: Place) -> Iterator[Span]:
        """What was stable there, oldest first."""
        turns = self.turns.get(place, ())
        for turn, after in zip(turns, (*turns[1:], None), strict=False):
            if turn.version is not None:
                yield Span(*place, turn, None if after is None else after.at)

    def span_at(self, place: Place, at: datetime) -> Span | None:
        """What was stable there at `at`; None: nothing was.

        By the order of the commits, whose times may be those of several machines.
        """
        last = _last(self.touching.get(place, ()), at)
        if last is None:
            return None
        commits = self.touching[place]
        past = {commit.sha for commit in commits[: commits.index(last) + 1]}
        newest = [turn for turn in self.turns[place] if turn.deed.commit in past][-1:]
        return next((span for span in self.spans(place) if span.turn in newest), None)

    def slots_at(self, places: Iterable[Place], at: datetime) -> dict[Place, Slots]:
        """The slots of each place as its last commit until `at` left them; without places of later on."""
        last = {place: _last(self.touching.get(place, ()), at) for place in places}
        old = {
            place: commit.sha
            for place, commit in last.items()
            if commit is not None and commit is not self.touching[place][-1]
        }
        names = [f"{sha}:{slots_path(*place)}" for place, sha in old.items()]
        read = dict(zip(old, self.repository.read_all(names), strict=True))
        return {
            place: _slots(place, read[place], old[place]) if place in read else self.now[place]
            for place, commit in last.items()
            if commit is not None
        }

    def exactly(self) -> Ledger:
        """The same from every state of every slots file: slow, for where trailers and files disagree."""
        known = {commit.sha: commit for commit in self.commits}
        history = {
            place: [replace(change, commit=known.get(change.commit.sha, change.commit)) for change in changes]
            for place, changes in slots_history(self.repository).items()
        }
        return replace(
            self,
            touching={
                place: tuple(change.commit for change in changes) for place, changes in history.items()
            },
            turns={place: tuple(_turns_in_files(place, changes)) for place, changes in history.items()},
            now={place: changes[-1].after for place, changes in history.items()},
        )


def read_ledger(repository: Repository) -> Ledger:
    """
    Raises:
        RepositoryUnready: no commit yet, or a shallow clone.
        IntegrityError: a slots file was edited so that it cannot be read.
    """
    head = repository.head()
    repository.require_whole_history()
    commits = _with_signers(repository, tuple(reversed(list(repository.log()))))
    by_hand = _changed_by_hand(repository, [commit.sha for commit in commits if place_of(commit) is None])
    touching: dict[Place, list[Commit]] = {}
    for commit in commits:
        for place in by_hand.get(commit.sha, ()) if (told := place_of(commit)) is None else (told,):
            touching.setdefault(place, []).append(commit)
    now, left = _states(repository, head, touching, by_hand)
    turns = {place: tuple(_turns(place, commits, left)) for place, commits in touching.items()}
    ledger = Ledger(
        repository, head, commits, {place: tuple(each) for place, each in touching.items()}, turns, now
    )
    held = all(_ends_in(turns[place], slots.stable_release) for place, slots in now.items())
    return ledger if held and _all_files(repository, head) <= set(touching) else ledger.exactly()


def _with_signers(repository: Repository, commits: tuple[Commit, ...]) -> tuple[Commit, ...]:
    signers = signers_of(repository, (commit.sha for commit in commits), read_trust(repository).listed)
    return (
        tuple(replace(commit, signer=signers.get(commit.sha)) for commit in commits) if signers else commits
    )


# --- the index: trailers ---------------------------------------------------------------


def _turns(
    place: Place, commits: Sequence[Commit], left: Mapping[tuple[Place, str], Slots]
) -> Iterator[Turn]:
    """left: the slots as each commit by hand left them."""
    before: Turn | None = None
    for commit in commits:
        if place_of(commit) is None:
            turn = _by_hand(place, commit, left[place, commit.sha].stable_release, before)
        else:
            turn = _as_recorded(commit)
        if turn is not None:
            yield (before := turn)


def _as_recorded(commit: Commit) -> Turn | None:
    deed = recorded_deed(commit) if commit.trailers.get("Decision") in _TURNING else None
    if deed is None:
        return None
    return Turn(deed, deed.version, commit.trailers.get("Digest"), commit.trailers.get("Release"))


def _by_hand(place: Place, commit: Commit, stable: SlotRelease | None, before: Turn | None) -> Turn | None:
    """None: the same release serves as before."""
    if stable is None if before is None else before.is_to(stable):
        return None
    return _turn_to(stable, _unrecorded(place, commit, stable))


def _turn_to(stable: SlotRelease | None, deed: Deed) -> Turn:
    if stable is None:
        return Turn(deed, None, None, None)
    return Turn(deed, stable.version, stable.model_digest, stable.commit)


def _unrecorded(place: Place, commit: Commit, stable: SlotRelease | None) -> Deed:
    return Deed(
        at=commit.at,
        action=Action.UNRECORDED,
        model=place[1],
        version=None if stable is None else stable.version,
        environment=place[0],
        who=who_of(commit),
        rollout=None,
        commit=commit.sha,
        sentence=commit.subject,
    )


# --- the truth: files ------------------------------------------------------------------


def _changed_by_hand(repository: Repository, commits: Sequence[str]) -> dict[str, list[Place]]:
    """Commits of those given that changed slots files, and whose."""
    # -c: a merge counts where it differs from both sides, that is, where a person resolved a conflict.
    options = ("--stdin", "-r", "--root", "-c", "--name-only", "--no-renames", "--format=%x1e%H", "-z")
    asked = "".join(f"{sha}\n" for sha in commits).encode()
    told = repository.git("diff-tree", *options, "--", _ROOT, stdin=asked)
    changed: dict[str, list[Place]] = {}
    for record in told.split("\x1e")[1:]:
        sha, *paths = (word.strip("\n") for word in record.split("\0"))
        places = [place for path in paths if (place := _place_of(path)) is not None]
        if places:
            changed[sha] = places
    return changed


def _place_of(path: str) -> Place | None:
    """None: the file is no slots file."""
    parts = PurePosixPath(path).parts
    return (parts[2], parts[3]) if len(parts) == 5 and parts[4] == "slots.yaml" else None


def _all_files(repository: Repository, commit: str) -> set[Place]:
    paths = repository.git("ls-tree", "-r", "-z", "--name-only", commit, f"{_ROOT}/").split("\0")
    return {place for path in paths if (place := _place_of(path)) is not None}


def _states(
    repository: Repository, head: str, places: Iterable[Place], by_hand: Mapping[str, Sequence[Place]]
) -> tuple[dict[Place, Slots], dict[tuple[Place, str], Slots]]:
    """The slots of each place now, and as each commit by hand left them."""
    asked = [(place, head) for place in places]
    asked += [(place, sha) for sha, changed in by_hand.items() for place in changed]
    texts = repository.read_all([f"{sha}:{slots_path(*place)}" for place, sha in asked])
    found = {key: _slots(key[0], text, key[1]) for key, text in zip(asked, texts, strict=True)}
    now = {place: slots for (place, sha), slots in found.items() if sha == head}
    return now, found


def _slots(place: Place, text: bytes | None, commit: str) -> Slots:
    if text is None:
        return Slots(environment=place[0], model=place[1])
    return parse_roles(text.decode(), f"{slots_path(*place)} at commit {commit[:12]}")


def _ends_in(turns: Sequence[Turn], stable: SlotRelease | None) -> bool:
    return turns[-1].is_to(stable) if turns else stable is None


def _turns_in_files(place: Place, changes: Iterable[SlotsChange]) -> Iterator[Turn]:
    for change in changes:
        if change.changes_stable:
            stable, deed = change.after.stable_release, recorded_deed(change.commit)
            said = deed is not None and deed.action in _TURNING and place_of(change.commit) == place
            yield _turn_to(stable, deed if said and deed else _unrecorded(place, change.commit, stable))


def _last(commits: Sequence[Commit], at: datetime) -> Commit | None:
    return next((commit for commit in reversed(commits) if commit.at <= at), None)
