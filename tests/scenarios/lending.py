"""The repository that the stories begin with: a lender's, with three releases of one small model.

1.0.0   takes missing values; good
1.1.0   the same with more trees; good
1.2.0   trained on complete rows: as good offline, and refuses a fifth of the users online
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from coalmine.scaffold.repository import init, new_dataset, new_model
from coalmine.spec import Task
from tests.scenarios.workplace import DATASET, MODEL, Workplace

ROWS = 800
LOANS = "loans.csv"
MODEL_YAML = f"models/{MODEL}/model.yaml"

TREES = """estimator:
  class: sklearn.ensemble.HistGradientBoostingClassifier
  params: {max_iter: 10, random_state: 0}
"""
LINEAR = """estimator:
  class: sklearn.linear_model.LogisticRegression
"""
# Margins far wider than the defaults, so that a rollout at 80 requests per second takes seconds.
ROLLOUT = """rollout:
  stages: [30, 60]
  bake_s: 1
  poll_s: 0.25
  gates:
    - {gate: errors, margin: 0.1}
    - {gate: latency, margin: 0.4, worst_ratio: 3, worst_difference: 0.3}
"""


def begin(top: Path) -> Workplace:
    """Nothing is trained yet."""
    init(top, examples=())
    _write_loans(top / LOANS)
    new_dataset(top, DATASET, str(top / LOANS))
    new_model(top, MODEL, DATASET, Task.BINARY)
    model = top / MODEL_YAML
    text = model.read_text(encoding="utf-8").replace("gain: 0}", "gain: -0.1}")
    head, rest = text.split("estimator:\n", 1)
    _, rest = rest.split("tuning:", 1)
    model.write_text(f"{head}{TREES}tuning:{rest[: rest.index('rollout:')]}{ROLLOUT}", encoding="utf-8")
    work = Workplace(top)
    work.commit("A model of late payments")
    return work


def release_three(work: Workplace) -> None:
    """Recorded, not delivered."""
    work.run("ingest", DATASET)
    work.run("retrain", MODEL)
    more_trees(work)
    work.run("retrain", MODEL)
    work.edit(MODEL_YAML, TREES.replace("10", "11"), LINEAR)
    work.edit(MODEL_YAML, "split: #", "split:\n  rows: complete #")
    work.commit("Complete rows only")
    work.run("retrain", MODEL)
    assert list(work.tags()) == [f"{MODEL}@v1.{minor}.0" for minor in range(3)]


def more_trees(work: Workplace) -> None:
    work.edit(MODEL_YAML, "max_iter: 10", "max_iter: 11")
    work.commit("One tree more")


def _write_loans(path: Path) -> None:
    """A fifth of the incomes is missing, at random."""
    chance = np.random.default_rng(0)
    income = chance.normal(50, 15, ROWS).round(1)
    age = chance.integers(18, 80, ROWS)
    debt = chance.gamma(2, 5, ROWS).round(1)
    late = chance.random(ROWS) < 1 / (1 + np.exp((income - 50) / 8 - (debt - 10) / 5))
    shown = np.where(chance.random(ROWS) < 0.2, "", income.astype(str))
    lines = [f"{i},{a},{d},{int(y)}" for i, a, d, y in zip(shown, age, debt, late, strict=True)]
    path.write_text("\n".join(["income,age,debt,late", *lines, ""]), encoding="utf-8")
