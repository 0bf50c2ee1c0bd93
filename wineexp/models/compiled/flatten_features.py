"""From a fitted feature pipeline to the columns and arrays of its compiled model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler, TargetEncoder

from wineexp.models.compiled.arrays import Array, Arrays
from wineexp.models.compiled.file_format import EncodedColumn, TextColumn
from wineexp.models.compiled.refusal import CannotCompileError, require
from wineexp.models.features import NATIVE
from wineexp.models.transformers import DateParts, KnownTexts, QuantileClipper, Ratios, SkewedLog


def flatten_features(
    feature: Any, columns: list[str]
) -> tuple[list[str], list[TextColumn], list[EncodedColumn], Arrays]:
    """The kinds of the transformers, both kinds of text columns, and the arrays of all of them.

    Parameters
    ----------
    feature : transformer
        Fitted, of `wineexp.models.features`.
    columns : list of str
        What it was fitted on.

    Raises
    ------
    CannotCompileError
        A transformer is of a kind, or has settings, that cannot be compiled.
    """
    if isinstance(feature, Pipeline) and isinstance(feature[0], DateParts):
        return _flatten_dates(feature, columns)
    require(isinstance(feature, ColumnTransformer), feature)
    parts = {name: (transformer, list(names)) for name, transformer, names in feature.transformers_}
    require(parts.keys() <= {"number", "text", "many", NATIVE, "remainder"}, feature)
    native_names = native_columns(feature)
    number_steps, number_names = parts.get("number", ("drop", []))
    text_steps, text_names = parts.get("text", ("drop", []))
    encoding_steps, encoded_names = parts.get("many", ("drop", []))
    in_order = [name for name in columns if name in number_names] == number_names
    if not in_order or {*number_names, *text_names, *encoded_names, *native_names} != {*columns}:
        raise CannotCompileError("its number columns are not in the order of its features, or some are dropped")
    kinds: list[str] = []
    arrays: Arrays = {}
    if number_names and NATIVE in parts:
        kinds.append("unchanged")
    elif number_names:
        kinds, arrays = flatten_steps([step for _, step in number_steps.steps], len(number_names))
    text_columns = _flatten_texts(text_steps, text_names) if text_names else []
    encoded_columns, encoded_arrays = _flatten_encoded(encoding_steps, encoded_names) if encoded_names else ([], {})
    return kinds, text_columns, encoded_columns, arrays | encoded_arrays


def _flatten_dates(
    feature: Pipeline, columns: list[str]
) -> tuple[list[str], list[TextColumn], list[EncodedColumn], Arrays]:
    """As `flatten_features`, of a pipeline that begins with the parts of dates."""
    dates, rest = feature[0], feature[-1]
    require(len(feature) == 2, feature)
    kinds, text_columns, encoded_columns, arrays = flatten_features(
        rest, [str(name) for name in dates.get_feature_names_out()]
    )
    texts = {column.name for column in text_columns} | {column.name for column in encoded_columns}
    numbers = [name for name in columns if name not in texts | {*native_columns(rest)}]
    positions = np.array([numbers.index(name) for name in dates.columns], dtype=np.int32)
    own = {"dates": positions, "n_parts": np.array(dates.n_parts_, dtype=np.int32)}
    later = {}
    for name, array in arrays.items():
        owner, _, key = name.partition(".")
        is_transformer = owner.startswith("transformer")
        later[f"transformer{int(owner.removeprefix('transformer')) + 1}.{key}" if is_transformer else name] = array
    own_arrays = {f"transformer0.{name}": array for name, array in own.items()}
    return ["dates", *kinds], text_columns, encoded_columns, own_arrays | later


def _flatten_texts(steps: Any, names: list[str]) -> list[TextColumn]:
    (_, known), (_, imputer), (_, encoder) = steps.steps
    require(isinstance(known, KnownTexts), known)
    require(isinstance(imputer, SimpleImputer) and not imputer.add_indicator, imputer)
    require(isinstance(encoder, OneHotEncoder), encoder)
    dropped = encoder.drop_idx_ if encoder.drop_idx_ is not None else [None] * len(names)
    return [
        TextColumn(
            name,
            categories=[str(category) for category in categories],
            fill=str(fill),
            dropped=None if position is None else str(categories[position]),
        )
        for name, categories, fill, position in zip(
            names, encoder.categories_, imputer.statistics_, dropped, strict=True
        )
    ]


def _flatten_encoded(steps: Any, names: list[str]) -> tuple[list[EncodedColumn], Arrays]:
    (_, known), (_, encoder) = steps.steps
    require(isinstance(known, KnownTexts), known)
    require(isinstance(encoder, TargetEncoder), encoder)
    # Of several classes each has an encoding, of a column one after another, and a mean.
    means = np.atleast_1d(encoder.target_mean_)
    columns, arrays = [], {}
    for position, (name, categories) in enumerate(zip(names, encoder.categories_, strict=True)):
        encodings = encoder.encodings_[position * len(means) : (position + 1) * len(means)]
        values = np.column_stack(encodings)
        # `KnownTexts` makes an unknown text missing; what is missing is a category only if it was so in a training row.
        has_missing = pd.isna(categories[-1])
        arrays[f"encoded{position}.values"] = values if has_missing else np.vstack([values, means])
        columns.append(EncodedColumn(name, [str(category) for category in categories[: len(categories) - has_missing]]))
    return columns, arrays


def native_columns(feature: Any) -> list[str]:
    """The columns of categories that a fitted transformer, but for parts of dates, leaves to the model."""
    parts = {name: names for name, _, names in getattr(feature, "transformers_", [])}
    return [str(name) for name in parts.get(NATIVE, [])]


def flatten_steps(steps: Sequence[Any], n_columns: int) -> tuple[list[str], Arrays]:
    """The kinds, keys of `TRANSFORMERS`, and the arrays of transformers of columns of numbers, one after the other.

    Raises
    ------
    CannotCompileError
        As of `flatten_features`.
    """
    kinds: list[str] = []
    arrays: Arrays = {}
    for step in steps:
        for kind, step_arrays in _flatten_transformer(step, n_columns):
            arrays |= {f"transformer{len(kinds)}.{name}": array for name, array in step_arrays.items()}
            kinds.append(kind)
        if hasattr(step, "get_feature_names_out"):
            n_columns = len(step.get_feature_names_out())
    return kinds, arrays


def _flatten_transformer(step: Any, n_in: int) -> list[tuple[str, Arrays]]:
    """The kinds and arrays of a transformer of n_in columns: one or more of `TRANSFORMERS`."""
    match step:
        case Ratios():
            pairs = np.array(list(step.pairs_.values()), dtype=np.int32).reshape(-1, 2)
            return [("ratios", {"numerators": pairs[:, 0].copy(), "denominators": pairs[:, 1].copy()})]
        case SimpleImputer() if not step.add_indicator and np.isfinite(step.statistics_).all():
            return [("impute", {"fill": step.statistics_.astype(np.float64)})]
        case StandardScaler() if step.with_mean and step.with_std:
            return [("scale", {"mean": step.mean_, "scale": step.scale_})]
        case PolynomialFeatures() if not step.include_bias and isinstance(step.degree, int):
            return _flatten_products(step.powers_, n_in)
        case QuantileClipper():
            return [("clip", {"low": step.low_, "high": step.high_})]
        case SkewedLog():
            return [("log", {"skewed": step.skewed_})]
    raise CannotCompileError(f"a transformer {type(step).__name__} with its settings cannot be compiled")


def _flatten_products(powers: Array, n_in: int) -> list[tuple[str, Arrays]]:
    """One transformer for each degree: every product is a product of one degree less times an input column."""
    factors = [tuple(np.repeat(np.arange(n_in), exponents).tolist()) for exponents in powers]
    positions = {columns: position for position, columns in enumerate(factors)}
    transformers = []
    for degree in range(2, max(map(len, factors)) + 1):
        of_degree = [columns for columns in factors if len(columns) == degree]
        left = np.array([positions[columns[1:]] for columns in of_degree], dtype=np.int32)
        right = np.array([columns[0] for columns in of_degree], dtype=np.int32)
        transformers.append(("products", {"left": left, "right": right}))
    return transformers
