"""DVC stage: what the model is worth on the test rows, where it errs, and what rows it knows.

python -m pipelines.evaluate models/<model>: prepared/, model.skops -> metrics.json, plots/, reference.json
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from coalmine.evaluation import curves, model_file, signature
from coalmine.evaluation.measure import estimates, measure
from coalmine.evaluation.prepared import prepared_folder, read_split, read_test, read_train
from coalmine.evaluation.reference import dump_reference, reference_of, reference_path
from coalmine.evaluation.scoring import rows_to_judge, score
from coalmine.spec import load_model_spec
from pipelines.stage import run


def evaluate(repository: Path, model: str) -> None:
    """
    Raises:
        SpecError: an unknown metric or slice.
        DataRefused: test rows that cannot judge a model.
    """
    spec = load_model_spec(repository, model)
    folder = repository / "models" / model
    split = read_split(repository / prepared_folder(model))
    test = read_test(repository / prepared_folder(model))
    rows = rows_to_judge(test, spec.target, split, spec.evaluation)
    file = folder / "model.skops"
    fitted = model_file.load(file, model_file.untrusted_types(file))  # made by the stage before this one
    predictions = score(fitted, test, spec.features, spec.task)

    figures: dict[str, float] = {"rows": len(test)}
    for name, found in estimates(
        measure(predictions, rows, spec.evaluation), rows, spec.evaluation.confidence
    ).items():
        figures |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    (folder / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")

    plots = folder / "plots"
    shutil.rmtree(plots, ignore_errors=True)  # slices come and go
    (plots / "error").mkdir(parents=True)
    curves.roc(rows.target, predictions).to_csv(plots / "roc.csv", index=False)
    curves.calibration(rows.target, predictions).to_csv(plots / "calibration.csv", index=False)
    curves.confusion(rows.target, predictions).to_csv(plots / "confusion.csv", index=False)
    times = None if split.time is None else test[split.time]
    for name, points in curves.errors_over_time(rows, times, predictions).items():
        points.to_csv(plots / "error" / f"{name}.csv", index=False)

    learnt = signature.model_frame(read_train(repository / prepared_folder(model)), spec.features)
    reference = reference_of({name: learnt[name].to_numpy() for name in learnt.columns}, predictions)
    (repository / reference_path(model)).write_text(dump_reference(reference), encoding="utf-8")


if __name__ == "__main__":
    run(evaluate)
