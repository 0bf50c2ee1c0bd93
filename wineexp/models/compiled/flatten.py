"""From a fitted pipeline to the plan and the arrays of its compiled model."""

from typing import Any

import msgspec
import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from wineexp.models.compiled.arrays import Array, Arrays
from wineexp.models.compiled.file_format import EncodedColumn, Plan
from wineexp.models.compiled.flatten_composed import flatten_classifier, flatten_regressor
from wineexp.models.compiled.flatten_features import flatten_features, native_columns
from wineexp.models.compiled.flatten_models import category_sides, flatten_transform
from wineexp.models.compiled.refusal import CannotCompileError, require
from wineexp.models.features import NATIVE
from wineexp.models.pipeline import FixedClassesClassifier
from wineexp.models.regression import TransformingRegressor


def flatten(fitted: Pipeline, X: pd.DataFrame) -> tuple[Plan, Arrays]:
    """The plan and arrays of a fitted pipeline.

    Parameters
    ----------
    fitted : Pipeline
        Of `make_pipeline` in `wineexp.models.pipeline` or `wineexp.models.regression`.
    X : DataFrame of shape (n_samples, n_features)
        Rows with its features.

    Raises
    ------
    CannotCompileError
        A transformer or the model is of a kind, or has settings, that cannot be compiled.
    """
    feature, model = fitted[:-1], fitted[-1]
    columns = [str(name) for name in X]
    kinds, text_columns, encoded_columns, arrays = flatten_features(feature[0], columns)
    # A matrix of one row is in both memory orders, so that two rows are transformed.
    matrix = np.asarray(feature.transform(X.iloc[[0, 0]]))
    plan = Plan(
        columns=columns,
        text_columns=text_columns,
        encoded_columns=encoded_columns,
        transformers=kinds,
        memory_order="C" if matrix.flags.c_contiguous else "F",
        classifier="",
        classes=[],
        present=[],
    )
    if has_native_categories(feature):
        encoded_columns, sides = _flatten_native(feature[-1], model)
        plan = msgspec.structs.replace(plan, encoded_columns=encoded_columns)
        arrays |= sides
    if isinstance(model, TransformingRegressor):
        undone, undone_arrays, estimator = flatten_transform(model)
        part, model_arrays = flatten_regressor(estimator, matrix)
        plan = msgspec.structs.replace(plan, regressor=part.kind, undone=undone)
        arrays |= {f"undone.{name}": array for name, array in undone_arrays.items()}
    else:
        require(isinstance(model, FixedClassesClassifier), model)
        part, model_arrays = flatten_classifier(model.estimator_, matrix)
        plan = msgspec.structs.replace(
            plan,
            classifier=part.kind,
            classes=model.classes_.tolist(),
            present=model.present_.tolist(),
            costs=_as_list(model.cost_matrix),
            utility=_as_list(getattr(model.estimator_, "utility_", None)),
            set_thresholds=_as_list(getattr(model.estimator_, "set_thresholds_", None)),
        )
    plan = msgspec.structs.replace(
        plan,
        members=part.members,
        model_transformers=part.transformers,
        model_memory_order=part.memory_order,
    )
    return plan, arrays | {f"{plan.model_arrays}.{name}": array for name, array in model_arrays.items()}


def _as_list(learned: Array | None) -> list[Any]:
    """What a model has learned, as a plan has it; empty for what it has not."""
    return [] if learned is None else learned.tolist()


def has_native_categories(feature: Any) -> bool:
    """Whether a fitted feature pipeline leaves columns of categories to the model."""
    last = feature[-1]
    return bool(native_columns(last[-1] if isinstance(last, Pipeline) else last))


def _flatten_native(feature: Any, model: Any) -> tuple[list[EncodedColumn], Arrays]:
    """The columns of categories that the model takes as they are, and the sides of its splits that each is on."""
    columns = feature[-1] if isinstance(feature, Pipeline) else feature
    sides = category_sides(model)
    ((_, steps, names),) = [part for part in columns.transformers_ if part[0] == NATIVE]
    texts = steps[-1].texts_
    if [len(of_column) for of_column in texts] != [len(part) - 1 for part in sides]:
        raise CannotCompileError("its model was not fitted on all categories of its columns")
    encoded = [EncodedColumn(str(name), [*of_column]) for name, of_column in zip(names, texts, strict=True)]
    return encoded, {f"encoded{position}.values": part for position, part in enumerate(sides)}
