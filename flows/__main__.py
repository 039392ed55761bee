"""Run a flow from here, against the Prefect server in PREFECT_API_URL (or a temporary one).

python -m flows retrain-and-deliver --model flight-delays --data next
"""

from __future__ import annotations

import sys
from typing import Any

import yaml
from prefect.exceptions import ParameterBindError, ParameterTypeError

from flows.deliver import deliver
from flows.deliver_eligible import deliver_eligible
from flows.retrain import retrain
from flows.retrain_and_deliver import retrain_and_deliver
from flows.retrain_due import retrain_due
from flows.rollback import rollback
from flows.watch import watch

FLOWS: dict[str, Any] = {
    flow.name: flow
    for flow in (retrain, deliver, retrain_and_deliver, retrain_due, deliver_eligible, rollback, watch)
}


def main(words: list[str]) -> None:
    name, *options = words or [""]
    if name not in FLOWS or len(options) % 2 or not all(key.startswith("--") for key in options[::2]):
        sys.exit(f"usage: python -m flows {'|'.join(FLOWS)} [--parameter VALUE ...]")
    keys = [key.removeprefix("--").replace("-", "_") for key in options[::2]]
    # Prefect checks the values against the flow's types; YAML makes lists and booleans of text.
    parameters = dict(zip(keys, map(yaml.safe_load, options[1::2]), strict=True))
    try:
        ended = FLOWS[name](**parameters, return_state=True)
    except (ParameterBindError, ParameterTypeError) as error:
        sys.exit(f"{name}: {error}")
    if not ended.is_completed():
        sys.exit(f"{name}: {ended.message}")


if __name__ == "__main__":
    main(sys.argv[1:])
