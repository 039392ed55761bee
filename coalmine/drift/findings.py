"""What is found where an environment is not as Git says, and what may be done about it by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Aspect(StrEnum):
    """What is read together: where it cannot be read, nothing that it showed before has ended."""

    GIT = "Git"
    DATA = "the DVC remote"
    ROLLOUT = "the rollout"
    ROUTE = "the route"
    SERVERS = "the servers"
    OBJECTS = "the objects"
    FLUX = "Flux"


class Heal(StrEnum):
    """How `coalmine watch --heal` mends it: by the way that the record itself goes."""

    RESTORE = "what Git says is made to run, and the users are led to stable"
    START = "the local stack is started"
    RESUME = "the rollout is gone on with"
    FINISH = "the rollback is finished"
    CATCH_UP = "the clone takes what the remote has"
    PERSON = "a person must decide"


class Kind(StrEnum):
    # the repository
    CLONE_BEHIND = "clone behind"
    CLONE_DIVERGED = "clone diverged"
    NOT_PUSHED = "not pushed"
    RECORD_UNREADABLE = "record unreadable"
    RECORD_DIFFERS = "record differs"
    TAG_WITHOUT_MANIFEST = "tag without manifest"
    NOT_DELIVERED = "not delivered"
    BYTES_LOST = "bytes lost"
    # what is under way
    RUNNER_GONE = "runner gone"
    ROLLBACK_WAITS = "rollback waits"
    # the route
    ROUTE_MISSING = "route missing"
    ROUTE_FOREIGN = "route of another hand"
    ROUTE_WEIGHTS = "route's weights"
    ROUTE_HELD = "route held"
    # what serves
    STACK_DOWN = "stack down"
    SERVER_DOWN = "server down"
    SERVER_UNASKED = "server unasked"
    OTHER_RELEASE = "other release"
    FILES_CHANGED = "files changed"
    CONFIGURATION = "configuration"
    IMAGE = "image"
    REPLICAS = "replicas"
    # Flux
    FLUX_SUSPENDED = "Flux suspended"
    FLUX_ELSEWHERE = "Flux follows another"
    FLUX_STOPPED = "Flux stopped"
    FLUX_STALE = "Flux stale"

    UNREADABLE = "unreadable"

    @property
    def aspect(self) -> Aspect:
        return _RULES[self].aspect

    @property
    def heal(self) -> Heal:
        return _RULES[self].heal

    @property
    def settles_s(self) -> float:
        """For so long an honest change may show it. Somebody is told of what is seen for longer."""
        return _RULES[self].settles_s


@dataclass(frozen=True)
class _Rule:
    aspect: Aspect
    heal: Heal
    settles_s: float


AT_ONCE = 0.0  # no honest change ever shows it
A_MOMENT = 60.0  # a server that starts anew, a commit that is just being made true
A_WHILE = 300.0  # somebody restarts what does not answer
A_PUSH = 600.0  # a Git remote may take five minutes to answer, and is asked again
AN_HOUR = 3600.0  # nothing here needs it yet: what somebody else pushed, a release whose freeze is just over

_RULES: Mapping[Kind, _Rule] = {
    Kind.CLONE_BEHIND: _Rule(Aspect.GIT, Heal.CATCH_UP, AN_HOUR),
    Kind.CLONE_DIVERGED: _Rule(Aspect.GIT, Heal.CATCH_UP, A_PUSH),
    Kind.NOT_PUSHED: _Rule(Aspect.GIT, Heal.PERSON, A_PUSH),
    Kind.RECORD_UNREADABLE: _Rule(Aspect.GIT, Heal.PERSON, AT_ONCE),
    Kind.RECORD_DIFFERS: _Rule(Aspect.GIT, Heal.PERSON, AT_ONCE),
    Kind.TAG_WITHOUT_MANIFEST: _Rule(Aspect.GIT, Heal.PERSON, AT_ONCE),
    Kind.NOT_DELIVERED: _Rule(Aspect.GIT, Heal.PERSON, AN_HOUR),
    Kind.BYTES_LOST: _Rule(Aspect.DATA, Heal.PERSON, AT_ONCE),
    Kind.RUNNER_GONE: _Rule(Aspect.ROLLOUT, Heal.RESUME, A_MOMENT),
    Kind.ROLLBACK_WAITS: _Rule(Aspect.ROLLOUT, Heal.FINISH, A_MOMENT),
    Kind.ROUTE_MISSING: _Rule(Aspect.ROUTE, Heal.RESTORE, A_MOMENT),
    Kind.ROUTE_FOREIGN: _Rule(Aspect.ROUTE, Heal.PERSON, A_MOMENT),
    Kind.ROUTE_WEIGHTS: _Rule(Aspect.ROUTE, Heal.RESTORE, A_MOMENT),
    Kind.ROUTE_HELD: _Rule(Aspect.ROUTE, Heal.RESTORE, A_MOMENT),
    Kind.STACK_DOWN: _Rule(Aspect.SERVERS, Heal.START, A_MOMENT),
    Kind.SERVER_DOWN: _Rule(Aspect.SERVERS, Heal.RESTORE, A_MOMENT),
    Kind.SERVER_UNASKED: _Rule(Aspect.SERVERS, Heal.RESTORE, A_MOMENT),
    Kind.OTHER_RELEASE: _Rule(Aspect.SERVERS, Heal.RESTORE, A_MOMENT),
    Kind.FILES_CHANGED: _Rule(Aspect.SERVERS, Heal.PERSON, AT_ONCE),
    Kind.CONFIGURATION: _Rule(Aspect.OBJECTS, Heal.RESTORE, A_MOMENT),
    Kind.IMAGE: _Rule(Aspect.OBJECTS, Heal.RESTORE, A_MOMENT),
    Kind.REPLICAS: _Rule(Aspect.OBJECTS, Heal.RESTORE, A_MOMENT),
    Kind.FLUX_SUSPENDED: _Rule(Aspect.FLUX, Heal.PERSON, AT_ONCE),
    Kind.FLUX_ELSEWHERE: _Rule(Aspect.FLUX, Heal.PERSON, AT_ONCE),
    Kind.FLUX_STOPPED: _Rule(Aspect.FLUX, Heal.RESTORE, A_MOMENT),
    Kind.FLUX_STALE: _Rule(Aspect.FLUX, Heal.RESTORE, A_PUSH),
    Kind.UNREADABLE: _Rule(Aspect.GIT, Heal.PERSON, A_WHILE),
}


@dataclass(frozen=True)
class Finding:
    """
    model: "" where it is the environment's. subject: which of its kind, such as a slot or a tag.
    expected, seen: in words, without a full stop. remedy: a whole sentence with what to type.
    heal: where it is not what the kind says.
    """

    kind: Kind
    model: str
    subject: str
    expected: str
    seen: str
    remedy: str
    heal_as: Heal | None = None

    @property
    def key(self) -> str:
        """By which it is the same from look to look, whatever words it has."""
        return f"{self.kind}/{self.model}/{self.subject}"

    @property
    def heal(self) -> Heal:
        return self.heal_as or self.kind.heal

    def __str__(self) -> str:
        what = ": ".join(filter(None, (self.kind.value, self.model, self.subject)))
        return f"{what}: expected {self.expected}; seen {self.seen}. {self.remedy}"
