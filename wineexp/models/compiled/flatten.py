"""From a fitted pipeline to the plan and the arrays of its compiled form."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler

from wineexp.models.compiled import links
from wineexp.models.compiled.form import Plan, Words
from wineexp.models.compiled.steps import Array
from wineexp.models.features import QuantileClipper, Ratios, SkewedLog
from wineexp.models.pipeline import FixedClassesClassifier

Found = dict[str, Array]

# Of each node of a tree: its left and right child, its column, its threshold, whether a missing value goes left, and
# its values, (n_nodes, width).
Tree = tuple[Array, Array, Array, Array, Array, Array]


class NoFormError(Exception):
    """A pipeline has no compiled form, for a reason that is told."""


def flatten(fitted: Pipeline, X: pd.DataFrame) -> tuple[Plan, Found]:
    """The compiled form of a fitted pipeline of `make_pipeline`; X (n_samples, n_features) has its features.

    Raises
    ------
    NoFormError
        A step or the model is of a kind that has none.
    """
    feature, model = fitted[:-1], fitted[-1]
    columns = [str(name) for name in X]
    steps, texts, arrays = _features(feature[0], columns)
    kind, found = _model(model)
    # Two rows, because of one nobody can tell.
    matrix = np.asarray(feature.transform(X.iloc[[0, 0]]))
    plan = Plan(
        columns=columns,
        texts=texts,
        steps=steps,
        order="C" if matrix.flags.c_contiguous else "F",
        model=kind,
        classes=model.classes_.tolist(),
        present=model.present_.tolist(),
    )
    return plan, arrays | {f"model.{name}": array for name, array in found.items()}


def _features(columns: Any, names: list[str]) -> tuple[list[str], list[Words], Found]:
    _demand(isinstance(columns, ColumnTransformer), columns)
    fitted = {name: (step, list(some)) for name, step, some in columns.transformers_}
    _demand(fitted.keys() <= {"number", "text", "remainder"}, columns)
    steps: list[str] = []
    arrays: Found = {}
    number, numbers = fitted.get("number", ("drop", []))
    text, words = fitted.get("text", ("drop", []))
    if [name for name in names if name in numbers] != numbers or {*numbers, *words} != set(names):
        raise NoFormError("its number columns are in another order than its features, or some are dropped")
    if numbers:
        width = len(numbers)
        for _, step in number.steps:
            for kind, found in _step(step, width):
                arrays |= {f"step{len(steps)}.{name}": array for name, array in found.items()}
                steps.append(kind)
            width = len(step.get_feature_names_out()) if hasattr(step, "get_feature_names_out") else width
    return steps, _words(text, words) if words else [], arrays


def _words(text: Any, names: list[str]) -> list[Words]:
    (_, imputer), (_, encoder) = text.steps
    _demand(isinstance(imputer, SimpleImputer) and not imputer.add_indicator, imputer)
    _demand(isinstance(encoder, OneHotEncoder), encoder)
    dropped = encoder.drop_idx_ if encoder.drop_idx_ is not None else [None] * len(names)
    return [
        Words(name, [str(word) for word in words], str(fill), None if drop is None else str(words[drop]))
        for name, words, fill, drop in zip(names, encoder.categories_, imputer.statistics_, dropped, strict=True)
    ]


def _step(step: Any, width: int) -> list[tuple[str, Found]]:
    """The steps, with their arrays, that a transformer of that many columns makes."""
    match step:
        case Ratios():
            pairs = np.array(list(step.pairs_.values()), dtype=np.int32).reshape(-1, 2)
            return [("ratios", {"over": pairs[:, 0].copy(), "under": pairs[:, 1].copy()})]
        case SimpleImputer() if not step.add_indicator and np.isfinite(step.statistics_).all():
            return [("impute", {"fill": step.statistics_.astype(np.float64)})]
        case StandardScaler() if step.with_mean and step.with_std:
            return [("scale", {"mean": step.mean_, "scale": step.scale_})]
        case PolynomialFeatures() if not step.include_bias and isinstance(step.degree, int):
            return _products(step.powers_, width)
        case QuantileClipper():
            return [("clip", {"low": step.low_, "high": step.high_})]
        case SkewedLog():
            return [("log", {"skewed": step.skewed_})]
    raise NoFormError(f"nothing is known of a step {type(step).__name__} that is set like this")


def _products(powers: Array, width: int) -> list[tuple[str, Found]]:
    """A step for each degree: every product is a column that is there times one of the first."""
    terms = [tuple(np.repeat(np.arange(width), each).tolist()) for each in powers]
    places = {term: place for place, term in enumerate(terms)}
    made = []
    for degree in range(2, max(map(len, terms)) + 1):
        some = [term for term in terms if len(term) == degree]
        left = np.array([places[term[1:]] for term in some], dtype=np.int32)
        made.append(("products", {"left": left, "right": np.array([term[0] for term in some], dtype=np.int32)}))
    return made


def _model(model: Any) -> tuple[str, Found]:
    _demand(isinstance(model, FixedClassesClassifier), model)
    estimator = model.estimator_
    _demand(np.array_equal(estimator.classes_, np.arange(len(model.present_))), estimator)
    if hasattr(estimator, "get_booster"):
        return "xgboost", _xgboost(estimator)
    for kind, (name, flat) in KINDS.items():
        if type(estimator) is kind:
            return name, flat(estimator)
    raise NoFormError(f"nothing is known of a model {type(estimator).__name__}")


def _xgboost(estimator: Any) -> Found:
    booster = estimator.get_booster()
    told = json.loads(booster.save_raw("json"))["learner"]
    objective, name = told["objective"]["name"], told["gradient_booster"]["name"]
    if name != "gbtree" or objective not in ("multi:softprob", "binary:logistic"):
        raise NoFormError(f"nothing is known of an XGBoost model with booster {name} and objective {objective}")
    grown = told["gradient_booster"]["model"]
    best = getattr(booster, "best_iteration", None)
    rounds = len(grown["iteration_indptr"]) - 1 if best is None else best + 1
    count = grown["iteration_indptr"][rounds]
    trees: list[Tree] = []
    for tree in grown["trees"][:count]:
        if tree["categories"]:
            raise NoFormError("nothing is known of XGBoost's categorical splits")
        left, right = np.array(tree["left_children"]), np.array(tree["right_children"])
        limits = np.array(tree["split_conditions"], dtype=np.float32)
        missing = np.array(tree["default_left"]) != 0
        trees.append((left, right, np.array(tree["split_indices"]), limits, missing, limits[:, None]))
    base = np.array(json.loads(told["learner_model_param"]["base_score"]), dtype=np.float32).reshape(-1)
    if objective == "binary:logistic":
        base = np.array([links.logit(share) for share in base], dtype=np.float32)
    outputs = 1 if objective == "binary:logistic" else int(told["learner_model_param"]["num_class"])
    groups = np.array(grown["tree_info"][:count], dtype=np.int32)
    return _trees(trees, groups, np.float32) | {"base": np.broadcast_to(base, outputs).copy()}


def _boosted(estimator: HistGradientBoostingClassifier) -> Found:
    if estimator.is_categorical_ is not None:
        raise NoFormError("nothing is known of categorical splits")
    trees: list[Tree] = []
    groups = []
    for iteration in estimator._predictors:
        for group, predictor in enumerate(iteration):
            nodes = predictor.nodes
            leaf = nodes["is_leaf"] != 0
            left = np.where(leaf, -1, nodes["left"].astype(np.int64))
            right = np.where(leaf, -1, nodes["right"].astype(np.int64))
            missing = nodes["missing_go_to_left"] != 0
            trees.append((left, right, nodes["feature_idx"], nodes["num_threshold"], missing, nodes["value"][:, None]))
            groups.append(group)
    base = np.asarray(estimator._baseline_prediction, dtype=np.float64).reshape(-1)
    return _trees(trees, np.array(groups, dtype=np.int32), np.float64) | {"base": base}


def _forest(estimator: RandomForestClassifier | ExtraTreesClassifier) -> Found:
    trees: list[Tree] = []
    for each in estimator.estimators_:
        tree = each.tree_
        missing = np.asarray(tree.missing_go_to_left) != 0
        trees.append((tree.children_left, tree.children_right, tree.feature, tree.threshold, missing, tree.value[:, 0]))
    return _trees(trees, np.zeros(len(trees), dtype=np.int32), np.float64)


def _trees(trees: list[Tree], groups: Array, kind: Any) -> Found:
    """Trees one behind the other, each level by level, so that children come last and a right one after its left."""
    parts: dict[str, list[Array]] = {name: [] for name in ("threshold", "feature", "left", "missing_left", "values")}
    roots, nodes, rows = [], 0, 0
    for left, right, feature, threshold, missing, values in trees:
        order = _levels(left, right)
        place = np.empty(len(left), dtype=np.int64)
        place[order] = np.arange(len(order))
        inner = left[order] >= 0
        leaves = np.cumsum(~inner) - 1 + rows
        parts["left"].append(np.where(inner, place[left[order]] + nodes, -1).astype(np.int32))
        parts["feature"].append(np.where(inner, feature[order], leaves).astype(np.int32))
        parts["threshold"].append(np.where(inner, threshold[order], 0).astype(kind))
        parts["missing_left"].append(inner & missing[order])
        parts["values"].append(values[order][~inner].astype(kind))
        roots.append(nodes)
        nodes, rows = nodes + len(order), rows + int((~inner).sum())
    return {name: np.concatenate(some) for name, some in parts.items()} | {
        "roots": np.array(roots, dtype=np.int32),
        "groups": groups,
    }


def _levels(left: Array, right: Array) -> Array:
    """A tree's nodes from the root down, level by level."""
    levels = [np.array([0])]
    while len(level := levels[-1][left[levels[-1]] >= 0]):
        levels.append(np.stack([left[level], right[level]], axis=1).reshape(-1))
    return np.concatenate(levels)


