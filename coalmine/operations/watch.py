"""`coalmine watch`: look, tell what is news, and mend what may be mended, again and again.

    observe   what Git says, and what runs                operations/observing.py
    compare   the findings of this look                   drift/compare.py
    heal      those that may be mended by themselves      operations/heal.py
    keep      what is there, and who is yet to be told    drift/alerts.py, by journals/looks.py
    tell      each channel, struck out once it was told

Killed anywhere, the next look goes on: what was kept and not told is told then.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from coalmine.drift.alerts import HEALS_AFTER_S, Notice, Watched
from coalmine.drift.compare import Look, compare
from coalmine.drift.findings import Finding, Heal, Kind
from coalmine.errors import CoalmineError, InputError, IntegrityError, Unavailable
from coalmine.journals.looks import Looks
from coalmine.manifest import Trigger
from coalmine.notifications.drift_formats import drift_payload
from coalmine.notifications.hooks import Hook
from coalmine.notifications.posting import NotDelivered, Post, post_json, post_to
from coalmine.operations.environments import open_environment
from coalmine.operations.heal import Healed, Healer
from coalmine.operations.observing import observe
from coalmine.operations.runner import asked_to_end
from coalmine.operations.serving_environment import ServingEnvironment
from coalmine.operations.watch_metrics import WatchMetrics
from coalmine.operations.workspace import Tell, Workspace
from coalmine.spec import model_names

DIVERGES = 1  # exit code


class Channel(Protocol):
    """Somebody who is told. id: by which it is known from look to look; name: for people."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...

    def tell(self, environment: str, notice: Notice) -> None:
        """
        Raises:
            NotDelivered, InputError: it is told at the next look.
        """


class Webhook:
    def __init__(self, hook: Hook, post: Post = post_json) -> None:
        self._hook = hook
        self._post = post

    @property
    def id(self) -> str:
        return self._hook.id

    @property
    def name(self) -> str:
        return self._hook.name

    def tell(self, environment: str, notice: Notice) -> None:
        wanted = replace(
            notice,
            appeared=notice.appeared if "appeared" in self._hook.on else (),
            ended=notice.ended if "ended" in self._hook.on else (),
        )
        if wanted.appeared or wanted.ended:
            body = drift_payload(self._hook.format, environment, wanted, socket.gethostname())
            post_to(self._hook, body, self._post)


@dataclass(frozen=True)
class Found:
    """One finding of a look. since_s: of the first look that saw it. told: whether somebody was."""

    finding: Finding
    since_s: float
    told: bool


@dataclass(frozen=True)
class Looked:
    """What a look found. healed: what was mended, or was tried to be. untold: notices that wait, and why."""

    environment: str
    at_s: float
    models: int
    findings: tuple[Found, ...]
    healed: tuple[Healed, ...] = ()
    untold: tuple[str, ...] = ()

    @property
    def matches(self) -> bool:
        return not self.findings

    @property
    def exit_code(self) -> int:
        """4 where nothing diverges as far as can be seen, and not all can."""
        if self.matches:
            return 0
        unseen = all(each.finding.kind is Kind.UNREADABLE for each in self.findings)
        return Unavailable.exit_code if unseen else DIVERGES


