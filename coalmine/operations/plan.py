"""`coalmine plan`: what the gates will be able to see, before a rollout starts.

From the model's traffic: as it is measured while the environment runs; as the newest rollouts recorded it in
Git; or as somebody says. The arithmetic is in coalmine.rollout.foresight.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from coalmine.audit.earlier import dispersions
from coalmine.audit.rollout_record import RolloutRecord, parse_record
from coalmine.errors import InputError, TelemetryUnavailable
from coalmine.operations.eligible import next_in_words
from coalmine.operations.environments import open_environment
from coalmine.operations.serving_environment import ServingEnvironment
from coalmine.operations.workspace import Tell, Workspace
from coalmine.rollout.evidence import Counters, CountersReset, Reading, between
from coalmine.rollout.foresight import Foreseen, ForeseenStage, Runs, Users, foresee
from coalmine.rollout.plan import Plan
from coalmine.rollout_spec import ErrorsSpec, GateSpec, Rollout, Shadow, gate_name
from coalmine.spec import ModelSpec, load_model_spec

MEASURED_FOR_S = 10.0
SEED = 1  # the same question gets the same answer
ROLLOUTS = 5  # the newest that are looked at
_OTHERWISE_RUNS = Runs(good=80, bad=40)
_WIDEST = 0.3  # a margin beyond it proves nothing worth knowing
# Of so many requests one is taken to fail where none was seen to: as good as never, and never for sure.
_FEWEST_REQUESTS = 1000


@dataclass(frozen=True)
class Otherwise:
    """A change in model.yaml, as one writes it there, and what would be seen with it."""

    change: str
    foreseen: Foreseen


@dataclass(frozen=True)
class Forecast:
    """
    source: where the traffic is known from.
    widened: gates whose last stage can rule out less at this traffic than is set: set and able to.
    otherwise: what to change where traffic is too thin; empty where it is not.
    next_release: what may go there now, and why nothing newer, in words for people; None: it has no rules.
    """

    model: str
    environment: str
    source: str
    foreseen: Foreseen
    widened: Mapping[str, tuple[float, float]]
    otherwise: tuple[Otherwise, ...]
    next_release: str | None = None
    seed: int = SEED


def plan(
    workspace: Workspace,
    model: str,
    environment: str,
    tell: Tell,
    *,
    requests_per_s: float | None = None,
    error_rate: float | None = None,
    chosen_share: float = 0.1,
) -> Forecast:
    """
    requests_per_s, error_rate: instead of what is measured or recorded.
    chosen_share: of the requests, by users whom the strategy ab chooses; nobody measures it before.

    Raises:
        NotFound: no such model or environment.
        InputError: nobody knows the model's traffic; says how to give it.
        Unsupported: the environment's router cannot do what the plan asks for.
    """
    spec = load_model_spec(workspace.top, model)
    serving = open_environment(workspace, environment)
    next_release = next_in_words(workspace, environment, model)
    users, source = _users(workspace, serving, spec, tell, requests_per_s, error_rate)
    users = replace(users, chosen=chosen_share)
    dispersion = dispersions(workspace.top, model, spec.rollout.gates)
    planned = Plan.of(spec.rollout, spec.serving.timeout_s, dispersion)
    tell("Simulating rollouts ...")
    foreseen = foresee(planned, users, SEED)
    widened = _widened(planned, users)
    otherwise = _otherwise(planned, foreseen, users) if foreseen.too_thin or widened else ()
    return Forecast(model, environment, source, foreseen, widened, tuple(otherwise), next_release)


# --- what users do ---------------------------------------------------------------------


def _users(
    workspace: Workspace,
    serving: ServingEnvironment,
    spec: ModelSpec,
    tell: Tell,
    requests_per_s: float | None,
    error_rate: float | None,
) -> tuple[Users, str]:
    if requests_per_s is not None and error_rate is not None:
        return Users(requests_per_s, error_rate), "as given"
    known = _measured(serving, spec, tell) or _recorded(workspace, spec.name, serving.name)
    if known is None:
        raise InputError(
            f"Nobody knows the traffic of {spec.name} in {serving.name}: no request was counted and no "
            "rollout is recorded. Give it: --requests-per-s 20 --error-rate 0.005"
        )
    users, source = known
    given = [
        name
        for name, value in (("requests per second", requests_per_s), ("error rate", error_rate))
        if value is not None
    ]
    users = replace(
        users,
        requests_per_s=users.requests_per_s if requests_per_s is None else requests_per_s,
        error_rate=users.error_rate if error_rate is None else error_rate,
    )
    return users, f"{source}; {given[0]} as given" if given else source


def _measured(serving: ServingEnvironment, spec: ModelSpec, tell: Tell) -> tuple[Users, str] | None:
    """None: nothing runs, nothing can be read, or nobody asks."""
    stable = serving.slots(spec.name).stable
    if stable is None or serving.trouble() is not None:
        return None
    telemetry = serving.adapters(spec).telemetry
    tell(f"Measuring the traffic for {MEASURED_FOR_S:g} s ...")
    try:
        before = telemetry.read(stable.other)
        time.sleep(MEASURED_FOR_S)
        after = telemetry.read(stable.other)
        poll = between(before, after, weight=0.5)
    except (TelemetryUnavailable, CountersReset):
        return None
    requests = poll.candidate.requests + poll.stable.requests
    if requests == 0:
        return None
    users = Users(requests / (after.at_s - before.at_s), _rate(_both(after)))
    return users, f"measured for {MEASURED_FOR_S:g} s; failures since the proxy started"


def _both(reading: Reading) -> tuple[int, int]:
    arms: Sequence[Counters] = list(reading.arms.values())
    return sum(arm.requests for arm in arms), sum(arm.failures for arm in arms)


def _recorded(workspace: Workspace, model: str, environment: str) -> tuple[Users, str] | None:
    """From the newest rollouts' records in Git; None where there is none with users in it."""
    records = list(_records(workspace, model, environment))
    stages = [stage for record in records for stage in record.stages if not stage.stage.endswith("shadow")]
    seconds = sum(stage.seconds for stage in stages)
    requests = sum(stage.candidate.requests + stage.stable.requests for stage in stages)
    stable = sum(stage.stable.requests for stage in stages), sum(stage.stable.failures for stage in stages)
    if not seconds or not requests:
        return None
    what = "the newest rollout" if len(records) == 1 else f"the newest {len(records)} rollouts"
    return Users(requests / seconds, _rate(stable)), f"as {what} recorded it in Git"


