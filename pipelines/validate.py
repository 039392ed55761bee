"""DVC stage: check every partition of a dataset, and say what it holds.

python -m pipelines.validate data/<dataset>: partitions/, dataset.yaml -> report.json

Partitions were checked when they came in; this catches files that were changed since, and
rules that were. No date is asked here, so that the same files always give the same report.
"""

from __future__ import annotations

import sys
from pathlib import Path

from coalmine.datasets.partitions import list_partitions, partitions_folder, read_partitions
from coalmine.datasets.report import column_figures, dump_report
from coalmine.datasets.schema import check_partition
from coalmine.errors import CoalmineError, DataRefused, NotFound
from coalmine.spec import load_dataset_spec


def validate(repository: Path, dataset: str) -> Path:
    """
    Raises:
        DataRefused: every fault of every partition.
        NotFound: no such dataset, or no partition of it.
    """
    spec = load_dataset_spec(repository, dataset)
    folder = repository / partitions_folder(dataset)
    names = list_partitions(folder)
    if not names:
        raise NotFound(f"{folder} holds no partition. Take some from the source: coalmine ingest {dataset}")
    figures = {}
    refusals = []
    for name in names:
        try:
            frame = check_partition(read_partitions(folder, [name]), spec, name, today=None)
        except DataRefused as refused:
            refusals.append(str(refused))
        else:
            figures[name] = column_figures(frame, spec)
    if refusals:
        raise DataRefused("\n".join(refusals))
    report = folder.parent / "report.json"
    report.write_text(dump_report(spec, figures), encoding="utf-8")
    return report


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m pipelines.validate data/<dataset>", file=sys.stderr)
        return 2
    try:
        validate(Path.cwd(), Path(arguments[0]).name)
    except CoalmineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
