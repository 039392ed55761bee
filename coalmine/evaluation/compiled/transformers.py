"""scikit-learn's transformers as reads and steps of a plan."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from coalmine.evaluation.compiled import encoders
from coalmine.evaluation.compiled.plan import FUNCTION_PACKAGES, Arithmetic, Fill, Function, Missing
from coalmine.evaluation.compiled.registers import (
    Coded,
    Column,
    Computed,
    NotTranslatable,
    Raw,
    Registers,
    is_missing,
)


def transform(transformer: Any, columns: Sequence[Column], registers: Registers) -> list[Column]:
    """What `transformer`, fitted, makes of `columns`.

    Raises:
        NotTranslatable: a transformer, or a setting of one, that has no exact translation here.
    """
    if transformer is None or transformer == "passthrough":
        return list(columns)
    translator = _translators().get(type(transformer))
    if translator is None:
        raise NotTranslatable(f"{_name(transformer)} has no translation")
    return translator(transformer, columns, registers)


@cache
def _translators() -> dict[type, Callable[[Any, Sequence[Column], Registers], list[Column]]]:
    """By type itself: a class of a user's own that inherits from one of these may do anything."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import (
        FunctionTransformer,
        MinMaxScaler,
        OneHotEncoder,
        OrdinalEncoder,
        RobustScaler,
        StandardScaler,
    )

    return {
        Pipeline: _pipeline,
        ColumnTransformer: _column_transformer,
        OrdinalEncoder: encoders.ordinal,
        OneHotEncoder: encoders.one_hot,
        StandardScaler: _standard_scaler,
        RobustScaler: _robust_scaler,
        MinMaxScaler: _min_max_scaler,
        SimpleImputer: _simple_imputer,
        FunctionTransformer: _function_transformer,
    }


def _pipeline(pipeline: Any, columns: Sequence[Column], registers: Registers) -> list[Column]:
    through = list(columns)
    for _, step in pipeline.steps:
        through = transform(step, through, registers)
    return through


def _column_transformer(transformer: Any, columns: Sequence[Column], registers: Registers) -> list[Column]:
    if transformer.transformer_weights:
        raise NotTranslatable("ColumnTransformer with `transformer_weights` has no translation")
    made: list[Column] = []
    for name, each, chosen in transformer.transformers_:
        if each == "drop":
            continue
        if isinstance(chosen, str | int):
            raise NotTranslatable(f"`{name}` takes a single column as a vector, which has no translation")
        places = transformer._transformer_to_input_indices[name]
        if len(places):
            made += transform(each, [columns[place] for place in places], registers)
    return made


def _standard_scaler(scaler: Any, columns: Sequence[Column], registers: Registers) -> list[Column]:
    shift = scaler.mean_ if scaler.with_mean else None
    return _arithmetic(scaler, columns, registers, subtract=shift, divide=scaler.scale_)


def _robust_scaler(scaler: Any, columns: Sequence[Column], registers: Registers) -> list[Column]:
    shift = scaler.center_ if scaler.with_centering else None
    scale = scaler.scale_ if scaler.with_scaling else None
    return _arithmetic(scaler, columns, registers, subtract=shift, divide=scale)


def _min_max_scaler(scaler: Any, columns: Sequence[Column], registers: Registers) -> list[Column]:
    low, high = scaler.feature_range if scaler.clip else (None, None)
    return _arithmetic(
        scaler,
        columns,
        registers,
        multiply=scaler.scale_,
        add=scaler.min_,
        maximum=None if low is None else np.full(len(columns), low),
        minimum=None if high is None else np.full(len(columns), high),
    )


def _arithmetic(
    scaler: Any, columns: Sequence[Column], registers: Registers, **operations: Any
) -> list[Column]:
    """`operations` in scikit-learn's order: another one ends in other digits."""
    inputs = registers.numbers(columns, type(scaler).__name__)
    done = tuple((name, tuple(values.tolist())) for name, values in operations.items() if values is not None)
    step = Arithmetic.model_validate({"inputs": inputs, "start": registers.count, "operations": done})
    return registers.add(step, len(columns))


