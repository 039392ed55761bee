"""The files that people write: models/<model>/model.yaml and data/<dataset>/dataset.yaml.

Text enters here once and leaves as frozen values. Every unknown key is refused with the
nearest known one; DVC stages depend on single keys of model.yaml, so an edit of `rollout`
(coalmine/rollout_spec.py) or `retrain` (coalmine/retrain_spec.py) retrains nothing. What the rules
are applied to (rows, models, traffic) stands elsewhere.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from coalmine.errors import NotFound, SpecError
from coalmine.retrain_spec import Retrain
from coalmine.rollout_spec import TAG, PredictionsSpec, Rollout, gate_name
from coalmine.strict import Spec
from coalmine.yaml_loader import YAML_LOADER

NAME = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"  # what GTO tags, Kubernetes names and Envoy clusters all take

Name = Annotated[str, Field(pattern=NAME, max_length=40)]
Share = Annotated[float, Field(gt=0, lt=1)]


class Task(StrEnum):
    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


# --- data/<dataset>/dataset.yaml -------------------------------------------------------


class ColumnType(StrEnum):
    INTEGER = "integer"
    NUMBER = "number"
    STRING = "string"
    BOOLEAN = "boolean"
    DATETIME = "datetime"


class Column(Spec):
    """One column and its checks. `missing` is the largest share of missing values, 0 means none."""

    type: ColumnType
    description: str = ""
    missing: float = Field(0.0, ge=0, le=1)
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str | int | bool, ...] | None = None
    unique: bool = False

    @model_validator(mode="after")
    def _checks_fit_the_type(self) -> Column:
        numeric = self.type in (ColumnType.INTEGER, ColumnType.NUMBER)
        if not numeric and (self.minimum is not None or self.maximum is not None):
            raise ValueError(f"`minimum` and `maximum` are for numbers, and this column is {self.type}")
        if self.type is ColumnType.STRING and not all(isinstance(value, str) for value in self.values or ()):
            raise ValueError(
                "`values` of a string column must be quoted: YAML reads no as false, 1 as a number"
            )
        return self


class Source(Spec):
    """Where partitions come from: exactly one of the two.

    python: dotted path of a module with `partitions() -> list[str]` and
        `load(partition: str) -> pandas.DataFrame`.
    files: path or URL of CSV or Parquet files, with `{partition}` where there are several; one
        file of a dataset with a `period` is split by its `time` column.
    """

    python: str | None = None
    files: str | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        if (self.python is None) == (self.files is None):
            raise ValueError("give exactly one of `python` and `files`")
        return self


class PartitionPeriod(StrEnum):
    """What a partition's name means; `none` is one file without a time."""

    NONE = "none"
    DAY = "day"  # 2013-01-31
    MONTH = "month"  # 2013-01
    YEAR = "year"  # 2013


class DatasetSpec(Spec):
    schema_version: Literal[1] = 1
    name: Name
    description: str = ""
    owner: str = ""
    licence: str = ""
    source: Source
    period: PartitionPeriod = PartitionPeriod.NONE
    time: str | None = None  # the column that must lie within the partition's period
    key: tuple[str, ...] = ()  # columns that together name a row of a partition
    group: str | None = None  # rows of one group are not independent (flights: the day)
    columns: dict[str, Column]

    @model_validator(mode="after")
    def _columns_exist(self) -> DatasetSpec:
        for name in (*self.key, *filter(None, (self.group, self.time))):
            if name not in self.columns:
                raise ValueError(f"column `{name}` is named but not described under `columns`")
        if self.period is not PartitionPeriod.NONE and self.time is None:
            raise ValueError("a dataset with a `period` needs `time`, the column it goes by")
        return self


# --- models/<model>/model.yaml ---------------------------------------------------------


class Split(Spec):
    """How rows become train and test. Required, since DVC watches the key.

    Partitioned datasets: the newest `test_partitions` are the test, the `train_partitions`
    before them are trained on. Others: `test_share` of the rows, chosen by a hash of the row
    and `seed`, so that a row keeps its side when the file grows.
    rows: `all`, or `complete` to leave out rows with a missing feature, in train and test.
    """

    train_partitions: int = Field(3, ge=1)
    test_partitions: int = Field(1, ge=1)
    test_share: Share = 0.25
    seed: int = 0
    rows: Literal["all", "complete"] = "all"


# In YAML, null is a word of its own.
NullOrRefuse = Annotated[
    Literal["refuse", "null"],
    BeforeValidator(lambda value: "null" if value is None else value),
    WithJsonSchema({"enum": ["refuse", None]}),
]


class Lookup(Spec):
    """Columns that another dataset adds to a row, by key. In training they are joined from the
    repository; a release takes the dataset along, and its server joins them to each request.

    key: columns of both datasets, integers or strings, that together name one row of the lookup's.
    columns: what it adds; features may name them.
    missing: what happens to a row whose key is not there: `refuse` it (a training with such rows
        stops, a request is answered 4xx), or go on with `null` in every added column.
    """

    dataset: Name
    key: tuple[str, ...] = Field(min_length=1)
    columns: tuple[str, ...] = Field(min_length=1)
    missing: NullOrRefuse = "refuse"


