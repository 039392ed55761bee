"""Which releases may go to an environment now, and why not the others: what Git says of them, put before the
rules of coalmine.admission. Everything is read from the commit that is checked out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from coalmine.admission import Facts, Hold, in_zone, refusal
from coalmine.admission_spec import Admission, After
from coalmine.audit.deeds import Action
from coalmine.audit.slots_history import slots_history
from coalmine.errors import CoalmineError, InputError, NotFound, NotYetAdmitted
from coalmine.operations.champion import Release, release, turned_away
from coalmine.operations.environments import open_environment
from coalmine.operations.workspace import Workspace
from coalmine.registry import tags
from coalmine.registry.repository import Repository
from coalmine.settings import FILE, Settings
from coalmine.slots import SlotRelease, Slots
from coalmine.spec import model_names, parse_spec


@dataclass(frozen=True)
class Refused:
    """A release that may not go, and why. until: the next possible time; None: no time alone helps."""

    version: str
    reason: str
    until: datetime | None


@dataclass(frozen=True)
class Eligible:
    """
    version, digest: the newest release that may go, of those that are newer than what serves; None: none may.
    refused: those that are newer still, newest first. note: why nothing was looked at, for people.
    """

    model: str
    environment: str
    time_zone: str
    version: str | None = None
    digest: str | None = None
    refused: tuple[Refused, ...] = ()
    note: str = ""

    @property
    def next_time(self) -> datetime | None:
        """When the first of the refused may go. None: no time alone helps any of them."""
        return min((each.until for each in self.refused if each.until is not None), default=None)

    @property
    def sentence(self) -> str:
        """For people, without its end."""
        if self.note or (self.version is None and not self.refused):
            return self.note or "no release is newer than what serves"
        may = "nothing may go now" if self.version is None else f"{self.version} may go now"
        why = [f"{each.version} may not: {each.reason}" for each in self.refused]
        if self.next_time is not None:
            why.append(f"The next possible time is {in_zone(self.next_time, ZoneInfo(self.time_zone))}")
        return ". ".join([may, *why])


@dataclass(frozen=True)
class EligibleReleases:
    """What a look found, of every model that was looked at."""

    models: tuple[Eligible, ...]


def eligible(workspace: Workspace, environment: str, models: Sequence[str] = ()) -> EligibleReleases:
    """models: those that are looked at; none named, all. What is eligible may go at once: where the day has
    room for some of it alone, the first models get that.

    A model that cannot be looked at says so in its note, and the others are looked at all the same.

    Raises:
        NotFound: coalmine.yaml has no such environment.
    """
    workspace.settings.environment(environment)
    time_zone = rules_of(workspace, environment).time_zone
    now, begun, found = datetime.now(UTC), list(_begun(workspace.repository, environment)), []
    for model in models or model_names(workspace.top):
        try:
            slots = open_environment(workspace, environment).slots(model)
            if slots.candidate_release is None:
                each = _newest_that_may_go(workspace, slots, begun, now)
            else:
                under_way = f"the rollout of {slots.candidate_release.version} is under way"
                each = Eligible(model, environment, time_zone, note=under_way)
        except CoalmineError as error:
            each = Eligible(model, environment, time_zone, note=str(error))
        if each.version is not None:
            begun.append(now)
        found.append(each)
    return EligibleReleases(tuple(found))


def rules_of(workspace: Workspace, environment: str) -> Admission:
    """As the last commit has them: what was edited since lifts no freeze unseen."""
    try:
        text = workspace.repository.read(workspace.repository.head(), FILE).decode()
    except NotFound:
        return Admission()
    settings = parse_spec(Settings, text, f"{FILE} as the last commit has it")
    return settings.environments.get(environment) or Admission()


def next_in_words(workspace: Workspace, environment: str, model: str) -> str | None:
    """What may go to an environment that has rules, and why nothing newer. None: it has none."""
    if not rules_of(workspace, environment).asks_for_something:
        return None
    (found,) = eligible(workspace, environment, [model]).models
    return found.sentence


def newest_eligible(workspace: Workspace, slots: Slots, *, retry: bool = False) -> Eligible:
    """Of the model and environment of `slots`. retry: what was turned away there may go again."""
    begun = tuple(_begun(workspace.repository, slots.environment))
    return _newest_that_may_go(workspace, slots, begun, datetime.now(UTC), retry=retry)


def refused_by_rules(workspace: Workspace, environment: str, wanted: Release) -> Eligible | None:
    """Why the rules of `environment` let no rollout of `wanted` begin now. None: they do."""
    rules, repository = rules_of(workspace, environment), workspace.repository
    manifest = wanted.manifest
    if not rules.asks_for_something:
        return None
    repository.require_whole_history()
    hold = _holds(repository, rules.after, manifest.model).get(_identity(wanted))
    no = refusal(rules, Facts(hold, tuple(_begun(repository, environment))), datetime.now(UTC))
    if no is None:
        return None
    refused = (Refused(manifest.version, "; ".join(no.reasons), no.until),)
    return Eligible(manifest.model, environment, rules.time_zone, refused=refused)


def refused_error(found: Eligible) -> CoalmineError:
    """For whoever asked for a release where `found` has none: later, where time helps, else the input."""
    deliver = f"coalmine deliver {found.model} -e {found.environment} --version {found.refused[0].version}"
    words = (
        f"{found.model} in {found.environment}: {found.sentence}. In an emergency, with your name and reason "
        f"on record: {deliver} --despite 'REASON'"
    )
    return InputError(words) if found.next_time is None else NotYetAdmitted(words)


def _newest_that_may_go(
    workspace: Workspace, slots: Slots, begun: Sequence[datetime], now: datetime, *, retry: bool = False
) -> Eligible:
    model, environment, repository = slots.model, slots.environment, workspace.repository
    repository.require_whole_history()
    rules = rules_of(workspace, environment)
    holds = _holds(repository, rules.after, model)
    away = {} if retry else turned_away(repository, model, environment)
    refused = []
    for version in _candidates(slots.stable_release, list(tags.releases(repository, model)), holds):
        wanted = release(repository, model, version)
        if version in away:
            when = in_zone(away[version].at, rules.zone)
            reason = f"it was turned away in {environment} on {when} (to roll it out again: --retry)"
            refused.append(Refused(version, reason, None))
            continue
        no = refusal(rules, Facts(holds.get(_identity(wanted)), tuple(begun)), now)
        if no is None:
            digest = wanted.manifest.digest
            return Eligible(model, environment, rules.time_zone, version, digest, tuple(refused))
        refused.append(Refused(version, "; ".join(no.reasons), no.until))
    return Eligible(model, environment, rules.time_zone, refused=tuple(refused))


def _candidates(stable: SlotRelease | None, versions: list[str], holds: Iterable[_Identity]) -> Iterator[str]:
    """Newest first: the newest release, and older ones that another environment has had; all of them newer
    than `stable`. versions: oldest first."""
    if stable is not None and stable.version in versions:
        versions = versions[versions.index(stable.version) + 1 :]
    had = {held.version for held in holds}
    return (version for version in reversed(versions) if version in had or version == versions[-1])


# --- what Git says ---------------------------------------------------------------------


class _Identity(NamedTuple):
    """A version alone says little: its tag can be moved."""

    version: str
    digest: str


def _identity(wanted: Release) -> _Identity:
    return _Identity(wanted.manifest.version, wanted.manifest.digest)


def _holds(repository: Repository, after: After | None, model: str) -> dict[_Identity, Hold]:
    """The last time for which each release was stable in the environment of `after`."""
    if after is None:
        return {}
    holds: dict[_Identity, Hold] = {}
    place = (after.environment, model)
    for change in slots_history(repository, *place).get(place, ()):
        left, taken = _in_slot(change.before.stable_release), _in_slot(change.after.stable_release)
        if left == taken:
            continue
        if left is not None:
            superseded = change.commit.trailers.get("Decision") == Action.PROMOTED
            holds[left] = replace(holds[left], until=change.commit.at, superseded=superseded)
        if taken is not None:
            holds[taken] = Hold(change.commit.at)
    return holds


def _in_slot(stable: SlotRelease | None) -> _Identity | None:
    return None if stable is None else _Identity(stable.version, stable.model_digest)


def _begun(repository: Repository, environment: str) -> Iterator[datetime]:
    """When each rollout was handed over to `environment`, of any model."""
    wanted = {"Environment": environment, "Decision": str(Action.CANDIDATE)}
    return (commit.at for commit in repository.log(trailers=wanted))
