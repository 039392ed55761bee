from __future__ import annotations

from pathlib import Path

from coalmine.datasets.schema import check_partition
from coalmine.spec import load_dataset_spec
from pipelines.sources import german_credit

TOP = Path(__file__).parents[3]


def test_the_loans_keep_the_rules_of_their_dataset() -> None:
    spec = load_dataset_spec(TOP, "german-credit")
    (partition,) = german_credit.partitions()
    loans = check_partition(german_credit.load(partition), spec, partition, today=None)
    assert len(loans) == 1000
    assert loans["default"].sum() == 300
    assert (loans["telephone"] == "none").sum() == 596  # an answer, not a gap
