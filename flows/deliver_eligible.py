"""Look for releases that may go to an environment, and start a delivery of each: a flow run of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import State, flow
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from coalmine.errors import MachineUnready
from coalmine.operations.eligible import Eligible, EligibleReleases, eligible
from coalmine.operations.workspace import Workspace
from flows.conclusion import conclude
from flows.tasks import tell


@flow(name="deliver-eligible", flow_run_name="deliver what may go to {environment}")
def deliver_eligible(environment: str, models: list[str] | None = None) -> State[Any]:
    """Deliver the releases that the rules of an environment let go there now, such as those that have held in
    the one before. Each is tried once a day.

    Args:
        environment: An environment of coalmine.yaml
        models: Folders of models/; empty for all
    """

    def act() -> EligibleReleases:
        found = eligible(Workspace.open(Path.cwd()), environment, models or ())
        for each in found.models:
            tell(f"{each.model}: {each.sentence}.")
            if each.version is not None:
                _start(each)
        return found

    return conclude(act)


def _start(release: Eligible) -> None:
    """A run that Prefect makes once a day, however often it is asked for: a release that cannot be delivered
    is not tried at every look.

    Raises:
        MachineUnready: Prefect does not know the flow.
    """
    about = {"model": release.model, "environment": release.environment, "version": release.version}
    once = (release.environment, release.model, release.digest, f"{datetime.now(UTC):%Y%m%d}")
    try:
        run_deployment(
            "deliver/deliver",
            parameters=about,
            idempotency_key=f"deliver {' '.join(map(str, once))}",
            timeout=0,  # the runs go on by themselves
            as_subflow=False,
        )
    except ObjectNotFound as error:
        raise MachineUnready(
            "Prefect has no deployment deliver/deliver, which delivers. Deploy those of prefect.yaml: "
            "coalmine up"
        ) from error
