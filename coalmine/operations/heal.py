"""What `coalmine watch --heal` mends, by the way that the record itself goes; the rest it says.

    clone behind, diverged     it takes what the remote has, as every delivery does
    local stack down           `coalmine up`
    rollback waits             it is finished
    runner gone                the rollout is gone on with, in a thread, since it may take hours
    all else that is not a     what Git says is made to run, and everybody is led to stable
    person's to decide

Every way is the one that a command takes too, and may be killed anywhere: the next look finds what is left.
Where somebody began something meanwhile, nothing is done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from coalmine.drift.findings import Finding, Heal
from coalmine.errors import AlreadyRunning, CoalmineError, NotFound, ServerUnavailable
from coalmine.manifest import Trigger
from coalmine.operations.at_rest import restore
from coalmine.operations.deliver import resume
from coalmine.operations.going_back import finish, intended
from coalmine.operations.serving_environment import ServingEnvironment
from coalmine.operations.signatures import require_signed
from coalmine.operations.unfinished import unfinished_rollout
from coalmine.operations.workspace import Tell, Workspace
from coalmine.registry.commits import catch_up
from coalmine.rollout.ports import SlotHealth
from coalmine.slots import Slots
from coalmine.spec import load_model_spec

LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class Healed:
    """is_done: it was mended, or is being mended. said: in words for people."""

    finding: Finding
    is_done: bool
    said: str


class Healer:
    """For one environment. trigger: in whose name rollouts and rollbacks are finished."""

    def __init__(
        self, workspace: Workspace, serving: ServingEnvironment, trigger: Trigger, tell: Tell
    ) -> None:
        self._workspace = workspace
        self._serving = serving
        self._trigger = trigger
        self._tell = tell
        self._resuming: dict[str, threading.Thread] = {}

    def heal(self, findings: Sequence[Finding], models: Sequence[str]) -> Iterator[Healed]:
        """In the order in which one needs the other; each model once. models: those that are watched."""
        for way in (Heal.CATCH_UP, Heal.START, Heal.FINISH, Heal.RESUME, Heal.RESTORE):
            meant = [finding for finding in findings if finding.heal is way]
            for model in dict.fromkeys(finding.model for finding in meant):
                act = self._way(way, model, models)
                yield from self._tried([each for each in meant if each.model == model], act)

    def await_resumed(self) -> bool:
        """Until no rollout is gone on with any more; whether one was."""
        threads = list(self._resuming.values())
        for thread in threads:
            thread.join()
        return bool(threads)

    def _way(self, way: Heal, model: str, models: Sequence[str]) -> Callable[[], None]:
        workspace, git = self._workspace, self._workspace.settings.git
        match way:
            case Heal.CATCH_UP:
                return lambda: catch_up(workspace.repository, git.remote, git.branch)
            case Heal.START:
                return lambda: self._start(models)
            case Heal.FINISH:
                return lambda: self._finish(model)
            case Heal.RESUME:
                return lambda: self._resume(model)
            case _:
                return lambda: self._restore(model or self._any_at_rest(models))

    def _tried(self, findings: Sequence[Finding], act: Callable[[], None]) -> Iterator[Healed]:
        try:
            act()
        except CoalmineError as error:
            done, said = False, f"not mended: {error}"
        else:
            done, said = True, findings[0].heal.value
        for finding in findings:
            what = " ".join(filter(None, (finding.model, finding.subject)))
            self._tell(f"{finding.kind}: {what}: {said}.".replace(": : ", ": "))
            yield Healed(finding, done, said)

    # --- the ways --------------------------------------------------------------------------

    def _start(self, models: Sequence[str]) -> None:
        self._serving.up()
        for model in models:
            self._await_ready(self._serving.slots(model))

    def _finish(self, model: str) -> None:
        finish(self._workspace, self._serving, model, self._tell)

    def _resume(self, model: str) -> None:
        present = self._resuming.get(model)
        if present is None or not present.is_alive():
            thread = threading.Thread(target=self._drive, args=(model,), name=f"resume {model}", daemon=True)
            self._resuming[model] = thread
            thread.start()

    def _drive(self, model: str) -> None:
        try:
            resume(self._workspace, self._serving, model, self._trigger, self._tell)
        except AlreadyRunning:
            pass  # somebody else was quicker
        except CoalmineError as error:
            self._tell(
                f"The rollout of {model} cannot be gone on with: {error}. To bring its users back: "
                f"coalmine abort {model} -e {self._serving.name}"
            )

    def _restore(self, model: str) -> None:
        """
        Raises:
            AlreadyRunning: somebody delivers, or rolls back.
            IntegrityError: signatures are required, and nobody allowed has signed what is to serve.
            ServerUnavailable: what Git says does not start.
            CoalmineError: as `restore`.
        """
        workspace, serving = self._workspace, self._serving
        # No delivery of this machine begins meanwhile.
        with workspace.alone(f"hand over {model}", "coalmine watch --heal"):
            serving.rollouts.catch_up()
            slots = serving.slots(model)
            if intended(workspace.top, serving.name, model) is not None or (
                unfinished_rollout(workspace, serving, slots) is not None or slots.candidate is not None
            ):
                raise AlreadyRunning(f"{model} is being delivered or rolled back in {serving.name} by now")
            stable = slots.stable_release
            if stable is None:
                raise NotFound(f"{model} serves nobody in {serving.name} by Git's word: nothing is restored")
            require_signed(workspace, serving.name, [(model, stable.version, stable.commit)])
            restore(serving, load_model_spec(workspace.top, model), slots)
            self._await_ready(slots)

    def _await_ready(self, slots: Slots) -> None:
        spec = load_model_spec(self._workspace.top, slots.model)
        reconciler = self._serving.adapters(spec).reconciler
        deadline = time.monotonic() + spec.rollout.progress_deadline_s
        for slot in slots.releases:
            while (status := reconciler.status(slot)).health is not SlotHealth.READY:
                if status.health is SlotHealth.FAILED or time.monotonic() > deadline:
                    raise ServerUnavailable(f"{slots.model}-{slot} does not start: {status.detail}")
                time.sleep(LOOK_EVERY_S)

    def _any_at_rest(self, models: Sequence[str]) -> str:
        """By one model, Flux is asked to look at all of them."""
        for model in models:
            slots = self._serving.slots(model)
            if slots.stable is not None and slots.candidate is None:
                return model
        raise NotFound(f"no model is at rest in {self._serving.name}: its rollouts ask Flux by themselves")
