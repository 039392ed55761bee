"""metrics.json and plots/: every metric with its interval, for every task."""

from __future__ import annotations

import json

import pytest

from coalmine.errors import SpecError
from coalmine.evaluation.prepared import read_test, read_train
from coalmine.evaluation.reference import parse_reference
from pipelines.evaluate import evaluate
from pipelines.prepare import prepare
from pipelines.train import train
from pipelines.tune import tune

REGRESSION = {
    "task": "regression",
    "target": "spent",
    "estimator": {"class": "sklearn.ensemble.HistGradientBoostingRegressor", "params": {"max_iter": 5}},
    "evaluation": {"metrics": ["mae", "rmse", "r2"], "resamples": 100},
}
NAMED = {
    "class": "sklearn.pipeline.Pipeline",
    "params": {
        "steps": [
            [
                "columns",
                {
                    "class": "sklearn.compose.ColumnTransformer",
                    "params": {
                        "transformers": [
                            ["shop", {"class": "sklearn.preprocessing.OneHotEncoder"}, ["shop"]]
                        ],
                        "remainder": "passthrough",
                    },
                },
            ],
            [
                "trees",
                {"class": "sklearn.ensemble.HistGradientBoostingClassifier", "params": {"max_iter": 5}},
            ],
        ]
    },
}
MULTICLASS = {
    "task": "multiclass",
    "target": "pages",
    "features": ["minutes"],
    "evaluation": {"metrics": ["log_loss", "accuracy", "f1", "roc_auc"], "resamples": 100},
}


def until_trained(workshop):
    for stage in (prepare, tune, train):
        stage(workshop.top, "buyers")


@pytest.mark.parametrize("changes", [{}, REGRESSION, MULTICLASS], ids=["binary", "regression", "multiclass"])
def test_every_metric_comes_with_its_interval_and_every_plot_is_there(workshop, changes):
    workshop.write_model(**changes)
    until_trained(workshop)
    evaluate(workshop.top, "buyers")
    figures = json.loads((workshop.model / "metrics.json").read_text())
    named = changes.get("evaluation", {"metrics": ["roc_auc", "log_loss"]})["metrics"]
    assert set(figures) == {"rows"} | {f"{name}{end}" for name in named for end in ("", "_low", "_high")}
    for name in named:
        assert figures[f"{name}_low"] <= figures[name] <= figures[f"{name}_high"]
    plots = {
        str(path.relative_to(workshop.model / "plots")) for path in workshop.model.glob("plots/**/*.csv")
    }
    assert {"roc.csv", "calibration.csv", "confusion.csv", "error/all.csv"} <= plots


def test_slices_have_plots_of_their_own_and_old_ones_go(workshop):
    until_trained(workshop)
    evaluate(workshop.top, "buyers")
    assert {path.stem for path in workshop.model.glob("plots/error/*")} == {"all", "shop=north", "shop=south"}
    workshop.write_model(evaluation={"metrics": ["roc_auc"], "resamples": 100})
    evaluate(workshop.top, "buyers")
    assert {path.stem for path in workshop.model.glob("plots/error/*")} == {"all"}


def test_the_same_model_is_evaluated_to_the_same_bytes(workshop):
    until_trained(workshop)
    written = []
    for _ in range(2):
        evaluate(workshop.top, "buyers")
        files = [workshop.model / name for name in ("metrics.json", "reference.json")]
        files += sorted(workshop.model.glob("plots/**/*.csv"))
        written.append([path.read_bytes() for path in files])
    assert written[0] == written[1]


def test_the_reference_is_of_the_rows_learnt_from_and_of_the_scores_of_the_others(workshop):
    workshop.write_model(features=["minutes", "pages", "shop"], estimator=NAMED)
    until_trained(workshop)
    evaluate(workshop.top, "buyers")
    reference = parse_reference((workshop.model / "reference.json").read_bytes(), "here")
    train, test = (read(workshop.model / "prepared") for read in (read_train, read_test))
    minutes, pages, shop, score = reference.distributions
    assert [sum(each.rows) for each in (minutes, pages, shop, score)] == [*[len(train)] * 3, len(test)]
    assert minutes.rows[-1] == train["minutes"].isna().sum() > 0
    assert (pages.bounds[0], pages.bounds[-1]) == (1, 8)
    assert dict(zip(shop.levels, shop.rows, strict=False)) == dict(train["shop"].value_counts())
    assert (score.of, score.name) == ("score", "probability")


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        ({"metrics": ["rocauc"]}, "`evaluation.metrics` names `rocauc`.*did you mean `roc_auc`"),
        ({"metrics": ["mae"]}, "no metric of a binary model"),
        ({"metrics": ["roc_auc"], "slices": {"columns": ["shp"]}}, "did you mean `shop`"),
    ],
    ids=["metric", "metric of another task", "slice"],
)
def test_what_cannot_be_evaluated_is_refused(workshop, evaluation, said):
    until_trained(workshop)
    workshop.write_model(evaluation=evaluation)
    with pytest.raises(SpecError, match=said):
        evaluate(workshop.top, "buyers")