def _constant(estimator: DummyClassifier) -> Found:
    if estimator.strategy != "prior":
        raise NoFormError(f"nothing is known of a DummyClassifier with strategy={estimator.strategy}")
    return {"shares": np.asarray(estimator.class_prior_, dtype=np.float64)}


def _linear(estimator: LogisticRegression) -> Found:
    # It keeps its coefficients column by column, so that what is multiplied with is row by row.
    return {"weights": estimator.coef_.T, "offset": np.broadcast_to(estimator.intercept_, len(estimator.coef_)).copy()}


def _layers(estimator: MLPClassifier) -> Found:
    if estimator.activation != "relu":
        raise NoFormError(f"nothing is known of an MLPClassifier with activation={estimator.activation}")
    found = {f"weights{number}": weights for number, weights in enumerate(estimator.coefs_)}
    found |= {f"offset{number}": offset for number, offset in enumerate(estimator.intercepts_)}
    return found | {"hidden": np.array([len(each) for each in estimator.intercepts_[:-1]], dtype=np.int32)}


def _demand(holds: bool, what: Any) -> None:
    if not holds:
        raise NoFormError(f"nothing is known of a {type(what).__name__} like this")


KINDS: Mapping[type, tuple[str, Callable[[Any], Found]]] = {
    HistGradientBoostingClassifier: ("boosted", _boosted),
    RandomForestClassifier: ("forest", _forest),
    ExtraTreesClassifier: ("forest", _forest),
    DummyClassifier: ("constant", _constant),
    LogisticRegression: ("linear", _linear),
    MLPClassifier: ("layers", _layers),
}
