"""Looking: what serves, what served, what went how, what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coalmine.cli.words import AsJson, EnvironmentName, ModelName, open_workspace, print_json, quiet_if, say
from coalmine.errors import IntegrityError

if TYPE_CHECKING:
    from coalmine.operations.replay import Compared
    from coalmine.operations.status import ModelStatus, RolloutStatus


def status(environment: EnvironmentName = "local", as_json: AsJson = False) -> None:
    """What serves now, who gets what, and what a rollout is doing."""
    from coalmine.operations.status import status as look

    found = look(open_workspace(), environment)
    if as_json:
        print_json(found)
        return
    for each in found:
        for line in _lines(each):
            say(line)


def _lines(model: ModelStatus) -> Iterator[str]:
    """One model, for people."""
    where = f" (stable in {model.environment})" if model.stable else ""
    yield f"{model.model}: {model.stable or 'serves nobody'}{where}"
    if model.weights:
        shares = (f"{weight} % on {version}" for version, weight in model.weights.items())
        yield f"  users: {', '.join(shares)}"
    if model.servers:
        yield f"  servers: {', '.join(f'{name} {health}' for name, health in model.servers.items())}"
    if model.ready_to_go_back_to:
        yield f"  to go back: coalmine rollback {model.model} (to {model.ready_to_go_back_to})"
    if model.rollback_waits:
        yield f"  {model.rollback_waits}"
    if model.next_release:
        yield f"  next: {model.next_release}"
    if model.trouble:
        yield f"  {model.trouble}"
    if model.rollout is not None:
        yield from _rollout_lines(model.model, model.rollout)
    yield from (f"  notification {sentence}" for sentence in model.undelivered)


def _rollout_lines(model: str, rollout: RolloutStatus) -> Iterator[str]:
    if rollout.waits_for:
        yield f"  rollout of {rollout.candidate}, {rollout.situation}: {rollout.waits_for}"
    else:
        yield f"  rollout of {rollout.candidate}: {rollout.newest.sentence if rollout.newest else 'starting'}"
    if rollout.runner_alive:
        yield from (f"    {step.command:<44} {step.effect}" for step in rollout.next)
    else:
        yield (
            f"  its runner is gone: coalmine deliver {model} goes on, "
            f"coalmine abort {model} brings the users back"
        )


def due(
    models: Annotated[list[str] | None, typer.Argument(help="Default: every model.")] = None,
    environment: EnvironmentName = "local",
    as_json: AsJson = False,
) -> None:
    """Which models are due to be retrained, and why."""
    from coalmine.operations.due import due as look

    found = look(open_workspace(), models or (), environment)
    if as_json:
        print_json(found.models)
        return
    for each in found.models:
        say(f"{each.model}: {'due' if each.causes else 'not due'}")
        for cause in each.causes:
            say(f"  {cause.kind}: {cause.because}")
        for note in each.notes:
            say(f"  {note}")


def eligible(
    models: Annotated[list[str] | None, typer.Argument(help="Default: every model.")] = None,
    environment: EnvironmentName = "local",
    as_json: AsJson = False,
) -> None:
    """Which releases may go to an environment now, and why not the newer ones, and from when on."""
    from coalmine.operations.eligible import eligible as look

    found = look(open_workspace(), environment, models or ())
    if as_json:
        print_json(found.models)
        return
    for each in found.models:
        say(f"{each.model}: {each.sentence}")


def verify(
    model: Annotated[str | None, typer.Argument(help="Default: every model.")] = None,
    environment: Annotated[
        str | None, typer.Option("--environment", "-e", help="Default: every environment.")
    ] = None,
    pinned: Annotated[
        str | None, typer.Option(help="A commit, by its full id, that must be in the history still.")
    ] = None,
    data: Annotated[bool, typer.Option("--data", help="Read models and data in the DVC remote too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether the record holds: releases, deliveries and evidence in Git agree, or where they do not."""
    from coalmine.operations.verify import verify as check

    found = check(open_workspace(), model, environment, pinned=pinned, data=data)
    if as_json:
        print_json(found)
    else:
        say("\n".join([*map(str, found.findings), found.summary]))
    if not found.holds:
        raise typer.Exit(IntegrityError.exit_code)