def _records(workspace: Workspace, model: str, environment: str) -> Iterator[RolloutRecord]:
    paths = sorted((workspace.top / "models" / model / "rollouts").glob("*/rollout.yaml"), reverse=True)
    found = 0
    for path in paths:
        record = parse_record(path.read_text(encoding="utf-8"), str(path.relative_to(workspace.top)))
        if record.environment == environment and found < ROLLOUTS:
            found += 1
            yield record


def _rate(counted: tuple[int, int]) -> float:
    requests, failures = counted
    return failures / requests if failures else 1 / max(requests, _FEWEST_REQUESTS)


# --- what to change --------------------------------------------------------------------


def _widened(planned: Plan, users: Users) -> Mapping[str, tuple[float, float]]:
    """Margins of `errors` that this traffic cannot prove; the gate widens them by itself."""
    last = len(planned.stages) - 1
    margins = planned.margins(last, users.requests_per_s) if planned.stages else {}
    return {
        gate_name(gate): (gate.margin, margins[gate_name(gate)])
        for gate in planned.gates
        if isinstance(gate, ErrorsSpec) and margins.get(gate_name(gate), 0.0) > gate.margin
    }


def _otherwise(planned: Plan, foreseen: Foreseen, users: Users) -> Iterator[Otherwise]:
    rollout = planned.rollout
    if foreseen.too_thin:
        slowest = max(foreseen.stages, key=lambda stage: stage.slow_s)
        for gate in rollout.gates:
            if gate_name(gate) == slowest.slowest:
                yield from _wider(planned, gate, slowest, users)
        longer = rollout.hold_budget_s * 4
        change = f"hold_budget_s: {longer:g}"
        yield _tried(planned, change, {"hold_budget_s": longer}, users)
    if rollout.shadow is None:
        yield _tried(planned, "shadow: {percent: 100}", {"shadow": Shadow(percent=100)}, users)


def _wider(planned: Plan, gate: GateSpec, stage: ForeseenStage, users: Users) -> Iterator[Otherwise]:
    """Twice the margin of the gate that is convinced last, in the stage that takes longest."""
    wider = round(2 * stage.margins[gate_name(gate)], 4)
    if wider < _WIDEST:
        gates = tuple(g.model_copy(update={"margin": wider}) if g == gate else g for g in planned.gates)
        yield _tried(planned, f"margin: {wider:g} of the gate {gate_name(gate)}", {"gates": gates}, users)


def _tried(planned: Plan, change: str, update: Mapping[str, object], users: Users) -> Otherwise:
    rollout: Rollout = planned.rollout.model_copy(update=dict(update))
    return Otherwise(change, foresee(replace(planned, rollout=rollout), users, SEED, _OTHERWISE_RUNS))