class Watch:
    """Looks at `models` (none named: all) in one environment. channels: who is told, beside coalmine.yaml's
    webhooks."""

    def __init__(
        self,
        workspace: Workspace,
        environment: str,
        models: Sequence[str],
        trigger: Trigger,
        tell: Tell,
        *,
        heals: bool = False,
        channels: Sequence[Channel] = (),
        metrics: WatchMetrics | None = None,
    ) -> None:
        """
        Raises:
            NotFound: no such environment or model.
        """
        self._workspace = workspace
        self._serving = open_environment(workspace, environment)
        known = model_names(workspace.top)
        for model in models:
            if model not in known:
                raise InputError(f"There is no model {model}. There are: {', '.join(known) or 'none'}.")
        self._models = tuple(models) or tuple(known)
        self._healer = Healer(workspace, self._serving, trigger, tell) if heals else None
        webhooks = [Webhook(Hook.of(spec)) for spec in workspace.settings.watch.notify]
        self._channels: dict[str, Channel] = {each.id: each for each in (*webhooks, *channels)}
        self._metrics = metrics

    @property
    def serving(self) -> ServingEnvironment:
        return self._serving

    def once(self) -> Looked:
        """One look. To heal takes a second one, some seconds later, where the first has found something that
        nobody has seen before: what is honest is over by then.

        Raises:
            AlreadyRunning: another one is looking at the environment.
            IntegrityError: what was kept of the looks before was edited.
        """
        with self._serving.watching():
            return self._once()

    def _once(self) -> Looked:
        looked = self.look()
        if self._healer is None:
            return looked
        young = [each.since_s for each in looked.findings if _may_heal(each) and not looked.healed]
        if young:
            time.sleep(max(0.0, max(young) + HEALS_AFTER_S - time.time()) + 0.1)
            looked = self.look()
        if self._healer.await_resumed():
            looked = replace(self.look(), healed=looked.healed)
        return looked

    def look(self) -> Looked:
        """As `once`, without a second look."""
        with self._workspace.alone(f"watch {self._serving.name}", "coalmine watch"):
            began_s = time.monotonic()
            looks = self._serving.watch_looks()
            kept = _Kept(looks)
            facts = observe(self._workspace, self._serving, self._models)
            look = compare(facts)
            healed = self._healed(kept, look, facts.at_s)
            if any(each.is_done for each in healed):
                facts = observe(self._workspace, self._serving, self._models)
                look = compare(facts)
                healed = [_as_it_is(each, look) for each in healed]
            kept.keep(kept.watched.with_look(look, facts.at_s, tuple(self._channels)))
            untold = list(self._told(kept))
            looked = _looked(self._serving.name, facts.at_s, len(self._models), look, kept.watched)
            looked = replace(looked, healed=tuple(healed), untold=tuple(untold))
            if self._metrics is not None:
                self._metrics.looked(
                    [
                        (each.finding.kind.value, each.finding.model, each.finding.subject)
                        for each in looked.findings
                    ],
                    [(each.finding.kind.value, each.is_done) for each in healed],
                    len(untold),
                    time.monotonic() - began_s,
                )
            return looked

    def _healed(self, kept: _Kept, look: Look, at_s: float) -> list[Healed]:
        found = () if self._healer is None else kept.watched.to_heal(look, at_s)
        if self._healer is None or not found:
            return []
        # Before anything is mended, so that nothing is mended unsaid, whoever is killed meanwhile.
        kept.keep(kept.watched.with_look(look, at_s, tuple(self._channels), {each.key for each in found}))
        return list(self._healer.heal(found, self._models))

    def _told(self, kept: _Kept) -> Iterator[str]:
        """Tell whoever waits; who could not be told, and why."""
        watched, given_up = kept.watched.without(self._channels)
        kept.keep(watched)
        for notice in given_up:
            yield f"notice {notice.number} was never delivered and is given up, since too many wait"
        silent: set[str] = set()
        for notice in kept.watched.waiting:
            for name in notice.to:
                if name in silent:
                    continue  # it is away; it hears the rest in order, once it is back
                channel = self._channels[name]
                try:
                    channel.tell(self._serving.name, notice)
                except (NotDelivered, InputError) as error:
                    silent.add(name)
                    number = sum(name in each.to for each in kept.watched.waiting)
                    yield f"{number} notice{'s' * (number > 1)} to {channel.name} wait: {error}"
                else:
                    kept.keep(kept.watched.with_told(notice.number, name))


class _Kept:
    """What is kept from look to look, written as soon as it changes."""

    def __init__(self, looks: Looks) -> None:
        self._looks = looks
        content = looks.read()
        try:
            self.watched = Watched() if content is None else Watched.from_json(content)
        except ValueError as error:
            raise IntegrityError(
                f"What coalmine watch kept of its last look cannot be read ({error}). Take it away "
                "(docs/watch.md says where), and what was seen begins anew"
            ) from error

    def keep(self, watched: Watched) -> None:
        if watched != self.watched:
            self._looks.write(watched.to_json())
            self.watched = watched


def _looked(environment: str, at_s: float, models: int, look: Look, watched: Watched) -> Looked:
    findings = []
    for finding in look.findings:
        present = watched.open[finding.key]
        findings.append(Found(finding, present.first_s, present.told))
    return Looked(environment, at_s, models, tuple(findings))


def _as_it_is(healed: Healed, look: Look) -> Healed:
    """What was done is not what has come of it. A rollout that is gone on with takes its time."""
    is_there = healed.finding.key in {finding.key for finding in look.findings}
    if not healed.is_done or not is_there or healed.finding.heal is Heal.RESUME:
        return healed
    return replace(healed, is_done=False, said=f"{healed.said}, and it is there still")


def _may_heal(found: Found) -> bool:
    return found.finding.heal is not Heal.PERSON


# --- as a service ------------------------------------------------------------------------


def keep_watching(watch: Watch, every_s: float, show: Callable[[Looked], None], tell: Tell) -> None:
    """Look every `every_s` seconds until SIGTERM or SIGINT; called in the main thread. A look that fails is
    said, and the next one comes all the same."""
    with watch.serving.watching(), asked_to_end() as ending:
        while not ending.is_set():
            try:
                show(watch.look())
            except CoalmineError as error:
                tell(f"This look came to nothing: {error}")
            ending.wait(every_s)
