"""Looking: what serves, what served, what went how, what is missing."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from coalmine.cli.words import AsJson, EnvironmentName, ModelName, open_workspace, print_json, say


def status(environment: EnvironmentName = "local", as_json: AsJson = False) -> None:
    """What serves now, who gets what, and what a rollout is doing."""
    from coalmine.operations.status import status as look

    found = look(open_workspace(), environment)
    if as_json:
        print_json(found)
        return
    for each in found:
        say(
            f"{each.model}: {each.stable or 'serves nobody'}"
            + (f" (stable in {environment})" if each.stable else "")
        )
        if each.weights:
            say(
                "  users: "
                + ", ".join(f"{weight} % on {version}" for version, weight in each.weights.items())
            )
        if each.servers:
            say("  servers: " + ", ".join(f"{name} {health}" for name, health in each.servers.items()))
        if each.ready_to_go_back_to:
            say(f"  to go back: coalmine rollback {each.model} (to {each.ready_to_go_back_to})")
        if each.trouble:
            say(f"  {each.trouble}")
        if each.rollout is not None:
            told = each.rollout.newest.sentence if each.rollout.newest else "starting"
            say(f"  rollout of {each.rollout.candidate}: {told}")
            if not each.rollout.runner_alive:
                say(
                    f"  its runner is gone: coalmine deliver {each.model} goes on, "
                    f"coalmine abort {each.model} brings the users back"
                )


def audit(
    model: Annotated[str | None, typer.Argument(help="Default: every model.")] = None,
    environment: EnvironmentName = "local",
    at: Annotated[datetime | None, typer.Option(help="What served at this time (UTC).")] = None,
    as_json: AsJson = False,
) -> None:
    """What served when, why, by whom, with which dataset. Answered from Git alone."""
    from rich.console import Console

    from coalmine.operations.audit import audit as ask
    from coalmine.operations.audit import print_audit

    found = ask(open_workspace(), environment, model, at)
    if as_json:
        print_json(found)
    else:
        print_audit(found, Console())


def report(model: ModelName, environment: EnvironmentName = "local") -> None:
    """Write the page of the newest rollout, and say where it is."""
    from coalmine.operations.report import newest_report

    say(str(newest_report(open_workspace(), model, environment)))


def doctor(as_json: AsJson = False) -> None:
    """What is missing here, and how to mend it."""
    from coalmine.operations.doctor import Health, examine

    findings = examine(Path.cwd())
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            say(f"{finding.health.value:8} {finding.what}: {finding.detail}")
    if any(finding.health is Health.MISSING for finding in findings):
        raise typer.Exit(2)
