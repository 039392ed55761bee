"""What was seen of an environment at one look, and what Git says of it: what `compare` compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from coalmine.drift.findings import Aspect
from coalmine.rollout.ports import SlotStatus, TrafficSplit
from coalmine.slots import Slot, Slots

Unread = Mapping[Aspect, str]  # what could not be read, and why


@dataclass(frozen=True)
class Server:
    """A process or a pod. digest: the release that it says it serves; None: it does not say."""

    name: str
    digest: str | None


@dataclass(frozen=True)
class Difference:
    """Of one thing that Git sets: `what` as people find it, such as `Deployment m-blue: spec.replicas`."""

    what: str
    expected: str
    seen: str


@dataclass(frozen=True)
class SlotFacts:
    """
    status: None where nothing runs, or is to run, in the slot.
    servers: those that answer.
    changed_files: why the release's files on this machine are not what was released; "": they are.
    configuration, image, replicas: what differs from what Git asks for. An autoscaler's replicas never do.
    """

    status: SlotStatus | None = None
    servers: tuple[Server, ...] = ()
    changed_files: str = ""
    configuration: tuple[Difference, ...] = ()
    image: tuple[Difference, ...] = ()
    replicas: Difference | None = None


@dataclass(frozen=True)
class RouteFacts:
    """
    split: None: it leads nobody anywhere. missing, foreign: why there is none, or none of ours, in words.
    is_held: a rollout has taken it, and has not given it back. is_owned: another controller moves it.
    """

    split: TrafficSplit | None = None
    missing: str = ""
    foreign: str = ""
    is_owned: bool = False
    is_held: bool = False


@dataclass(frozen=True)
class Running:
    """What runs of one model, whatever Git says."""

    slots: Mapping[Slot, SlotFacts] = field(default_factory=dict)
    route: RouteFacts | None = None
    unread: Unread = field(default_factory=dict)


@dataclass(frozen=True)
class RunningModels:
    """By name; unread: of all of them."""

    models: Mapping[str, Running]
    unread: Unread = field(default_factory=dict)


@dataclass(frozen=True)
class RolloutFacts:
    """One that has not ended. is_driven: somebody has its lease."""

    id: str
    candidate: str
    is_driven: bool


@dataclass(frozen=True)
class Rollback:
    """One that is not recorded yet: from `bad` to `good`. is_moved: its users are on `good`."""

    bad: str
    good: str
    is_moved: bool


@dataclass(frozen=True)
class Moment:
    """What Git and the journals say of a model: while it is the same before and after, what runs may be
    compared with it."""

    slots: Slots | None
    rollout: RolloutFacts | None = None
    rollback: Rollback | None = None


@dataclass(frozen=True)
class Recorded:
    """What Git's record of a model lacks.

    unreadable: why its slots cannot be read. differs: slots whose digest is not their release's.
    untagged: tags that stand where no such manifest is. waiting: the newest release, where the environment
    would take it, and since when (seconds since 1970). lost: files of releases in slots that the DVC remote
    has no more.
    """

    unreadable: str = ""
    differs: Mapping[Slot, Difference] = field(default_factory=dict)
    untagged: Mapping[str, str] = field(default_factory=dict)
    waiting: tuple[str, float] | None = None
    lost: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelFacts:
    """is_moving: Git or the journals moved on while it was looked at, so that nothing is compared."""

    model: str
    moment: Moment
    running: Running = Running()
    recorded: Recorded = Recorded()
    unread: Unread = field(default_factory=dict)
    is_moving: bool = False


@dataclass(frozen=True)
class CloneFacts:
    """ahead, behind: commits that the remote lacks, and that the clone lacks. oldest: the first of those that
    the clone lacks, else of the others; by it one lagging is told from the next."""

    upstream: str
    oldest: str = ""
    ahead: int = 0
    behind: int = 0


@dataclass(frozen=True)
class FluxFacts:
    """What is wrong with Flux, and of which sort; its own words and the remedy in one."""

    sort: Literal["suspended", "elsewhere", "stopped", "stale"]
    why: str


@dataclass(frozen=True)
class EnvironmentFacts:
    """stack_down: why nothing runs at all on this machine. not_delivered_after_s: for so long a release may
    wait for its delivery. at_s: when it was looked at, in seconds since 1970."""

    name: str
    at_s: float
    models: tuple[ModelFacts, ...] = ()
    clone: CloneFacts | None = None
    flux: FluxFacts | None = None
    stack_down: str = ""
    not_delivered_after_s: float = 86_400.0
    unread: Unread = field(default_factory=dict)
