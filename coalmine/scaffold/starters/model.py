"""A model.yaml that learns something from a dataset as it is described."""

from __future__ import annotations

from coalmine.errors import InputError
from coalmine.scaffold.starters import fill, flow, scalar
from coalmine.spec import Column, ColumnType, DatasetSpec, PartitionPeriod, Task


def choose_target(data: DatasetSpec, task: Task) -> str:
    """The last column that may be the target of `task`.

    Raises:
        InputError: none looks like one.
    """
    not_a_target = {*data.key, data.time, data.group}
    fitting = [
        name for name, column in data.columns.items() if _fits(column, task) and name not in not_a_target
    ]
    if not fitting:
        raise InputError(
            f"No column of dataset {data.name} looks like the target of a {task.value} task. "
            f"Name it: --target COLUMN. The columns are: {', '.join(data.columns)}"
        )
    return fitting[-1]


def _fits(column: Column, task: Task) -> bool:
    match task:
        case Task.BINARY:
            return column.type is ColumnType.BOOLEAN or len(column.values or ()) == 2
        case Task.MULTICLASS:
            return len(column.values or ()) > 2
        case Task.REGRESSION:
            return column.type in (ColumnType.INTEGER, ColumnType.NUMBER) and column.values is None


def model_yaml(name: str, data: DatasetSpec, task: Task, target: str) -> str:
    """
    Raises:
        InputError: nothing beside the target to learn from.
    """
    aside = {*data.key, data.time, data.group, target}
    offered = {column: described for column, described in data.columns.items() if column not in aside}
    features = {column: described for column, described in offered.items() if _is_feature(described)}
    if not features:
        raise InputError(
            f"Dataset {data.name} has no column to learn from beside the target `{target}`: a feature is a "
            "number, true or false, or a text with listed `values`."
        )
    left_out = [column for column in offered if column not in features]
    texts = [column for column, described in features.items() if described.type is ColumnType.STRING]
    metrics = {
        Task.BINARY: ("roc_auc", "log_loss", "brier"),
        Task.MULTICLASS: ("log_loss", "accuracy"),
        Task.REGRESSION: ("mae", "r2"),
    }[task]
    return fill(
        "model.yaml",
        name=name,
        dataset=data.name,
        task=task.value,
        target=scalar(target),
        features="".join(f"  - {scalar(feature)}\n" for feature in features),
        left_out=f"  # left out, dates and texts without listed `values`: {', '.join(left_out)}\n"
        if left_out
        else "",
        split=_split(data.period),
        estimator=_estimator(task, texts),
        prefix="model__learning_rate" if texts else "learning_rate",
        metrics=", ".join(metrics),
        metric=metrics[0],
        bound="minimum: 0.6" if metrics[0] == "roc_auc" else "maximum: 1.0",
    )


def _is_feature(column: Column) -> bool:
    if column.type is ColumnType.STRING:
        return column.values is not None
    return column.type is not ColumnType.DATETIME


def _split(period: PartitionPeriod) -> str:
    if period is PartitionPeriod.NONE:
        return (
            "  test_share: 0.25 # chosen by a hash of each row, so a row keeps its side when the file grows\n"
        )
    return (
        f"  train_partitions: 3 # the {period.value}s before the test\n"
        f"  test_partitions: 1 # the newest {period.value}\n"
    )


def _estimator(task: Task, texts: list[str]) -> str:
    kind = "Regressor" if task is Task.REGRESSION else "Classifier"
    starter = "estimator-texts.yaml" if texts else "estimator.yaml"
    return fill(starter, class_path=f"sklearn.ensemble.HistGradientBoosting{kind}", texts=flow(texts))
