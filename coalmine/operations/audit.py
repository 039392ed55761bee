"""What served when, why, by whom, with which data: answered from Git alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from coalmine.audit import history
from coalmine.audit.history import LIMITS, Entry, Served
from coalmine.errors import NotFound
from coalmine.manifest import LookupTable, Trigger
from coalmine.operations.workspace import Workspace
from coalmine.spec import model_names


@dataclass(frozen=True)
class ModelAudit:
    """serves: at the time asked for; None when nothing did. life: oldest first, until that time."""

    model: str
    environment: str
    at: datetime
    serves: Served | None
    life: tuple[Entry, ...]


def audit(
    workspace: Workspace, environment: str, model: str | None = None, at: datetime | None = None
) -> list[ModelAudit]:
    """
    model: default: every model. at: in UTC; default: now.

    Raises:
        NotFound: no such model or environment.
    """
    workspace.settings.environment(environment)
    known = model_names(workspace.top)
    if model is not None and model not in known:
        raise NotFound(f"There is no model {model}. There are: {', '.join(known) or 'none'}.")
    moment = datetime.now(UTC) if at is None else at.replace(tzinfo=at.tzinfo or UTC)
    return [_audit(workspace, environment, name, moment) for name in ([model] if model else known)]


def _audit(workspace: Workspace, environment: str, model: str, at: datetime) -> ModelAudit:
    try:
        serves = history.served(workspace.repository, environment, model, at)
    except NotFound:
        serves = None
    life = (entry for entry in history.history(workspace.repository, model) if entry.at <= at)
    here = tuple(entry for entry in life if entry.environment in (None, environment))
    return ModelAudit(model, environment, at, serves, here)


def print_audit(audits: list[ModelAudit], console: Console) -> None:
    for each in audits:
        console.print(
            f"\n[bold]{each.model}[/] in {each.environment} at {each.at:%Y-%m-%d %H:%M:%S} UTC",
            highlight=False,
        )
        if each.serves is None:
            console.print("  serves nobody")
        else:
            _print_served(each.serves, console)
        if each.life:
            console.print(_life(each.life))
    console.print(f"[dim]{LIMITS}[/]", highlight=False)


def _print_served(served: Served, console: Console) -> None:
    dataset = served.dataset
    span = dataset.train[0] if len(dataset.train) == 1 else f"{dataset.train[0]} to {dataset.train[-1]}"
    metrics = ", ".join(
        f"{name} {m.value:.4f} ({m.low:.4f} to {m.high:.4f})" for name, m in served.metrics.items()
    )
    rows = {
        "serves": f"{served.version} since {served.since:%Y-%m-%d %H:%M:%S}",
        "by": _who(served.who) + (f", rollout {served.rollout}" if served.rollout else ""),
        "dataset": f"{dataset.name} {dataset.md5}, trained on {span}, tested on {', '.join(dataset.test)}",
        **{f"lookup {table.dataset}": _lookup(table) for table in served.manifest.lookups},
        "model": f"sha256 {served.manifest.files[0].sha256}",
        "code": served.code,
        "metrics": metrics,
        "why": " ".join(served.manifest.decision.reasons),
    }
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)


def _lookup(table: LookupTable) -> str:
    partitions = f"{len(table.files)} {'partition' if len(table.files) == 1 else 'partitions'}"
    return f"{table.md5}, {partitions} released with the model, by {', '.join(table.key)}"


def _life(entries: tuple[Entry, ...]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("when (UTC)", "what", "version", "who", "commit"):
        table.add_column(heading, overflow="fold")
    for entry in entries:
        table.add_row(
            f"{entry.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            entry.action.value,
            entry.version or "",
            _who(entry.who),
            entry.commit[:12],
        )
    return table


def _who(trigger: Trigger) -> str:
    return f"{trigger.who} ({trigger.kind}, {trigger.proof})"
