"""DVC stage: fit the estimator of model.yaml, with what tuning found, to the training rows.

python -m pipelines.train models/<model>: prepared/, tuned.json -> model.skops
"""

from __future__ import annotations

import json
from pathlib import Path

from coalmine.evaluation import model_file
from coalmine.evaluation.fitting import fit, is_divided
from coalmine.evaluation.prepared import prepared_folder, read_train
from coalmine.spec import load_model_spec
from pipelines.stage import run, spread_as_asked


def train(repository: Path, model: str) -> None:
    """
    Raises:
        SpecError: an unknown class or parameter, or an estimator that does not take these rows.
        MachineUnready, Unavailable: the workers that `training` asks for.
    """
    spec = load_model_spec(repository, model)
    folder = repository / "models" / model
    tuned = json.loads((folder / "tuned.json").read_text(encoding="utf-8")).get("params", {})
    rows = read_train(repository / prepared_folder(model))
    if is_divided(spec, tuned):
        fitted = spread_as_asked(repository, spec, lambda: fit(spec, tuned, rows))
    else:  # workers would find nothing to do
        fitted = fit(spec, tuned, rows)
    model_file.dump(fitted, folder / "model.skops")


if __name__ == "__main__":
    run(train)
