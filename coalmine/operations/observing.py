"""What `coalmine watch` looks at: Git's word and what runs, of many models at once, by the ports there are.

Git and the journals are read before and after what runs. Where they are not the same, the model was just
being delivered, promoted or rolled back: it is looked at once more, and where it moves still, not compared.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from coalmine.drift.facts import (
    CloneFacts,
    Difference,
    EnvironmentFacts,
    ModelFacts,
    Moment,
    Recorded,
    Rollback,
    RolloutFacts,
    Running,
    RunningModels,
)
from coalmine.drift.findings import Aspect
from coalmine.errors import CoalmineError, InputError, IntegrityError, NotFound
from coalmine.journals import journal
from coalmine.manifest import manifest_path, parse_manifest
from coalmine.operations.champion import release as recorded_release
from coalmine.operations.champion import turned_away
from coalmine.operations.eligible import refused_by_rules
from coalmine.operations.going_back import intended
from coalmine.operations.serving_environment import ServingEnvironment
from coalmine.operations.unfinished import unfinished_rollout
from coalmine.operations.workspace import Workspace
from coalmine.registry.tags import release_tag, releases_by_model
from coalmine.registry.upstream import Upstream
from coalmine.slots import Slot, Slots, parse_roles, slots_path
from coalmine.spec import ModelSpec, load_model_spec

T = TypeVar("T")

_OF_THE_CLUSTER = (Aspect.ROLLOUT, Aspect.ROUTE, Aspect.SERVERS, Aspect.OBJECTS, Aspect.FLUX)


def observe(workspace: Workspace, serving: ServingEnvironment, models: Sequence[str]) -> EnvironmentFacts:
    """One look at `models` in the environment; nothing is started or changed, but that the Git remote's
    branch is fetched."""
    return _Look(workspace, serving, models).facts()


@dataclass(frozen=True)
class _Read:
    """What Git and the journals say of a model. unreadable: why its slots cannot be read."""

    model: str
    moment: Moment
    unreadable: str
    unread: Mapping[Aspect, str]


class _Look:
    def __init__(self, workspace: Workspace, serving: ServingEnvironment, models: Sequence[str]) -> None:
        self._workspace = workspace
        self._serving = serving
        self._models = models
        git = workspace.settings.git
        self._upstream = Upstream(workspace.repository, git.remote, git.branch)
        self._unread: dict[Aspect, str] = {}

    def facts(self) -> EnvironmentFacts:
        at_s = time.time()
        clone = self._noting(Aspect.GIT, self._clone, None)
        trouble = self._serving.trouble()
        local = self._serving.settings.kubernetes is None
        if trouble is not None and not local:
            self._unread |= dict.fromkeys(_OF_THE_CLUSTER, trouble)
        reads = self._reads(self._models, sees_rollouts=trouble is None or local)
        recorded = self._recorded(reads)
        seen = [self._model(read, Running()) for read in reads]
        if trouble is None:
            seen = self._with_running(reads)
        return EnvironmentFacts(
            name=self._serving.name,
            at_s=at_s,
            models=tuple(
                replace(each, recorded=replace(recorded[each.model], unreadable=each.recorded.unreadable))
                for each in seen
            ),
            clone=clone,
            flux=None if trouble is not None else self._noting(Aspect.FLUX, self._serving.flux, None),
            stack_down=trouble or "" if local else "",
            not_delivered_after_s=self._workspace.settings.watch.not_delivered_after_s,
            unread=self._unread,
        )

    def _noting(self, aspect: Aspect, look: Callable[[], T], otherwise: T) -> T:
        try:
            return look()
        except CoalmineError as error:
            self._unread[aspect] = str(error)
            return otherwise

    # --- what runs -------------------------------------------------------------------------

    def _with_running(self, reads: Sequence[_Read]) -> list[ModelFacts]:
        seen = {each.model: each for each in self._compared(reads)}
        moving = [model for model, each in seen.items() if each.is_moving]
        if moving:
            seen |= {each.model: each for each in self._compared(self._reads(moving))}
        return [seen[read.model] for read in reads]

    def _compared(self, reads: Sequence[_Read]) -> Iterator[ModelFacts]:
        """With what runs, read between two looks at Git."""
        models: list[tuple[ModelSpec, Slots]] = []
        unread: dict[str, str] = {}
        for read in reads:
            if read.moment.slots is None:
                continue
            try:
                models.append((load_model_spec(self._workspace.top, read.model), read.moment.slots))
            except InputError as error:
                unread[read.model] = str(error)
        seen = self._noting(Aspect.SERVERS, lambda: self._serving.running(models), RunningModels({}))
        self._unread |= seen.unread
        after = {read.model: read for read in self._reads([read.model for read in reads])}
        for read in reads:
            facts = self._model(read, seen.models.get(read.model, Running()))
            if read.model in unread:
                facts = replace(facts, unread={**facts.unread, Aspect.SERVERS: unread[read.model]})
            yield replace(facts, is_moving=after[read.model].moment != read.moment)

    def _model(self, read: _Read, running: Running) -> ModelFacts:
        recorded = Recorded(unreadable=read.unreadable)
        return ModelFacts(read.model, read.moment, running, recorded, read.unread)

    # --- Git and the journals --------------------------------------------------------------

    def _clone(self) -> CloneFacts:
        """How the clone stands to the remote. Of what was not pushed only the record counts: a person's own
        work is theirs."""
        upstream, repository = self._upstream, self._workspace.repository
        repository.require_remote(upstream.remote)
        repository.require_branch(upstream.branch)
        upstream.fetch()
        tip = upstream.tip()
        if tip is None:
            return CloneFacts(upstream.name)
        behind = repository.git("rev-list", "--topo-order", f"HEAD..{tip}").split()
        ahead = upstream.unpushed()
        if ahead and not behind:
            unpushed = repository.log(revision=f"{tip}..HEAD")
            ahead = [each.sha for each in unpushed if "Model" in each.trailers]
        oldest = (behind or ahead or [""])[-1]
        return CloneFacts(upstream.name, oldest, len(ahead), len(behind))

    def _reads(self, models: Sequence[str], *, sees_rollouts: bool = True) -> list[_Read]:
        repository, revision = self._workspace.repository, self._upstream.newest()
        names = [f"{revision}:{slots_path(self._serving.name, model).as_posix()}" for model in models]
        slots: dict[str, Slots | None] = {}
        unreadable: dict[str, str] = {}
        for model, text in zip(models, repository.read_all(names), strict=True):
            try:
                slots[model] = self._slots(model, text)
            except IntegrityError as error:
                slots[model], unreadable[model] = None, str(error)
        reads = []
        for model in models:
            unread: dict[Aspect, str] = {}
            moment, its_slots = Moment(slots[model]), slots[model]
            if its_slots is not None and sees_rollouts:
                try:
                    moment = self._moment(its_slots)
                except CoalmineError as error:
                    unread[Aspect.ROLLOUT] = str(error)
            reads.append(_Read(model, moment, unreadable.get(model, ""), unread))
        return reads

    def _slots(self, model: str, text: bytes | None) -> Slots:
        if text is None:
            return Slots(environment=self._serving.name, model=model)
        where = str(slots_path(self._serving.name, model))
        slots = parse_roles(text.decode(errors="replace"), where)
        if any(role is not None and role not in slots.releases for role in (slots.stable, slots.candidate)):
            raise IntegrityError(
                f"{where} names a slot that holds no release. See who wrote it: git log -- {where}"
            )
        return slots

    def _moment(self, slots: Slots) -> Moment:
        serving, model = self._serving, slots.model
        intent = intended(self._workspace.top, serving.name, model)
        rollback = None
        if intent is not None:
            rollback = Rollback(intent.bad, intent.good, intent.moved_at_s is not None)
        folder = unfinished_rollout(self._workspace, serving, slots)
        if folder is not None:
            about = journal.read_about(folder)
            rollout = RolloutFacts(about.id, about.candidate, serving.rollouts.is_driven(folder))
        elif slots.candidate_release is not None:
            rollout = RolloutFacts("that began elsewhere", slots.candidate_release.version, False)
        else:
            rollout = None
        return Moment(slots, rollout, rollback)

    # --- the record ------------------------------------------------------------------------

    def _recorded(self, reads: Sequence[_Read]) -> dict[str, Recorded]:
        slots = [read.moment.slots for read in reads if read.moment.slots is not None]
        released = releases_by_model(self._workspace.repository)
        untagged = self._untagged({read.model: released.get(read.model, {}) for read in reads})
        differs, waiting = self._differing(slots), self._waiting(slots, released)
        nothing: dict[str, dict[str, str]] = {}
        lost = self._noting(Aspect.DATA, lambda: self._lost(slots), nothing)
        return {
            read.model: Recorded(
                differs=differs.get(read.model, {}),
                untagged=untagged.get(read.model, {}),
                waiting=waiting.get(read.model),
                lost=lost.get(read.model, {}),
            )
            for read in reads
        }

    def _untagged(self, released: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
        tagged = [(model, version, sha) for model, of in released.items() for version, sha in of.items()]
        texts = self._workspace.repository.read_all(
            f"{sha}:{manifest_path(model).as_posix()}" for model, _, sha in tagged
        )
        found: dict[str, dict[str, str]] = {}
        for (model, version, sha), text in zip(tagged, texts, strict=True):
            if text is None:
                why = f"no manifest at commit {sha[:12]}"
            elif not re.search(rf"^version: ['\"]?{re.escape(version)}['\"]?$".encode(), text, re.MULTILINE):
                why = f"the manifest of another version at commit {sha[:12]}"
            else:
                continue
            found.setdefault(model, {})[release_tag(model, version)] = why
        return found

    def _differing(self, slots: Sequence[Slots]) -> dict[str, dict[Slot, Difference]]:
        """Where a slot's digest is not that of the manifest at the commit that the slot names."""
        held = [(each.model, slot, release) for each in slots for slot, release in each.releases.items()]
        texts = self._workspace.repository.read_all(
            f"{release.commit}:{manifest_path(model).as_posix()}" for model, _, release in held
        )
        found: dict[str, dict[Slot, Difference]] = {}
        for (model, slot, release), text in zip(held, texts, strict=True):
            digest = None if text is None else hashlib.sha256(text).hexdigest()
            if digest != release.model_digest:
                what = f"{release.version} with the digest of its manifest,"
                seen = "no manifest there" if text is None else release.model_digest[:12]
                expected = "at its commit" if digest is None else digest[:12]
                found.setdefault(model, {})[slot] = Difference(what, expected, seen)
        return found

    def _waiting(
        self, slots: Sequence[Slots], released: Mapping[str, Mapping[str, str]]
    ) -> dict[str, tuple[str, float]]:
        """The newest release of each model that the environment has, where it lacks that one, has not turned
        it away, and would take it now; and since when it is there."""
        repository, waiting = self._workspace.repository, {}
        for each in slots:
            version = max(released.get(each.model, {}), key=_in_order, default=None)
            if version is None or each.stable_release is None or each.candidate is not None:
                continue
            if version in {release.version for release in each.releases.values()}:
                continue
            if version in turned_away(repository, each.model, each.environment):
                continue
            with suppress(NotFound, IntegrityError):  # a tag without a manifest is a finding of its own
                wanted = recorded_release(repository, each.model, version)
                if refused_by_rules(self._workspace, each.environment, wanted) is None:
                    waiting[each.model] = (version, repository.commit(wanted.commit).at.timestamp())
        return waiting

    def _lost(self, slots: Sequence[Slots]) -> dict[str, dict[str, str]]:
        """By model: each file of a release in a slot that the DVC remote has no more, and whose it is."""
        held = [(each.model, release) for each in slots for release in each.releases.values()]
        texts = self._workspace.repository.read_all(
            f"{release.commit}:{manifest_path(model).as_posix()}" for model, release in held
        )
        files = [
            (model, release.version, file)
            for (model, release), text in zip(held, texts, strict=True)
            if text is not None
            for file in parse_manifest(text.decode(), str(manifest_path(model))).all_files
        ]
        if not files:
            return {}
        absent = self._workspace.dvc.absent(file.md5 for _, _, file in files)
        found: dict[str, dict[str, str]] = {}
        for model, version, file in files:
            if file.md5 in absent:
                found.setdefault(model, {})[file.path] = f"{file.path} of {version}, {file.md5}"
        return found


def _in_order(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
