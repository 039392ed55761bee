"""DVC stage: translate the model into what answers the same, faster, where that is exact.

python -m pipelines.compile models/<model>: prepared/, model.skops -> compiled/

compiled/plan.json says which code will answer, and why; it is there in every case. A model without
a translation is served by scikit-learn as it is.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from coalmine.evaluation import model_file, signature
from coalmine.evaluation.compiled.agreement import compile_model
from coalmine.evaluation.compiled.plan import compiled_folder, write_compiled
from coalmine.evaluation.prepared import prepared_folder, read_test, read_train
from coalmine.spec import load_model_spec
from pipelines.stage import run


def compile_stage(repository: Path, model: str) -> None:
    spec = load_model_spec(repository, model)
    prepared = repository / prepared_folder(model)
    file = repository / "models" / model / "model.skops"
    fitted = model_file.load(file, model_file.untrusted_types(file))  # made by the stage before this one
    columns = signature.inputs(read_train(prepared), spec.features)
    compiled, trees = compile_model(fitted, read_test(prepared), columns, spec.task)

    out = repository / compiled_folder(model)
    shutil.rmtree(out, ignore_errors=True)  # trees.onnx comes and goes
    out.mkdir()
    write_compiled(out, compiled, trees)


if __name__ == "__main__":
    run(compile_stage)
