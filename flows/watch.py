"""Look whether what runs is as Git says: once, by a schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import State, flow
from prefect.events import emit_event

from coalmine.drift.alerts import Notice, Open
from coalmine.operations.watch import Looked, Watch
from coalmine.operations.workspace import Workspace
from flows.conclusion import conclude
from flows.tasks import tell
from flows.trigger import trigger


class Events:
    """Tells by events of Prefect, to which an automation can react."""

    id = name = "prefect events"

    def tell(self, environment: str, notice: Notice) -> None:
        for what, found in (("appeared", notice.appeared), ("ended", notice.ended)):
            for each in found:
                emit_event(
                    event=f"coalmine.finding.{what}",
                    resource=_resource(environment, each),
                    payload={
                        "expected": each.finding.expected,
                        "seen": each.finding.seen,
                        "remedy": each.finding.remedy,
                    },
                )


def _resource(environment: str, each: Open) -> dict[str, str]:
    """By which an automation tells one finding from another, and its end from others' ends."""
    finding = each.finding
    return {
        "prefect.resource.id": f"coalmine.finding.{environment}.{finding.key}",
        "prefect.resource.name": str(finding.kind),
        "coalmine.environment": environment,
        "coalmine.model": finding.model,
        "coalmine.kind": str(finding.kind),
    }


@flow(name="watch")
def watch(models: list[str] | None = None, environment: str = "local", heal: bool = False) -> State[Any]:
    """Say whether what runs is as Git says, tell once of each change, and mend what may be mended.

    Args:
        models: Folders of models/; empty for all
        environment: An environment of coalmine.yaml
        heal: Mend what no person must decide
    """

    def act() -> Looked:
        workspace = Workspace.open(Path.cwd())
        looked = Watch(
            workspace, environment, models or (), trigger(""), tell, heals=heal, channels=[Events()]
        ).once()
        for found in looked.findings:
            tell(str(found.finding))
        for sentence in looked.untold:
            tell(sentence)
        return looked

    return conclude(act)
