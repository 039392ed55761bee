"""Steps 5 to 8: a recorded release reaches the users, or is turned away, and Git says which.

    hand over   one commit puts the release into the candidate slot; the reconciler starts it
    roll out    the rollout moves the users, watched by the gates, and closes with a commit

Killed anywhere and run again, an unfinished rollout is found and driven to its end.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from coalmine.audit.earlier import dispersions
from coalmine.errors import (
    AlreadyRunning,
    IntegrityError,
    PushRejected,
    RemoteUnavailable,
    RepositoryUnready,
    Unavailable,
)
from coalmine.journals import journal
from coalmine.journals.about import About, rollout_id
from coalmine.manifest import Trigger
from coalmine.notifications.notifier import notifying
from coalmine.operations.at_rest import leave_at_rest, restore
from coalmine.operations.champion import Release, release, turned_away
from coalmine.operations.choose import choose
from coalmine.operations.driving import Drive, driving
from coalmine.operations.eligible import rules_of
from coalmine.operations.environments import open_environment
from coalmine.operations.going_back import finish as finish_rollback
from coalmine.operations.hand_over import hand_over, new_rollout
from coalmine.operations.report import page_of
from coalmine.operations.serving_environment import ServingEnvironment
from coalmine.operations.signatures import require_signed
from coalmine.operations.steps import Step, Steps, directly
from coalmine.operations.unfinished import half_recorded_rollout, open_rollout
from coalmine.operations.workspace import Tell, Workspace
from coalmine.registry.commits import catch_up
from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import Ask, Journal, Request
from coalmine.rollout.runner import Ports, finish_record, run
from coalmine.rollout.state import Phase, RolloutState
from coalmine.slots import Slots, slots_path
from coalmine.spec import ModelSpec, load_model_spec
from coalmine.wiring import rollout_ports

OTHER_RUNNER_ENDS_WITHIN_S = 60.0


@dataclass(frozen=True)
class Delivered:
    """How a delivery ended. rollout, report: None when the release served already."""

    model: str
    version: str
    promoted: bool
    reason: str
    rollout: str | None = None
    report: Path | None = None


def deliver(
    workspace: Workspace,
    model: str,
    environment: str,
    trigger: Trigger,
    tell: Tell,
    *,
    version: str | None = None,
    retry: bool = False,
    despite: str = "",
    steps: Steps = directly,
) -> Delivered:
    """
    version: default: the newest release that may go to `environment`.
    retry: roll out a release again that this environment turned away before.
    despite: why it goes although the rules of `environment` refuse it, for the record; "": it does not.

    What is under way there goes on, whatever its rules say: they are about beginnings.

    Raises:
        NotFound: no such model, environment or release.
        InputError: the release was turned away here before, and `retry` is not set; or the environment does
            not take it, and no time alone will change that.
        NotYetAdmitted: the environment takes it later; says from when on.
        IntegrityError: signatures are required here, and nobody allowed has signed the release.
        RepositoryUnready: no Git remote, or not on the branch of releases.
        AlreadyRunning: another runner drives a rollout of this model.
        MachineUnready, Unavailable: run again to go on.
    """
    despite = " ".join(despite.split())
    serving = open_environment(workspace, environment)
    workspace.require_record()
    serving.rollouts.catch_up()
    if rules_of(workspace, environment).asks_for_something:
        catch_up(workspace.repository, workspace.settings.git.remote, workspace.settings.git.branch)
    spec = load_model_spec(workspace.top, model)
    finish_rollback(workspace, serving, model, tell)
    slots = serving.slots(model)
    wanted = choose(workspace, serving, slots, version, tell, retry=retry, despite=despite)
    serving.up()
    if serving.warning:
        tell(serving.warning)
    ended = (
        _finish_record(workspace, spec, serving, slots, tell)
        if slots.candidate_release is None
        else _finish_open(workspace, spec, serving, slots, wanted, trigger, tell, steps)
    )
    if ended is not None and ended.version == wanted.manifest.version:
        return ended
    router = serving.adapters(spec).router
    Plan.of(spec.rollout).require(router.supports())
    slots = serving.slots(model)
    if slots.stable_release is not None and slots.stable_release.version == wanted.manifest.version:
        restore(serving, spec, slots)
        tell(f"{model} {wanted.manifest.version} serves {environment} already.")
        return Delivered(model, wanted.manifest.version, True, "it serves already")
    about = new_rollout(workspace, spec, slots, wanted, trigger)
    serving.checks(spec.rollout.gates, about)  # refused here, before anything is handed over
    handed_over = steps(
        Step.HAND_OVER, lambda: hand_over(workspace, serving, slots, wanted, about, despite, tell)
    )
    return steps(Step.ROLL_OUT, lambda: _roll_out(workspace, spec, serving, handed_over, about, tell))


def resume(
    workspace: Workspace,
    serving: ServingEnvironment,
    model: str,
    trigger: Trigger,
    tell: Tell,
    *,
    drive: Drive | None = None,
) -> Delivered | None:
    """Drive the unfinished rollout of `model` to its end, or as `drive` says. None: there is none.

    Raises:
        AlreadyRunning: its runner is alive.
        RepositoryUnready: a rollout is under way, and this clone does not have its commit.
        IntegrityError: signatures are required here, and nobody allowed has signed the candidate.
    """
    with suppress(RemoteUnavailable, PushRejected):  # to go back to stable waits for no Git remote
        serving.rollouts.catch_up()
    spec = load_model_spec(workspace.top, model)
    serving.up()
    slots = serving.slots(model)
    if slots.candidate_release is None:
        finished = _finish_record(workspace, spec, serving, slots, tell, drive)
        if finished is None and serving.rollouts.are_shared:
            _require_none(serving, model)
        return finished
    wanted = release(workspace.repository, model, slots.candidate_release.version)
    _refuse_unsigned(workspace, serving, slots, wanted, tell)
    return _finish_open(workspace, spec, serving, slots, wanted, trigger, tell, directly, drive)


def _require_none(serving: ServingEnvironment, model: str) -> None:
    """No rollout of `model` is under way whose candidate Git does not hold here."""
    for folder in serving.rollouts.at_hand(model):
        raise RepositoryUnready(
            f"Rollout {folder.name} of {model} is under way in {serving.name}, and the last commit here does "
            f"not have its candidate: git pull, and look at git log -- {slots_path(serving.name, model)}"
        )


def _refuse_unsigned(
    workspace: Workspace, serving: ServingEnvironment, slots: Slots, wanted: Release, tell: Tell
) -> None:
    """A candidate that must be signed and is not gets no users; those that it has already go back to stable.

    Raises:
        RepositoryUnready, IntegrityError: as `require_signed`; it had none.
    """
    try:
        require_signed(workspace, serving.name, [(slots.model, wanted.manifest.version, wanted.commit)])
    except (RepositoryUnready, IntegrityError) as error:
        folder = open_rollout(serving, slots)
        if folder is None:
            raise
        tell(f"{error}. Its users go back to stable.")
        serving.rollouts.ask(folder, Request(Ask.ABORT, "the check of signatures", time.time()))


# --- an unfinished rollout -------------------------------------------------------------


def _finish_open(
    workspace: Workspace,
    spec: ModelSpec,
    serving: ServingEnvironment,
    slots: Slots,
    wanted: Release,
    trigger: Trigger,
    tell: Tell,
    steps: Steps,
    drive: Drive | None = None,
) -> Delivered:
    """Drive the rollout that Git says is open to its end; a newer release supersedes it."""
    assert slots.candidate_release is not None
    version = slots.candidate_release.version
    folder = open_rollout(serving, slots)
    if folder is None:
        serving.rollouts.catch_up()  # or it may have ended, and Git here does not know
        about = _begun_elsewhere(slots, spec, trigger)
        folder = journal.begin(workspace.top, about)
        tell(f"The rollout of {spec.name} {version} began elsewhere: it starts anew here.")
    else:
        about = journal.read_about(folder)
    if version == wanted.manifest.version:
        tell(f"The rollout of {spec.name} {version} is unfinished: it goes on.")
    else:
        tell(f"{wanted.manifest.version} supersedes the rollout of {version}.")
        serving.rollouts.ask(folder, Request(Ask.SUPERSEDE, trigger.who, time.time()))
        _await_runner_gone(serving.rollouts.journal(folder))
    return steps(Step.ROLL_OUT, lambda: _roll_out(workspace, spec, serving, slots, about, tell, drive))


def _begun_elsewhere(slots: Slots, spec: ModelSpec, trigger: Trigger) -> About:
    assert slots.candidate_release is not None
    return About(
        id=rollout_id(slots.candidate_release.version, time.time()),
        environment=slots.environment,
        model=slots.model,
        candidate=slots.candidate_release.version,
        stable=None if slots.stable_release is None else slots.stable_release.version,
        stages=spec.rollout.stages,
        triggered_by=trigger,
    )


def _await_runner_gone(its_journal: Journal) -> None:
    """Return when the rollout's runner, which was told to stop, has done so."""
    deadline = time.monotonic() + OTHER_RUNNER_ENDS_WITHIN_S
    while True:
        try:
            with its_journal.lease():
                return
        except AlreadyRunning:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)


