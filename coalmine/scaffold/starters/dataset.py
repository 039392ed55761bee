"""A dataset.yaml, from what was found in the rows."""

from __future__ import annotations

from typing import Any

from coalmine.scaffold.starters import fill, flow, scalar
from coalmine.spec import Column, DatasetSpec


def dataset_yaml(spec: DatasetSpec, rows: int) -> str:
    """Law: read back, it is `spec`."""
    files = spec.source.files
    assert files is not None
    time = (
        ""
        if spec.time is None
        else f"time: {scalar(spec.time)} # when a row happened: it must lie in its period\n"
    )
    key = (
        f"key: [{scalar(spec.key[0])}] # names one row\n" if spec.key else "# key: [COLUMN] # names one row\n"
    )
    return fill(
        "dataset.yaml",
        name=spec.name,
        rows=f"{rows:,}",
        file=files,
        files=scalar(files),
        period=spec.period.value,
        time=time,
        key=key,
        columns="\n".join(
            f"  {scalar(name)}: {flow(_checks(column))}" for name, column in spec.columns.items()
        ),
    )


def _checks(column: Column) -> dict[str, Any]:
    checks = column.model_dump(mode="json", exclude_defaults=True)
    for bound in ("minimum", "maximum"):
        if bound in checks and float(checks[bound]).is_integer():
            checks[bound] = int(checks[bound])
    return checks
