"""`coalmine watch`: does what runs match Git?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from coalmine.cli.words import (
    AsJson,
    EnvironmentName,
    host_and_port,
    open_workspace,
    print_json,
    quiet_if,
    say,
)
from coalmine.errors import InputError

if TYPE_CHECKING:
    from coalmine.operations.watch import Looked


def watch(
    models: Annotated[list[str] | None, typer.Argument(help="Default: every model.")] = None,
    environment: EnvironmentName = "local",
    once: Annotated[
        bool, typer.Option("--once", help="One look; exit 1 where it is not as Git says.")
    ] = False,
    every: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Between two looks.")] = 60.0,
    heal: Annotated[bool, typer.Option("--heal", help="Mend what no person must decide.")] = False,
    metrics: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Prometheus metrics and /healthz there.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether what runs matches Git, tell once of each change, and mend what may be mended."""
    from coalmine.operations.runner_metrics import served
    from coalmine.operations.watch import Watch, keep_watching
    from coalmine.operations.watch_metrics import WatchMetrics
    from coalmine.operations.who import person

    if once and metrics is not None:
        raise InputError("--metrics belongs to a watch that stays: take --once out")
    host, port = (None, None) if metrics is None else host_and_port("--metrics", metrics)
    workspace = open_workspace()
    numbers = WatchMetrics(environment, every)
    tell = quiet_if(as_json)
    watching = Watch(
        workspace, environment, models or (), person(workspace), tell, heals=heal, metrics=numbers
    )
    if once:
        looked = watching.once()
        _show(looked, as_json=as_json)
        raise typer.Exit(looked.exit_code)
    with served(numbers, port, host or "127.0.0.1"):
        keep_watching(watching, every, lambda looked: _show(looked, as_json=as_json), tell)


def _show(looked: Looked, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "environment": looked.environment,
                "at": _iso(looked.at_s),
                "matches": looked.matches,
                "models": looked.models,
                "findings": [
                    {
                        "kind": each.finding.kind,
                        "model": each.finding.model,
                        "subject": each.finding.subject,
                        "since": _iso(each.since_s),
                        "expected": each.finding.expected,
                        "seen": each.finding.seen,
                        "remedy": each.finding.remedy,
                        "heal": each.finding.heal,
                        "told": each.told,
                    }
                    for each in looked.findings
                ],
                "healed": [
                    {
                        "kind": each.finding.kind,
                        "model": each.finding.model,
                        "subject": each.finding.subject,
                        "done": each.is_done,
                        "said": each.said,
                    }
                    for each in looked.healed
                ],
                "untold": looked.untold,
            }
        )
    else:
        for line in _lines(looked):
            say(line)


def _lines(looked: Looked) -> Iterator[str]:
    """One look, for people."""
    number = len(looked.findings)
    models = f"{looked.models} model{'s' * (looked.models != 1)}"
    if looked.matches:
        yield f"{looked.environment} is as Git says ({models}, {_moment(looked.at_s)})."
    else:
        found = f"{number} finding{'s' * (number > 1)}"
        yield f"{looked.environment} is not as Git says: {found} ({models}, {_moment(looked.at_s)})."
    for each in looked.findings:
        finding = each.finding
        what = " ".join(filter(None, (finding.model, finding.subject)))
        yield f"  {finding.kind}{f' of {what}' if what else ''}, since {_moment(each.since_s)}"
        yield f"    expected  {finding.expected}"
        yield f"    seen      {finding.seen}"
        yield f"    remedy    {finding.remedy}"
    yield from (f"  {sentence}" for sentence in looked.untold)


def _moment(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")