class EstimatorSpec(Spec):
    """A scikit-learn estimator by dotted path. A mapping with the key `class`, anywhere inside
    `params`, is built in the same way (pipelines, column transformers); one with the key `function`
    alone is a function below `pipelines.` or `numpy.`, for a FunctionTransformer."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, populate_by_name=True)

    class_path: str = Field(alias="class")
    params: dict[str, Any] = Field({})


class Tuning(Spec):
    """Search over `search`, a mapping from scikit-learn parameter names (`step__depth`) to values."""

    search: dict[str, list[Any]]
    budget: int = Field(20, ge=1)  # candidates tried
    folds: int = Field(3, ge=2)  # time-ordered where the dataset has a time
    metric: str
    seed: int = 0


class Engine(StrEnum):
    LOCAL = "local"
    DASK = "dask"


class Training(Spec):
    """Where the work of tuning and training is done. It changes nothing in the model, and no DVC stage
    depends on it.

    engine: `local`, this machine; or `dask`, the workers of the scheduler that the environment variable
        COALMINE_DASK_SCHEDULER names, and where it names none a worker for each core of this machine.
    """

    engine: Engine = Engine.LOCAL


class Bound(Spec):
    """Absolute bounds on a metric of the challenger: its point estimate must lie within."""

    minimum: float | None = None
    maximum: float | None = None


class AgainstChampion(Spec):
    """The challenger's gain on the champion (positive is better, whatever the metric's direction)
    must exceed `gain` with the evaluation's confidence. 0: must be better. -0.005: may lose 0.005."""

    gain: float = 0.0


class Slices(Spec):
    """Columns by whose values the challenger is compared too; the gain is corrected for their number.
    Slices with fewer than `minimum_rows` rows are reported, not judged."""

    columns: tuple[str, ...] = ()
    metric: str | None = None  # default: the first of `metrics`
    gain: float = -0.02
    minimum_rows: int = Field(500, ge=1)


class Evaluation(Spec):
    metrics: tuple[str, ...] = Field(min_length=1)
    bounds: dict[str, Bound] = Field({})
    against_champion: dict[str, AgainstChampion] = Field({})
    slices: Slices = Slices()
    confidence: Share = 0.95
    resamples: int = Field(500, ge=100)
    seed: int = 0


class Resources(Spec):
    cpu: str = "1"
    memory: str = "512Mi"


class Payloads(Spec):
    """Requests and answers, kept as CloudEvents. They may hold personal data: off unless asked for.

    sink: a file, from the top of the repository, or an http(s) URL.
    """

    sink: str
    sample: float = Field(0.01, gt=0, le=1)  # share of the requests, drawn by request id


class Serving(Spec):
    timeout_s: float = Field(2.0, gt=0)  # an answer that takes longer is a failure
    queue: int = Field(1024, ge=1)  # requests that may wait in one server; one more is told to come later
    payloads: Payloads | None = None
    replicas: int = Field(1, ge=1)
    resources: Resources = Resources()


class ModelSpec(Spec):
    schema_version: Literal[1] = 1
    name: Name
    description: str = ""
    owner: str = ""
    dataset: Name
    task: Task
    target: str
    features: tuple[str, ...] = Field(min_length=1)
    lookups: tuple[Lookup, ...] = ()
    split: Split
    estimator: EstimatorSpec
    tuning: Tuning | None  # null: off
    training: Training = Training()
    evaluation: Evaluation
    serving: Serving = Serving()
    rollout: Rollout = Rollout()
    retrain: Retrain = Retrain()

    @model_validator(mode="after")
    def _no_leak(self) -> ModelSpec:
        if self.target in self.features:
            raise ValueError(
                f"`features` holds the target `{self.target}`: the model would be told the answer"
            )
        if len(set(self.features)) != len(self.features):
            raise ValueError("`features` names a column twice")
        return self

    @model_validator(mode="after")
    def _quality_can_be_compared(self) -> ModelSpec:
        if self.retrain.on_quality is not None:
            if self.task is Task.REGRESSION:
                raise ValueError(
                    "`retrain.on_quality` compares the servers' loss with the metric `brier`, which a "
                    "regression does not have: leave it out"
                )
            if "brier" not in self.evaluation.metrics:
                raise ValueError("`retrain.on_quality` needs `brier` among `evaluation.metrics`: add it")
        return self

    @model_validator(mode="after")
    def _gates_know_the_model(self) -> ModelSpec:
        counted = "prediction" if self.task is Task.REGRESSION else "probability"
        for gate in self.rollout.gates:
            if isinstance(gate, PredictionsSpec) and gate.output not in (None, counted):
                raise ValueError(
                    f"the gate `{gate_name(gate)}` of `rollout` names the output `{gate.output}`, and the "
                    f"servers of a {self.task} model count `{counted}`: name that, or leave `output` out"
                )
        return self


# --- reading ---------------------------------------------------------------------------

