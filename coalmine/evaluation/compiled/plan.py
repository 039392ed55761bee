"""models/<model>/compiled/plan.json: which code answers, why, and how a row becomes an answer.

A plan works on registers: the columns of a matrix of float64, one row per row of a request. Reads
fill registers from the model's columns, steps compute further ones, and scores come from the
registers through trees (trees.onnx beside it) or a matrix product. What carries it out is `model`.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from coalmine.errors import IntegrityError
from coalmine.spec import Task

PLAN_FILE = "plan.json"
TREES_FILE = "trees.onnx"

# A name in a file makes a server import from nowhere else.
FUNCTION_PACKAGES = ("pipelines", "numpy")

Category = bool | int | float | str


class Value(BaseModel):
    # NaN is a usual code of a missing category, and JSON has none.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, ser_json_inf_nan="strings")


class Number(Value):
    """The register `to` holds the numbers of a column; missing is NaN."""

    kind: Literal["number"] = "number"
    column: int
    to: int


class Code(Value):
    """The register `to` holds a number for each value of a column.

    missing, unknown: the number of a missing value, and of one not in `values`; None: refused.
    """

    kind: Literal["code"] = "code"
    column: int
    to: int
    values: tuple[Category, ...]
    codes: tuple[float, ...]
    missing: float | None
    unknown: float | None


class Indicator(Value):
    """One register of several holds 1, the others 0: that of the column's value.

    missing, unknown: as in `Code`, but registers.
    """

    kind: Literal["indicator"] = "indicator"
    column: int
    values: tuple[Category, ...]
    to: tuple[int, ...]
    missing: int | None
    unknown: int | None


class Fill(Value):
    """`values` where the inputs are missing."""

    kind: Literal["fill"] = "fill"
    inputs: tuple[int, ...]
    start: int  # the register of the first result; the others follow
    values: tuple[float, ...]


class Missing(Value):
    """1 where the inputs are missing, 0 elsewhere."""

    kind: Literal["missing"] = "missing"
    inputs: tuple[int, ...]
    start: int


class Arithmetic(Value):
    """The inputs, each with its own operand, through one operation after the other."""

    kind: Literal["arithmetic"] = "arithmetic"
    inputs: tuple[int, ...]
    start: int
    operations: tuple[
        tuple[Literal["subtract", "divide", "multiply", "add", "maximum", "minimum"], tuple[float, ...]], ...
    ]


class Function(Value):
    """What an importable function makes of the inputs: (rows, inputs) to (rows, width), float64."""

    kind: Literal["function"] = "function"
    inputs: tuple[int, ...]
    start: int
    width: int
    path: str  # dotted
    arguments: dict[str, Any] = {}


class Trees(Value):
    """Scores from trees.onnx, divided by `divisor`.

    each_tree: the graph answers (rows, trees, scores), to be added in the order of the trees, as
        scikit-learn adds them: shares of a forest's classes that are equal must stay equal.
    """

    kind: Literal["trees"] = "trees"
    divisor: int = 1
    each_tree: bool = False


class Linear(Value):
    """Scores from the features: one row of coefficients and one intercept for each score."""

    kind: Literal["linear"] = "linear"
    coefficients: tuple[tuple[float, ...], ...]
    intercepts: tuple[float, ...]


class Link(StrEnum):
    """From scores to what is answered."""

    IDENTITY = "identity"  # regression
    EXP = "exp"  # regression
    SIGMOID = "sigmoid"  # one score: of the second class
    SOFTMAX = "softmax"
    ONE_VS_REST = "one-vs-rest"  # sigmoids, made to add up to one
    SHARES = "shares"  # the scores are probabilities


class Magnitude(StrEnum):
    """Which numbers scikit-learn takes at the last step."""

    ANY = "any"
    DOUBLE = "double"  # no infinity
    SINGLE = "single"  # none beyond float32


class Plan(Value):
    task: Task
    columns: tuple[str, ...]  # the model's, in order
    reads: tuple[Annotated[Number | Code | Indicator, Field(discriminator="kind")], ...]
    steps: tuple[Annotated[Fill | Missing | Arithmetic | Function, Field(discriminator="kind")], ...] = ()
    registers: int
    features: tuple[int, ...]  # the registers that the last step takes, in its order
    takes: Magnitude
    takes_missing: bool
    scores: Annotated[Trees | Linear, Field(discriminator="kind")]
    link: Link
    classes: tuple[Category, ...] = ()
    classes_dtype: str = ""  # numpy's name


class Compiled(Value):
    """The file. `plan` is there where `kind` is `compiled`.

    tolerance, max_difference, rows: how far its numbers may lie from scikit-learn's, how far they
        did at most, on how many rows.
    """

    schema_version: Literal[1] = 1
    kind: Literal["compiled", "scikit-learn"]
    reason: str
    tolerance: float | None = None
    max_difference: float | None = None
    rows: int = 0
    plan: Plan | None = None


def compiled_folder(model: str) -> Path:
    """From the top of the repository."""
    return Path("models") / model / "compiled"


def write_compiled(folder: Path, compiled: Compiled, trees: bytes | None) -> None:
    """Law: equal arguments give equal bytes. `folder` is there, and empty."""
    text = compiled.model_dump_json(indent=1) + "\n"
    (folder / PLAN_FILE).write_text(text, encoding="utf-8")
    if trees is not None:
        (folder / TREES_FILE).write_bytes(trees)


def read_compiled(folder: Path) -> Compiled:
    """
    Raises:
        IntegrityError: a machine writes this file; a broken one was edited by hand, or is another's.
    """
    path = folder / PLAN_FILE
    try:
        return Compiled.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise IntegrityError(f"{path} does not exist. Make it: dvc repro, or dvc pull") from error
    except ValidationError as error:
        raise IntegrityError(f"{path} is not a translated model that this coalmine reads: {error}") from error
