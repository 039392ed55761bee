"""Releases whose answers tell who made them: the number of the model, of the dataset, and the key asked for.

Release 7 answers key 5 with 1000 * 7 (its model) + 7 (its table) + 5 / 100: no other release does,
and neither would a model and a table of two releases.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression

from coalmine.datasets.partitions import partition_bytes
from coalmine.manifest import Example, LookupTable, Manifest, Tensor
from coalmine.spec import Task
from tests.serving.releases import build, compile_release, release_file, rewrite

MODEL = "numbers"
KEYS = 64


def version(number: int) -> str:
    return f"1.{number}.0"


def answer(number: int, key: int) -> float:
    return 1000.0 * number + number + key / 100


def is_answer(text: str, version_told: str, key: int) -> bool:
    """Whether the release that says it answered did so, with its own model and its own table."""
    return math.isclose(float(text), answer(int(version_told.split(".")[1]), key), rel_tol=0, abs_tol=1e-6)


def build_release(folder: Path, number: int) -> Manifest:
    """A compiled model that adds 1000 * number to what its table has for a key."""
    table = pd.DataFrame({"key": np.arange(KEYS), "value": number + np.arange(KEYS) / 100})
    model = LinearRegression()
    rows = table[["value"]]
    built = build(folder, model, rows, rows["value"] + 1000 * number, Task.REGRESSION, MODEL)
    path = folder / "files/data/table/partitions/all.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(partition_bytes(table))
    value, key = built.manifest.inputs[0], Tensor(name="key", datatype="INT64")
    lookup = LookupTable(
        dataset="table",
        md5=f"{number:032}",
        key=("key",),
        columns=(value,),
        missing="refuse",
        files=(release_file(folder / "files", path),),
    )
    manifest = compile_release(built).manifest.model_copy(
        update={
            "version": version(number),
            "inputs": (key,),
            "features": (value,),
            "lookups": (lookup,),
            "example": Example(inputs={"key": 5}, outputs={"prediction": answer(number, 5)}),
        }
    )
    rewrite(folder, manifest)
    return manifest
