"""How a DVC stage of a model runs: `python -m pipelines.<stage> models/<model>`, from the top of
the repository. Errors that people can mend come without a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from coalmine.errors import CoalmineError
from coalmine.evaluation.spread import Place, spread
from coalmine.spec import ModelSpec

T = TypeVar("T")
SCHEDULER = "COALMINE_DASK_SCHEDULER"  # its address, such as tcp://dask-scheduler:8786


def run(stage: Callable[[Path, str], None]) -> None:
    """`stage` takes the top of the repository and the model's name."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m pipelines.{stage.__name__} models/<model>")
    try:
        stage(Path.cwd(), Path(sys.argv[1]).name)
    except CoalmineError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def spread_as_asked(repository: Path, spec: ModelSpec, work: Callable[[], T]) -> T:
    """What `work` gives, done by the engine that `training` of model.yaml names.

    Raises:
        MachineUnready: that engine is not installed, or its workers differ from this machine.
        Unavailable: its scheduler or workers are away.
    """
    place = Place(repository / "pipelines", os.environ.get(SCHEDULER) or None, _tell)
    return spread(spec.training, place, work)


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr)
