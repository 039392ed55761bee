"""Steps 5 to 8: a recorded release reaches the users, or is turned away, and Git says which.

    hand over   one commit puts the release into the candidate slot; the reconciler starts it
    roll out    the rollout moves the users, watched by the gates, and closes with a commit

Killed anywhere and run again, an unfinished rollout is found and driven to its end.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from coalmine.audit.attribution import from_trailer, to_trailer
from coalmine.audit.earlier import dispersions
from coalmine.durable import replace_text
from coalmine.errors import (
    AlreadyRunning,
    InputError,
    IntegrityError,
    NotFound,
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
from coalmine.operations.champion import Release, newest, release, turned_away
from coalmine.operations.driving import Drive, driving
from coalmine.operations.eligible import newest_eligible, refused_by_rules, refused_error, rules_of
from coalmine.operations.environments import open_environment
from coalmine.operations.going_back import finish as finish_rollback
from coalmine.operations.report import page_of
from coalmine.operations.serving_environment import ServingEnvironment
from coalmine.operations.signatures import require_signed
from coalmine.operations.steps import Step, Steps, directly
from coalmine.operations.unfinished import half_recorded_rollout, open_rollout, unfinished_rollout
from coalmine.operations.workspace import Tell, Workspace
from coalmine.registry.commits import Change, catch_up
from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import Ask, Journal, Request
from coalmine.rollout.runner import Ports, finish_record, run
from coalmine.rollout.state import Phase, RolloutState
from coalmine.slots import SlotRelease, Slots, dump_slots, slots_path
from coalmine.spec import ModelSpec, load_model_spec
from coalmine.wiring import rollout_ports

OTHER_RUNNER_ENDS_WITHIN_S = 60.0
OTHERS_HAND_OVER_WITHIN_S = 120.0  # each is a push


@dataclass(frozen=True)
class Override:
    """Why a release goes although its environment's rules refuse it, and why they do."""

    reason: str
    refused: str


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
    wanted = _wanted(workspace, model, version)
    finish_rollback(workspace, serving, model, tell)
    slots = serving.slots(model)
    at_hand = _at_hand(workspace, serving, slots)
    if version is None and not despite:
        wanted = _newest_that_may_go(workspace, slots, at_hand, wanted, tell, retry=retry)
    if wanted.manifest.version not in at_hand:
        if not retry:
            _refuse_rejected(workspace, slots, wanted)
        _require_admitted(workspace, environment, wanted, despite)
    require_signed(workspace, environment, [(model, wanted.manifest.version, wanted.commit)])
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
    about = _new_rollout(workspace, spec, slots, wanted, trigger)
    serving.checks(spec.rollout.gates, about)  # refused here, before anything is handed over
    handed_over = steps(
        Step.HAND_OVER, lambda: _hand_over(workspace, serving, slots, wanted, about, despite, tell)
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


def _wanted(workspace: Workspace, model: str, version: str | None) -> Release:
    if version is not None:
        return release(workspace.repository, model, version.removeprefix("v"))
    found = newest(workspace.repository, model)
    if found is None:
        raise NotFound(f"{model} has no release yet. Make one: coalmine retrain {model}")
    return found


def _require_none(serving: ServingEnvironment, model: str) -> None:
    """No rollout of `model` is under way whose candidate Git does not hold here."""
    for folder in serving.rollouts.at_hand(model):
        raise RepositoryUnready(
            f"Rollout {folder.name} of {model} is under way in {serving.name}, and the last commit here does "
            f"not have its candidate: git pull, and look at git log -- {slots_path(serving.name, model)}"
        )


def _at_hand(workspace: Workspace, serving: ServingEnvironment, slots: Slots) -> list[str]:
    """Versions that a delivery brings nothing new of: what serves, and what is under way and just goes on."""
    under_way = unfinished_rollout(workspace, serving, slots)
    versions = [slot.version for slot in (slots.stable_release, slots.candidate_release) if slot is not None]
    return versions if under_way is None else [*versions, journal.read_about(under_way).candidate]


def _newest_that_may_go(
    workspace: Workspace, slots: Slots, at_hand: list[str], newest: Release, tell: Tell, *, retry: bool
) -> Release:
    """`newest` where the environment has no rules; what is under way, where they let nothing newer begin."""
    rules = rules_of(workspace, slots.environment)
    if newest.manifest.version in at_hand or not rules.asks_for_something:
        return newest
    found = newest_eligible(workspace, slots, retry=retry)
    under_way = [version for version in at_hand if version != _version(slots.stable_release)]
    version = found.version or next(iter(under_way), None)
    if version is None:
        raise refused_error(found)
    if found.refused:
        tell(f"{slots.model} in {slots.environment}: {found.sentence}.")
    return release(workspace.repository, slots.model, version)


def _version(slot: SlotRelease | None) -> str | None:
    return None if slot is None else slot.version


def _refuse_rejected(workspace: Workspace, slots: Slots, wanted: Release) -> None:
    """A release that was turned away is rolled out again only on purpose."""
    model, version, environment = slots.model, wanted.manifest.version, slots.environment
    rejected = turned_away(workspace.repository, model, environment).get(version)
    if rejected is not None:
        raise InputError(
            f"{model} {version} was turned away in {environment} on {rejected.at:%Y-%m-%d %H:%M} "
            f"(commit {rejected.sha[:12]}). Release a better one, or roll it out again on purpose: "
            f"coalmine deliver {model} --version {version} --retry"
        )


def _require_admitted(
    workspace: Workspace, environment: str, wanted: Release, despite: str
) -> Override | None:
    """None: the rules of the environment let it begin. despite: why it does where they do not; "": no reason.

    Raises:
        InputError, NotYetAdmitted: they do not, and nobody said why it should all the same.
    """
    found = refused_by_rules(workspace, environment, wanted)
    if found is None:
        return None
    if not despite:
        raise refused_error(found)
    return Override(despite, found.refused[0].reason)


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


# --- hand over, roll out ---------------------------------------------------------------


def _new_rollout(
    workspace: Workspace, spec: ModelSpec, slots: Slots, wanted: Release, trigger: Trigger
) -> About:
    """Where an earlier call proposed the candidate and nobody has merged it yet, that call's rollout."""
    version = wanted.manifest.version
    candidate = {"Version": version, "Decision": "candidate", "Digest": wanted.manifest.digest}
    proposed = workspace.awaiting_review(_review_name(slots), candidate)
    asked = None if proposed is None else from_trailer(proposed.trailers["Triggered-By"])
    return About(
        id=rollout_id(version, time.time()) if proposed is None else proposed.trailers["Rollout"],
        environment=slots.environment,
        model=slots.model,
        candidate=version,
        stable=None if slots.stable_release is None else slots.stable_release.version,
        stages=spec.rollout.stages,
        triggered_by=asked or trigger,
    )


def _review_name(slots: Slots) -> str:
    """Of the branch by which a candidate is reviewed: one at a time of each model and environment."""
    return f"{slots.model}/to-{slots.environment}"


def _hand_over(
    workspace: Workspace,
    serving: ServingEnvironment,
    slots: Slots,
    wanted: Release,
    about: About,
    despite: str,
    tell: Tell,
) -> Slots:
    """The candidate in its slot, in Git."""
    who = about.triggered_by.who
    with workspace.alone(f"hand over {about.model}", who), _in_turn(workspace, serving, who):
        if serving.slots(about.model) != slots:
            raise AlreadyRunning(
                f"Another delivery of {about.model} to {about.environment} began at the same moment. "
                "Look: coalmine status"
            )
        # Again: another model may have taken the day's last place meanwhile.
        override = _require_admitted(workspace, about.environment, wanted, despite)
        handed_over = _put_into_slot(workspace, serving, slots, wanted, about, override, tell)
    tell(f"{about.model} {about.candidate} is in the {handed_over.candidate} slot of {about.environment}.")
    return handed_over


def _in_turn(workspace: Workspace, serving: ServingEnvironment, who: str) -> AbstractContextManager[None]:
    """One hand-over at a time to an environment that counts them."""
    if rules_of(workspace, serving.name).releases_per_day is None:
        return nullcontext()
    return workspace.alone(f"hand over to {serving.name}", who, OTHERS_HAND_OVER_WITHIN_S)


def _put_into_slot(
    workspace: Workspace,
    serving: ServingEnvironment,
    slots: Slots,
    wanted: Release,
    about: About,
    override: Override | None,
    tell: Tell,
) -> Slots:
    handed_over = slots.with_candidate(*serving.contents(wanted))
    journal.begin(workspace.top, about)
    path = slots_path(about.environment, about.model)
    (workspace.top / path).parent.mkdir(parents=True, exist_ok=True)
    replace_text(workspace.top / path, dump_slots(handed_over))
    assert handed_over.candidate is not None
    subject = f"Put {about.model} {about.candidate} into {handed_over.candidate} of {about.environment}"
    change = Change(
        paths=(path,),
        subject=subject if override is None else f"{subject} despite its rules: {override.reason}",
        body="" if override is None else f"The rules of {about.environment} refused it: {override.refused}.",
        trailers={
            "Model": about.model,
            "Version": about.candidate,
            "Environment": about.environment,
            "Digest": wanted.manifest.digest,
            "Decision": "candidate",
            "Rollout": about.id,
            "Triggered-By": to_trailer(about.triggered_by),
            **({} if override is None else {"Despite": override.reason}),
        },
    )
    workspace.publish(change, _review_name(slots), tell)
    return handed_over


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
