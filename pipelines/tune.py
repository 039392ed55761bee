"""DVC stage: look for better parameters, on the training rows alone. Off unless model.yaml says so.

python -m pipelines.tune models/<model>: prepared/ -> tuned.json
"""

from __future__ import annotations

import json
from pathlib import Path

from coalmine.spec import load_model_spec
from pipelines.stage import run, spread_as_asked


def tune(repository: Path, model: str) -> None:
    """
    Raises:
        SpecError: an unknown metric or parameter.
        DataRefused: too few groups for the folds.
        MachineUnready, Unavailable: the workers that `training` asks for.
    """
    spec = load_model_spec(repository, model)
    if spec.tuning is None:
        found = {}
    else:
        # Most models do not tune: spare them seconds of imports.
        from coalmine.evaluation.prepared import read_split, read_train
        from coalmine.evaluation.search import search

        prepared = repository / "models" / model / "prepared"
        train, split, tuning = read_train(prepared), read_split(prepared), spec.tuning
        found = spread_as_asked(repository, spec, lambda: search(train, split, spec, tuning))
    path = repository / "models" / model / "tuned.json"
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(tune)
