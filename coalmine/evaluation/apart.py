"""Scores rows with a recorded model in a process of its own, by the model's own code.

Two releases may define the same transformer differently, and one process can import only one
of the two. `score_apart` is the parent's side, `main` the child's.

python -m coalmine.evaluation.apart RELEASE ROWS OUT
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from coalmine.errors import IntegrityError
from coalmine.evaluation import model_file
from coalmine.evaluation.predictions import Predictions
from coalmine.evaluation.scoring import score
from coalmine.manifest import Manifest, parse_manifest


def score_apart(release: Path, manifest: Manifest, rows: Path) -> Predictions:
    """What the model of the materialised `release` says about the dataset rows in the file `rows`.

    Raises:
        IntegrityError: the recorded model cannot be loaded, or does not take these rows.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "predictions.npz"
        command = [sys.executable, "-m", "coalmine.evaluation.apart", str(release), str(rows), str(out)]
        # The release's own code comes first, ahead of whatever is checked out where this runs.
        path = os.pathsep.join([str(release / "code"), *filter(None, sys.path)])
        ran = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode != 0:
            said = ran.stderr.strip().splitlines()
            raise IntegrityError(
                f"{manifest.model} {manifest.version} cannot score today's rows, so nothing can be "
                f"compared with it: {said[-1] if said else f'its process ended with {ran.returncode}'}"
            )
        with np.load(out) as saved:
            outputs = {name: saved[name] for name in saved.files}
    return Predictions(manifest.task, outputs, manifest.classes)


def main(release: Path, rows: Path, out: Path) -> None:
    manifest = parse_manifest((release / "manifest.yaml").read_text(encoding="utf-8"), str(release))
    file = manifest.files[0]  # model.skops; others come from it
    model = model_file.load(release / "files" / file.path, manifest.trusted_types)
    features = [tensor.name for tensor in manifest.columns]
    predictions = score(model, pd.read_parquet(rows), features, manifest.task)
    plain = {n: v.astype(str) if v.dtype == object else v for n, v in predictions.outputs.items()}
    np.savez(out, **plain)  # type: ignore[arg-type]  # savez's stub takes no keyword arrays


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
