"""Where a training's work goes: one part after the other here, or to the workers of a Dask cluster.

scikit-learn and the search for parameters hand their parts to joblib; this says what joblib does with
them. The parts, and how they are put together again, are the same everywhere, so a model's bytes do
not tell where it was trained.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from coalmine.errors import MachineUnready
from coalmine.spec import Engine, Training

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """code: the folder `pipelines`, which workers get. scheduler: a Dask cluster's address; None: a cluster
    of this machine, for as long as the work takes. tell: progress, a sentence at a time."""

    code: Path
    scheduler: str | None
    tell: Callable[[str], None]


def spread(training: Training, place: Place, work: Callable[[], T]) -> T:
    """What `work` gives. It may be called again, where workers end amid it.

    Raises:
        MachineUnready: Dask is not installed here, or the workers are not fit for this training.
        Unavailable: the scheduler or its workers are away; run again.
    """
    if training.engine is Engine.LOCAL:
        return work()
    try:
        from coalmine.evaluation.dask_cluster import work_there
    except ModuleNotFoundError as error:
        if error.name not in ("dask", "distributed"):
            raise
        raise MachineUnready(
            "`training: {engine: dask}` of model.yaml needs Dask, which is not installed here: "
            'pip install "coalmine[cluster]". Or write `engine: local`: the model will be the same'
        ) from error
    return work_there(place.scheduler, place.code, place.tell, work)


def undivided() -> AbstractContextManager[Any]:
    """On a worker, nothing inside this block is handed on to further workers: what came here is one part
    already, and parts of it would each wait in turn. Elsewhere it changes nothing."""
    distributed = sys.modules.get("distributed.utils")
    if distributed is None or not hasattr(distributed.thread_state, "execution_state"):
        return nullcontext()
    from joblib import parallel_config

    sequential: AbstractContextManager[Any] = parallel_config(backend="sequential")
    return sequential