def report(model: ModelName, environment: EnvironmentName = "local") -> None:
    """Write the page of the newest rollout, and say where it is."""
    from coalmine.operations.report import newest_report

    say(str(newest_report(open_workspace(), model, environment)))


def plan(
    model: ModelName,
    environment: EnvironmentName = "local",
    requests_per_s: Annotated[
        float | None, typer.Option(min=0.001, help="Instead of what is measured or recorded.")
    ] = None,
    error_rate: Annotated[
        float | None, typer.Option(min=0, max=0.5, help="The share of requests that fails on stable.")
    ] = None,
    chosen_share: Annotated[
        float, typer.Option(min=0.001, max=0.999, help="Strategy ab: of requests by the chosen users.")
    ] = 0.1,
    as_json: AsJson = False,
) -> None:
    """Say before a rollout what its gates will be able to see at this traffic, from simulated rollouts."""
    from coalmine.cli.forecast import in_words
    from coalmine.operations.plan import plan as foresee

    found = foresee(
        open_workspace(),
        model,
        environment,
        quiet_if(as_json=True),
        requests_per_s=requests_per_s,
        error_rate=error_rate,
        chosen_share=chosen_share,
    )
    print_json(found) if as_json else say("\n".join(in_words(found)))


def replay(
    rollout: Annotated[str, typer.Argument(help="The rollout's id, from its page or commit, or MODEL/ID.")],
    plan: Annotated[
        Path | None,
        typer.Option(help="What this plan would have done: a model.yaml, or a file with `rollout` alone."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compute every decision of a rollout again from its record, and say whether it is equal."""
    from coalmine.operations.replay import replay as compute
    from coalmine.operations.replay import with_plan

    if plan is not None:
        compared = with_plan(open_workspace(), rollout, plan)
        print_json(compared) if as_json else say("\n".join(_comparison(compared)))
        return
    found = compute(open_workspace(), rollout)
    if as_json:
        print_json(found)
    elif found.difference is None:
        say(
            f"Equal: {found.ticks:,} ticks and {found.events} events, computed again from {found.source}, "
            f"give the same decisions. {found.ended}"
        )
    else:
        at = f"{found.difference.what} of number {found.difference.number}"
        say(f"NOT EQUAL: {found.source} is not what was decided. The first difference is in the {at}:")
        say(f"  recorded: {found.difference.recorded}\n  computed: {found.difference.computed}")
    if found.difference is not None:
        raise typer.Exit(IntegrityError.exit_code)


def _comparison(compared: Compared) -> Iterator[str]:
    """Both courses, for people."""
    from coalmine.rollout.what_if import Ending

    other = compared.other
    yield f"Recorded, rollout {compared.rollout} (UTC):"
    for was in compared.recorded:
        yield f"  {_clock(was.at_s)} {was.weight_percent:>4} %  {was.sentence}"
    yield f"With {compared.plan}: {compared.note}".rstrip(" ")
    for event in other.events:
        yield f"  {_clock(event.at_s)} {event.weight_percent:>4} %  {event.sentence}"
    match other.ending:
        case Ending.DECIDED:
            yield f"At {_clock(other.at_s)} it would have {other.sentence}."
        case Ending.UNKNOWN:
            yield f"From {_clock(other.at_s)} on the record cannot say: {other.sentence}."
        case Ending.OPEN:
            yield f"At {_clock(other.at_s)} {other.sentence}."


def _clock(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%H:%M:%S}"


def doctor(environment: EnvironmentName = "local", as_json: AsJson = False) -> None:
    """What is missing here, and how to mend it."""
    from coalmine.operations.doctor import examine, examine_environment
    from coalmine.operations.findings import Health

    # No repository is needed to be told that there is none.
    here = environment == "local"
    findings = examine(Path.cwd()) if here else examine_environment(open_workspace(), environment)
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            say(f"{finding.health.value:8} {finding.what}: {finding.detail}")
    if any(finding.health is Health.MISSING for finding in findings):
        raise typer.Exit(2)