def _finish_record(
    workspace: Workspace,
    spec: ModelSpec,
    serving: ServingEnvironment,
    slots: Slots,
    tell: Tell,
    drive: Drive | None = None,
) -> Delivered | None:
    """Push the closing commit that a runner left behind, and end its rollout. None: there is none."""
    folder = half_recorded_rollout(workspace, serving, slots)
    if folder is None:
        return None
    about = journal.read_about(folder)
    tell(f"The record of the rollout of {about.model} {about.candidate} is unfinished: it goes on.")
    git = workspace.settings.git
    plan = _plan(workspace, spec, folder)
    drive = drive or driving(serving.rollouts, folder)
    with notifying(serving.rollouts, folder, spec.rollout.notify) as told:
        ports = rollout_ports(serving.adapters(spec), workspace.repository, git, folder, told, {})
        ended = drive(ports, lambda ports: finish_record(plan, ports))
    return _reported(workspace, about, folder, ended, tell)


# --- roll out --------------------------------------------------------------------------


def _roll_out(
    workspace: Workspace,
    spec: ModelSpec,
    serving: ServingEnvironment,
    slots: Slots,
    about: About,
    tell: Tell,
    drive: Drive | None = None,
) -> Delivered:
    folder = journal.begin(workspace.top, about)
    plan = _plan(workspace, spec, folder)
    serving.rollouts.publish(folder)
    chosen, checks = serving.adapters(spec, plan.gates), serving.checks(plan.gates, about)
    drive = drive or driving(serving.rollouts, folder)
    again = about.candidate in turned_away(workspace.repository, about.model, about.environment)

    drove = False

    def act(ports: Ports) -> RolloutState:
        nonlocal drove
        drove = True
        return run(plan, slots, ports, asked_by=about.triggered_by.who, again=again)

    with notifying(serving.rollouts, folder, spec.rollout.notify) as told:
        ports = rollout_ports(chosen, workspace.repository, workspace.settings.git, folder, told, checks)
        try:
            ended = drive(ports, act)
        except Exception:
            raise
        except BaseException as error:  # Ctrl-C, SIGTERM, or Prefect's signal for a cancelled run
            # Ctrl-C is a person's no to the release. The others end this process alone.
            if not isinstance(error, KeyboardInterrupt) and _runner_is_alive(serving):
                way_back = f"coalmine abort {about.model} --environment {about.environment}"
                tell(f"Ended: the runner goes on with the rollout. To bring its users back: {way_back}")
                raise
            # Nobody watches the candidate any more: its users go back before this process ends.
            tell("Interrupted: bringing the users back to stable.")
            interrupt = Request(Ask.ABORT, f"{about.triggered_by.who} (interrupt)", time.time())
            serving.rollouts.ask(folder, interrupt)
            drive(ports, act)
            raise
        if drove:  # else whoever did does this
            leave_at_rest(serving, chosen, about.model)
        return _reported(workspace, about, folder, ended, tell)


def _runner_is_alive(serving: ServingEnvironment) -> bool:
    """As far as can be seen from here."""
    try:
        return serving.rollouts.runner.is_held()
    except Unavailable:
        return False


def _plan(workspace: Workspace, spec: ModelSpec, folder: Path) -> Plan:
    """What model.yaml said when the rollout began: an edit since then is for the next one."""
    dispersion = dispersions(workspace.top, spec.name, spec.rollout.gates)
    return journal.keep_plan(folder, Plan.of(spec.rollout, spec.serving.timeout_s, dispersion))


def _reported(workspace: Workspace, about: About, folder: Path, ended: RolloutState, tell: Tell) -> Delivered:
    report = page_of(workspace, folder)
    promoted = ended.phase is Phase.PROMOTED
    tell(f"{about.model} {about.candidate} was {'promoted' if promoted else 'rolled back'}: {ended.reason}.")
    return Delivered(about.model, about.candidate, promoted, ended.reason, about.id, report)
