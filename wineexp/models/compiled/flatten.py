"""From a fitted pipeline to the plan and the arrays of its compiled model."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler, TargetEncoder

from wineexp.models._catboost import symmetric_trees
from wineexp.models._lightgbm import LightGBMTrees, lightgbm_trees
from wineexp.models.compiled._sklearn import boosted_trees, categorical_splits, forest_trees, has_categorical_splits
from wineexp.models.compiled._xgboost import BoosterError, BoosterTrees, booster_trees
from wineexp.models.compiled.arrays import Array
from wineexp.models.compiled.file_format import EncodedColumn, Plan, TextColumn
from wineexp.models.compiled.flat_trees import flatten_trees
from wineexp.models.features import NATIVE
from wineexp.models.pipeline import FixedClassesClassifier
from wineexp.models.regression import TransformingRegressor
from wineexp.models.transformers import DateParts, KnownTexts, QuantileClipper, Ratios, SkewedLog

Arrays = dict[str, Array]

# By name, since LightGBM need not be installed.
LIGHTGBM_TYPES = ("LGBMClassifier", "LGBMRegressor")


class CannotCompileError(Exception):
    """A pipeline cannot be compiled; the message says which part, and why."""


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
    kinds, text_columns, encoded_columns, arrays = _flatten_features(feature[0], columns)
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
        undone, undone_arrays, estimator = _flatten_transform(model)
        regressor, model_arrays = _flatten_regressor(estimator)
        plan = msgspec.structs.replace(plan, regressor=regressor, undone=undone)
        arrays |= {f"undone.{name}": array for name, array in undone_arrays.items()}
    else:
        classifier, model_arrays = _flatten_classifier(model)
        classes = {"classes": model.classes_.tolist(), "present": model.present_.tolist()}
        costs = [] if model.cost_matrix is None else model.cost_matrix.tolist()
        plan = msgspec.structs.replace(plan, classifier=classifier, costs=costs, **classes)
    return plan, arrays | {f"{plan.model_arrays}.{name}": array for name, array in model_arrays.items()}


def _flatten_features(
    feature: Any, columns: list[str]
) -> tuple[list[str], list[TextColumn], list[EncodedColumn], Arrays]:
    """The kinds of the transformers, both kinds of text columns, and the arrays of all of them."""
    if isinstance(feature, Pipeline) and isinstance(feature[0], DateParts):
        return _flatten_dates(feature, columns)
    _require(isinstance(feature, ColumnTransformer), feature)
    parts = {name: (transformer, list(names)) for name, transformer, names in feature.transformers_}
    _require(parts.keys() <= {"number", "text", "many", NATIVE, "remainder"}, feature)
    native_names = _native_columns(feature)
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
        n_columns = len(number_names)
        for _, step in number_steps.steps:
            for kind, step_arrays in _flatten_transformer(step, n_columns):
                arrays |= {f"transformer{len(kinds)}.{name}": array for name, array in step_arrays.items()}
                kinds.append(kind)
            if hasattr(step, "get_feature_names_out"):
                n_columns = len(step.get_feature_names_out())
    text_columns = _flatten_texts(text_steps, text_names) if text_names else []
    encoded_columns, encoded_arrays = _flatten_encoded(encoding_steps, encoded_names) if encoded_names else ([], {})
    return kinds, text_columns, encoded_columns, arrays | encoded_arrays


def _flatten_dates(
    feature: Pipeline, columns: list[str]
) -> tuple[list[str], list[TextColumn], list[EncodedColumn], Arrays]:
    """As `_flatten_features`, of a pipeline that begins with the parts of dates."""
    dates, rest = feature[0], feature[-1]
    _require(len(feature) == 2, feature)
    kinds, text_columns, encoded_columns, arrays = _flatten_features(
        rest, [str(name) for name in dates.get_feature_names_out()]
    )
    texts = {column.name for column in text_columns} | {column.name for column in encoded_columns}
    numbers = [name for name in columns if name not in texts | {*_native_columns(rest)}]
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
    _require(isinstance(known, KnownTexts), known)
    _require(isinstance(imputer, SimpleImputer) and not imputer.add_indicator, imputer)
    _require(isinstance(encoder, OneHotEncoder), encoder)
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
    _require(isinstance(known, KnownTexts), known)
    _require(isinstance(encoder, TargetEncoder), encoder)
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


def has_native_categories(feature: Any) -> bool:
    """Whether a fitted feature pipeline leaves columns of categories to the model."""
    last = feature[-1]
    return bool(_native_columns(last[-1] if isinstance(last, Pipeline) else last))


def _native_columns(feature: Any) -> list[str]:
    """The columns of categories that a fitted transformer, but for parts of dates, leaves to the model."""
    parts = {name: names for name, _, names in getattr(feature, "transformers_", [])}
    return [str(name) for name in parts.get(NATIVE, [])]


def _flatten_native(feature: Any, model: Any) -> tuple[list[EncodedColumn], Arrays]:
    """The columns of categories that the model takes as they are, and the sides of its splits that each is on."""
    columns = feature[-1] if isinstance(feature, Pipeline) else feature
    estimator = getattr(model.estimator_, "regressor_", model.estimator_)
    if isinstance(estimator, HistGradientBoostingClassifier | HistGradientBoostingRegressor):
        sides = tuple(categorical_splits(estimator)[-1])
    elif hasattr(estimator, "get_booster"):
        sides = _booster_trees(estimator).sides
    elif type(estimator).__name__ in LIGHTGBM_TYPES:
        sides = _lightgbm_trees(estimator).sides
    else:
        raise CannotCompileError(f"a {type(estimator).__name__} that takes categories as they are cannot be compiled")
    ((_, steps, names),) = [part for part in columns.transformers_ if part[0] == NATIVE]
    texts = steps[-1].texts_
    if [len(of_column) for of_column in texts] != [len(part) - 1 for part in sides]:
        raise CannotCompileError("its model was not fitted on all categories of its columns")
    encoded = [EncodedColumn(str(name), [*of_column]) for name, of_column in zip(names, texts, strict=True)]
    return encoded, {f"encoded{position}.values": part for position, part in enumerate(sides)}


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


def _flatten_classifier(model: Any) -> tuple[str, Arrays]:
    """The kind and arrays of the classifier."""
    _require(isinstance(model, FixedClassesClassifier), model)
    estimator = model.estimator_
    _require(np.array_equal(estimator.classes_, np.arange(len(model.present_))), estimator)
    if hasattr(estimator, "get_booster"):
        return "xgboost", _flatten_xgboost(estimator)
    if type(estimator).__name__ in LIGHTGBM_TYPES:
        return "lightgbm", _flatten_lightgbm(estimator)
    for estimator_type, (kind, flatten_estimator) in CLASSIFIER_TYPES.items():
        if type(estimator) is estimator_type:
            return kind, flatten_estimator(estimator)
    raise CannotCompileError(f"a model {type(estimator).__name__} cannot be compiled")


def _flatten_transform(model: TransformingRegressor) -> tuple[str, Arrays, Any]:
    """The key of `UNDONE`, its arrays, and the estimator that has learned the transformed target."""
    if model.transform is None:
        return "", {}, model.estimator_
    arrays: Arrays = {}
    if model.transform == "quantile":
        quantiles = model.estimator_.transformer_
        arrays = {"quantiles": quantiles.quantiles_[:, 0].copy(), "references": quantiles.references_}
    return model.transform, arrays, model.estimator_.regressor_


def _flatten_regressor(estimator: Any) -> tuple[str, Arrays]:
    """The kind and arrays of the regressor."""
    if hasattr(estimator, "get_booster"):
        return "xgboost", _flatten_xgboost(estimator)
    if type(estimator).__name__ in LIGHTGBM_TYPES:
        return "boosted_trees", _flatten_lightgbm(estimator)
    if type(estimator).__name__ == "CatBoostRegressor":
        return "symmetric_trees", _flatten_catboost(estimator)
    for estimator_type, (kind, flatten_estimator) in REGRESSOR_TYPES.items():
        if type(estimator) is estimator_type:
            return kind, flatten_estimator(estimator)
    raise CannotCompileError(f"a model {type(estimator).__name__} cannot be compiled")


def _booster_trees(estimator: Any) -> BoosterTrees:
    booster = estimator.get_booster()
    try:
        return booster_trees(booster, with_categories="c" in (booster.feature_types or []))
    except BoosterError as error:
        raise CannotCompileError(str(error)) from error


def _flatten_xgboost(estimator: Any) -> Arrays:
    booster = _booster_trees(estimator)
    return flatten_trees(booster.trees, booster.groups, np.float32) | {"base": booster.base}


def _lightgbm_trees(estimator: Any) -> LightGBMTrees:
    read = lightgbm_trees(estimator, with_categories=bool(estimator.booster_.pandas_categorical))
    if read is None:
        raise CannotCompileError(f"a {type(estimator).__name__} with its settings cannot be compiled")
    return read


def _flatten_lightgbm(estimator: Any) -> Arrays:
    read = _lightgbm_trees(estimator)
    return flatten_trees(read.trees, read.groups, np.float64) | {"base": np.zeros(read.n_outputs)}


def _flatten_catboost(estimator: Any) -> Arrays:
    read = symmetric_trees(estimator)
    if read is None:
        raise CannotCompileError(f"a {type(estimator).__name__} with its settings cannot be compiled")
    trees, base = read
    return flatten_trees(trees, np.zeros(len(trees), dtype=np.int32), np.float64) | {"base": base}


def _flatten_boosting(estimator: HistGradientBoostingClassifier | HistGradientBoostingRegressor) -> Arrays:
    if not has_categorical_splits(estimator):
        trees, groups, base = boosted_trees(estimator)
    elif isinstance(estimator.categorical_features, str):
        trees, groups, base, _ = categorical_splits(estimator)
    else:
        raise CannotCompileError(f"a {type(estimator).__name__} whose numbers are categories cannot be compiled")
    return flatten_trees(trees, groups, np.float64) | {"base": base}


def _flatten_boosting_of_numbers(estimator: HistGradientBoostingRegressor) -> Arrays:
    # Others predict the exponential of their trees' sum.
    if estimator.loss not in ("squared_error", "absolute_error", "quantile"):
        raise CannotCompileError(f"a HistGradientBoostingRegressor with loss={estimator.loss} cannot be compiled")
    return _flatten_boosting(estimator)


def _flatten_forest(
    estimator: RandomForestClassifier | ExtraTreesClassifier | RandomForestRegressor | ExtraTreesRegressor,
) -> Arrays:
    trees = forest_trees(estimator)
    return flatten_trees(trees, np.zeros(len(trees), dtype=np.int32), np.float64)


def _flatten_prior(estimator: DummyClassifier) -> Arrays:
    if estimator.strategy != "prior":
        raise CannotCompileError(f"a DummyClassifier with strategy={estimator.strategy} cannot be compiled")
    return {"prior": np.asarray(estimator.class_prior_, dtype=np.float64)}


def _flatten_logistic_regression(estimator: LogisticRegression) -> Arrays:
    # Transposed, as scikit-learn multiplies with them.
    return {"weights": estimator.coef_.T, "offset": np.broadcast_to(estimator.intercept_, len(estimator.coef_)).copy()}


def _flatten_constant(estimator: DummyRegressor) -> Arrays:
    return {"constant": np.asarray(estimator.constant_, dtype=np.float64).reshape(-1)}


def _flatten_linear(estimator: Any) -> Arrays:
    weights = np.asarray(estimator.coef_, dtype=np.float64)
    return {"weights": weights, "offset": np.asarray(estimator.intercept_, dtype=np.float64).reshape(-1)}


def _flatten_mlp(estimator: MLPClassifier | MLPRegressor) -> Arrays:
    if estimator.activation != "relu":
        raise CannotCompileError(
            f"an {type(estimator).__name__} with activation={estimator.activation} cannot be compiled"
        )
    arrays = {f"weights{number}": weights for number, weights in enumerate(estimator.coefs_)}
    arrays |= {f"offset{number}": offset for number, offset in enumerate(estimator.intercepts_)}
    return arrays | {"hidden_sizes": np.array([len(offset) for offset in estimator.intercepts_[:-1]], dtype=np.int32)}


def _require(condition: bool, part: Any) -> None:
    if not condition:
        raise CannotCompileError(f"a {type(part).__name__} with its settings cannot be compiled")


# By type: the key of `CLASSIFIERS`, and the function that gives the arrays.
CLASSIFIER_TYPES: Mapping[type, tuple[str, Callable[[Any], Arrays]]] = {
    HistGradientBoostingClassifier: ("hist_gradient_boosting", _flatten_boosting),
    RandomForestClassifier: ("forest", _flatten_forest),
    ExtraTreesClassifier: ("forest", _flatten_forest),
    DummyClassifier: ("prior", _flatten_prior),
    LogisticRegression: ("logistic_regression", _flatten_logistic_regression),
    MLPClassifier: ("mlp", _flatten_mlp),
}
# Likewise, the key of `REGRESSORS`.
REGRESSOR_TYPES: Mapping[type, tuple[str, Callable[[Any], Arrays]]] = {
    HistGradientBoostingRegressor: ("boosted_trees", _flatten_boosting_of_numbers),
    RandomForestRegressor: ("forest", _flatten_forest),
    ExtraTreesRegressor: ("forest", _flatten_forest),
    DummyRegressor: ("constant", _flatten_constant),
    MLPRegressor: ("mlp", _flatten_mlp),
    **dict.fromkeys((LinearRegression, Ridge, Lasso, ElasticNet), ("linear", _flatten_linear)),
}