def _simple_imputer(imputer: Any, columns: Sequence[Column], registers: Registers) -> list[Column]:
    if not is_missing(imputer.missing_values) or imputer.missing_values is None:
        raise NotTranslatable(
            f"SimpleImputer with `missing_values: {imputer.missing_values}` has no translation"
        )
    statistics = imputer.statistics_.tolist()
    kept = [
        (column, fill)
        for column, fill in zip(columns, statistics, strict=True)
        if imputer.keep_empty_features or not is_missing(fill)
    ]
    computed = [(c, float(fill)) for c, fill in kept if isinstance(c, Computed)]
    filled: dict[Column, Column] = {}
    if computed:
        inputs = registers.numbers([column for column, _ in computed], "SimpleImputer")
        step = Fill(inputs=inputs, start=registers.count, values=tuple(fill for _, fill in computed))
        made = registers.add(step, len(computed))
        filled = {column: to for (column, _), to in zip(computed, made, strict=True)}
    through = [filled[c] if isinstance(c, Computed) else _filled(c, fill) for c, fill in kept]
    if imputer.add_indicator:
        through += _missing([columns[each] for each in imputer.indicator_.features_], registers)
    return through


def _filled(column: Raw | Coded, fill: Any) -> Column:
    match column:
        case Raw(number, before):
            return Raw(number, fill) if before is None else column
        case Coded(number, table, missing, unknown):

            def code(value: float) -> float:
                return float(fill) if math.isnan(value) else value

            return Coded(
                number,
                {value: code(before) for value, before in table.items()},
                None if missing is None else code(missing),
                None if unknown is None else code(unknown),
            )


def _missing(columns: Sequence[Column], registers: Registers) -> list[Column]:
    """1 where `columns` are missing, 0 elsewhere."""
    found: list[Column] = []
    for column in columns:
        match column:
            case Raw(number, fill):
                found.append(Coded(number, {}, 1.0 if fill is None else 0.0, 0.0))
            case Coded(number, table, missing, unknown):
                found.append(
                    Coded(
                        number,
                        {value: float(math.isnan(code)) for value, code in table.items()},
                        None if missing is None else float(math.isnan(missing)),
                        None if unknown is None else float(math.isnan(unknown)),
                    )
                )
            case Computed(register):
                found += registers.add(Missing(inputs=(register,), start=registers.count), 1)
    return found


def _function_transformer(transformer: Any, columns: Sequence[Column], registers: Registers) -> list[Column]:
    function = transformer.func
    if function is None:
        return list(columns)
    path = _dotted(function)
    arguments = transformer.kw_args or {}
    inputs = registers.numbers(columns, f"the function {path}")
    width = _width(function(np.zeros((1, len(columns))), **arguments), path)
    step = Function(inputs=inputs, start=registers.count, width=width, path=path, arguments=arguments)
    return registers.add(step, width)


def _dotted(function: Any) -> str:
    """The path by which a server finds `function` again."""
    module, name = getattr(function, "__module__", None), getattr(function, "__name__", None)
    if module is None or str(module).partition(".")[0] not in FUNCTION_PACKAGES:
        raise NotTranslatable(f"the function {name or function} is not one of pipelines/ or of numpy")
    if getattr(importlib.import_module(module), str(name), None) is not function:
        raise NotTranslatable(f"{module} has no function {name} at its top that a server could import")
    return f"{module}.{name}"


def _width(made: Any, path: str) -> int:
    shape: tuple[int, ...] = np.shape(made)
    if len(shape) != 2 or shape[0] != 1:
        raise NotTranslatable(f"the function {path} makes shape {shape} of one row, instead of (1, columns)")
    return shape[1]


def _name(of: Any) -> str:
    return f"{type(of).__module__}.{type(of).__qualname__}"
