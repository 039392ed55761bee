"""The data of a flow run, before it begins: `python -m flows.training_data`, an init step of job.yaml.

Which model it is, only the run's parameters say: whoever starts one by hand chooses it.
"""

from __future__ import annotations

import os
import sys
from uuid import UUID

from prefect.client.orchestration import get_client

from flows.retrain import retrain
from flows.retrain_and_deliver import retrain_and_deliver

# A delivery and the way back read Git alone, and must not wait for data.
NEED_DATA = {retrain.name, retrain_and_deliver.name}


def model_to_pull(run_id: UUID) -> str | None:
    """None: the run needs no data."""
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(run_id)
        flow = client.read_flow(run.flow_id)
    return str(run.parameters["model"]) if flow.name in NEED_DATA else None


def main() -> None:
    model = model_to_pull(UUID(os.environ["PREFECT__FLOW_RUN_ID"]))
    if model is None:
        print("This run needs no data.")
        return
    os.execv(sys.executable, [sys.executable, "-m", "coalmine.cli", "pull", model])


if __name__ == "__main__":
    main()
