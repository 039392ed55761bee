"""DVC stage: fit the estimator of model.yaml, with what tuning found, to the training rows.

python -m pipelines.train models/<model>: prepared/, tuned.json -> model.skops
"""

from __future__ import annotations

import json
from pathlib import Path

from coalmine.evaluation import model_file
from coalmine.evaluation.fitting import fit
from coalmine.evaluation.prepared import prepared_folder, read_train
from coalmine.spec import load_model_spec
from pipelines.stage import run


def train(repository: Path, model: str) -> None:
    """
    Raises:
        SpecError: an unknown class or parameter, or an estimator that does not take these rows.
    """
    spec = load_model_spec(repository, model)
    folder = repository / "models" / model
    tuned = json.loads((folder / "tuned.json").read_text(encoding="utf-8"))
    rows = read_train(repository / prepared_folder(model))
    model_file.dump(fit(spec, tuned.get("params", {}), rows), folder / "model.skops")


if __name__ == "__main__":
    run(train)