S = TypeVar("S", bound=BaseModel)


def load_model_spec(repository: Path, model: str) -> ModelSpec:
    """
    Raises:
        NotFound: no such model; names the ones there are.
        SpecError: what is wrong in the file, where, and how to mend it.
    """
    path = Path("models") / model / "model.yaml"
    spec = load_spec(ModelSpec, repository, path, lambda: model_names(repository))
    if spec.name != model:
        raise SpecError(f"{path}: `name` is {spec.name}, but the folder is {model}: make them the same")
    return spec


def load_dataset_spec(repository: Path, dataset: str) -> DatasetSpec:
    """
    Raises:
        NotFound: no such dataset; names the ones there are.
        SpecError: what is wrong in the file, where, and how to mend it.
    """
    path = Path("data") / dataset / "dataset.yaml"
    spec = load_spec(DatasetSpec, repository, path, lambda: dataset_names(repository))
    if spec.name != dataset:
        raise SpecError(f"{path}: `name` is {spec.name}, but the folder is {dataset}: make them the same")
    return spec


def model_names(repository: Path) -> list[str]:
    return _known(repository, "models", "model.yaml")


def dataset_names(repository: Path) -> list[str]:
    return _known(repository, "data", "dataset.yaml")


def load_spec(kind: type[S], repository: Path, path: Path, known: Callable[[], list[str]] = list) -> S:
    """`path` (from the top of `repository`) as a `kind`. known: what is there, if that file is not."""
    try:
        text = (repository / path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        names = known()
        there = f"There are: {', '.join(names)}." if names else "There is none yet."
        raise NotFound(f"{path} does not exist. {there}") from error
    return parse_spec(kind, text, str(path))


def parse_spec(kind: type[S], text: str, where: str) -> S:
    """
    Raises:
        SpecError: every fault of `text`, one line each, with the nearest known key.
    """
    try:
        content = yaml.load(text, Loader=YAML_LOADER)
    except yaml.YAMLError as error:
        raise SpecError(f"{where} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise SpecError(f"{where} must be a mapping of keys to values")
    try:
        return kind.model_validate(_with_on(content))
    except ValidationError as error:
        faults = [_fault(kind, fault["loc"], fault["type"], fault["msg"]) for fault in error.errors()]
        raise SpecError("\n".join(f"{where}: {fault}" for fault in faults)) from error


def _with_on(content: Any) -> Any:
    """YAML 1.1 takes the key `on` for true, which is no key of any file."""
    if isinstance(content, dict):
        return {"on" if key is True else key: _with_on(each) for key, each in content.items()}
    return [_with_on(each) for each in content] if isinstance(content, list) else content


def _fault(kind: type[BaseModel], location: tuple[int | str, ...], type_: str, message: str) -> str:
    written, inside = _place(kind, location)
    path = ".".join(str(part) for part in written)
    said = message.removeprefix("Value error, ")
    match type_:
        case "extra_forbidden":
            _, around = _place(kind, location[:-1])
            return f"unknown key `{path}`: {_nearest(str(location[-1]), _keys(around))}"
        case "missing":
            return f"`{path}` is missing"
        case "union_tag_invalid":
            given = message.split("'")[1]
            return f"`{path}`: unknown {TAG} `{given}`: {_nearest(given, list(_models_within(inside)))}"
        case "union_tag_not_found":
            return f"`{path}.{TAG}` is missing: give one of {', '.join(_models_within(inside))}"
    return f"`{path}`: {said}" if path else said


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"


def _place(kind: type[BaseModel], location: tuple[int | str, ...]) -> tuple[list[int | str], Any]:
    """`location` inside `kind` as its writer knows it, and the type of what stands there.

    Where one of several models may stand, pydantic's location says which was meant: no key of the file.
    """
    written: list[int | str] = []
    at: Any = kind
    for part in location:
        models = _models_within(at)
        if len(models) > 1 and part in models:
            at = models[str(part)]
        else:
            at = _at(at, part)
            written.append(part)
    return written, at


def _keys(annotation: Any) -> list[str]:
    fields = [item for model in _models_within(annotation).values() for item in model.model_fields.items()]
    return [field.alias or name for name, field in fields]


def _at(annotation: Any, part: int | str) -> Any:
    """What stands under `part` of what `annotation` describes; itself where `part` only counts or names."""
    for model in _models_within(annotation).values():
        for name, field in model.model_fields.items():
            if part in (name, field.alias):
                return field.annotation
    return annotation


def _models_within(annotation: Any) -> dict[str, type[BaseModel]]:
    """The models that `annotation` is made of, by what tells them apart where they are several."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        tag = annotation.model_fields.get(TAG)
        return {str(tag.default) if tag is not None else annotation.__name__: annotation}
    inner = (_models_within(argument) for argument in getattr(annotation, "__args__", ()))
    return {tag: model for models in inner for tag, model in models.items()}


def _known(repository: Path, folder: str, file: str) -> list[str]:
    return sorted(path.parent.name for path in (repository / folder).glob(f"*/{file}"))
