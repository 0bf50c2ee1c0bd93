"""From a fitted model without models of other kinds within it to the arrays of its compiled model."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.gaussian_process.kernels import RationalQuadratic
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.svm import SVC, SVR

from wineexp.models._catboost import symmetric_trees
from wineexp.models._lightgbm import LightGBMTrees, lightgbm_trees
from wineexp.models.compiled._sklearn import (
    boosted_trees,
    categorical_splits,
    forest_trees,
    gamma,
    has_categorical_splits,
    neighbour_search,
)
from wineexp.models.compiled._xgboost import BoosterError, BoosterTrees, booster_trees
from wineexp.models.compiled.arrays import Array, Arrays
from wineexp.models.compiled.flat_trees import flatten_trees
from wineexp.models.compiled.refusal import CannotCompileError, require
from wineexp.models.regression import TransformingRegressor

# By name, since LightGBM need not be installed.
LIGHTGBM_TYPES = ("LGBMClassifier", "LGBMRegressor")

# Of the distances by which neighbours are found.
EXPONENTS = {"manhattan": 1.0, "euclidean": 2.0}


def flatten_simple_classifier(estimator: Any) -> tuple[str, Arrays]:
    """The key of `CLASSIFIERS` and the arrays of a fitted classifier of the classes 0 to n_classes - 1.

    Raises
    ------
    CannotCompileError
        The model is of a kind, or has settings, that cannot be compiled.
    """
    require(np.array_equal(estimator.classes_, np.arange(len(estimator.classes_))), estimator)
    if hasattr(estimator, "get_booster"):
        return "xgboost", _flatten_xgboost(estimator)
    if type(estimator).__name__ in LIGHTGBM_TYPES:
        return "lightgbm", _flatten_lightgbm(estimator)
    if type(estimator).__name__ == "CatBoostClassifier":
        loss = estimator.get_all_params()["loss_function"]
        if len(estimator.classes_) > 2 and loss != "MultiClass":
            raise CannotCompileError(f"a CatBoostClassifier with loss_function={loss} cannot be compiled")
        return "symmetric_trees", _flatten_catboost(estimator)
    for estimator_type, (kind, flatten_estimator) in CLASSIFIER_TYPES.items():
        if type(estimator) is estimator_type:
            return kind, flatten_estimator(estimator)
    raise CannotCompileError(f"a model {type(estimator).__name__} cannot be compiled")


def flatten_transform(model: TransformingRegressor) -> tuple[str, Arrays, Any]:
    """The key of `UNDONE`, its arrays, and the estimator that has learned the transformed target."""
    if model.transform is None:
        return "", {}, model.estimator_
    arrays: Arrays = {}
    if model.transform == "quantile":
        quantiles = model.estimator_.transformer_
        arrays = {"quantiles": quantiles.quantiles_[:, 0].copy(), "references": quantiles.references_}
    return model.transform, arrays, model.estimator_.regressor_


def flatten_simple_regressor(estimator: Any) -> tuple[str, Arrays]:
    """The key of `REGRESSORS` and the arrays of a fitted regressor.

    Raises
    ------
    CannotCompileError
        As of `flatten_simple_classifier`.
    """
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


def category_sides(model: Any) -> tuple[Array, ...]:
    """The sides of its splits that each category of each column is on, of a model that takes categories as they are.

    Raises
    ------
    CannotCompileError
        No such model of its kind can be compiled.
    """
    estimator = getattr(model.estimator_, "regressor_", model.estimator_)
    if isinstance(estimator, HistGradientBoostingClassifier | HistGradientBoostingRegressor):
        return tuple(categorical_splits(estimator)[-1])
    if hasattr(estimator, "get_booster"):
        return _booster_trees(estimator).sides
    if type(estimator).__name__ in LIGHTGBM_TYPES:
        return _lightgbm_trees(estimator).sides
    raise CannotCompileError(f"a {type(estimator).__name__} that takes categories as they are cannot be compiled")


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


def _flatten_support_vectors(estimator: SVC | SVR) -> Arrays:
    if estimator.kernel != "rbf":
        raise CannotCompileError(f"a {type(estimator).__name__} with kernel={estimator.kernel} cannot be compiled")
    return {
        "vectors": np.asarray(estimator.support_vectors_, dtype=np.float64),
        "weights": np.asarray(estimator.dual_coef_, dtype=np.float64),
        "offsets": np.asarray(estimator.intercept_, dtype=np.float64),
        "gamma": np.array([gamma(estimator)]),
        "counts": np.asarray(estimator.n_support_, dtype=np.int32),
    }


def _flatten_kernel_ridge(estimator: KernelRidge) -> Arrays:
    kernel = estimator.kernel
    if type(kernel) is not RationalQuadratic:
        name = kernel if isinstance(kernel, str) else type(kernel).__name__
        raise CannotCompileError(
            f"a KernelRidge with the kernel {name} cannot be compiled; one with RationalQuadratic can be"
        )
    return {
        "rows": np.asarray(estimator.X_fit_, dtype=np.float64),
        "weights": np.asarray(estimator.dual_coef_, dtype=np.float64),
        "length": np.array([kernel.length_scale], dtype=np.float64),
        "exponent": np.array([kernel.alpha], dtype=np.float64),
    }


def _flatten_neighbours(estimator: KNeighborsClassifier | KNeighborsRegressor) -> Arrays:
    search = neighbour_search(estimator)
    name = type(estimator).__name__
    if search.method != "kd_tree":
        raise CannotCompileError(
            f"a {name} that searches with algorithm={search.method} cannot be compiled; algorithm=kd_tree can be"
        )
    metric = estimator.effective_metric_
    require(metric in EXPONENTS and estimator.weights in ("uniform", "distance"), estimator)
    require(search.targets.ndim == 1, estimator)
    rows, numbers, nodes, (low, high) = search.tree.get_arrays()
    is_class = isinstance(estimator, KNeighborsClassifier)
    targets = {"codes": search.targets.astype(np.int32)} if is_class else {"targets": search.targets.astype(np.float64)}
    return targets | {
        "rows": rows[numbers],
        "numbers": numbers.astype(np.int32),
        "begins": nodes["idx_start"].astype(np.int32),
        "ends": nodes["idx_end"].astype(np.int32),
        "is_leaf": nodes["is_leaf"] != 0,
        "low": low,
        "high": high,
        "exponent": np.array([EXPONENTS[metric]]),
        "n_neighbours": np.array([estimator.n_neighbors], dtype=np.int32),
        "by_distance": np.array([estimator.weights == "distance"]),
    }


def flatten_simple_scores(estimator: Any) -> tuple[str, Arrays]:
    """The key of `SCORES` and the arrays of a fitted classifier of the classes 0 to n_classes - 1.

    Raises
    ------
    CannotCompileError
        As of `flatten_simple_classifier`.
    """
    if type(estimator) is SVC:
        require(estimator.decision_function_shape == "ovr" and not estimator.break_ties, estimator)
        return "support_vectors", _flatten_support_vectors(estimator)
    if type(estimator) in (LogisticRegression, HistGradientBoostingClassifier):
        return flatten_simple_classifier(estimator)
    raise CannotCompileError(f"the scores of a {type(estimator).__name__} cannot be compiled")


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


# By type: the key of `CLASSIFIERS`, and the function that gives the arrays.
CLASSIFIER_TYPES: Mapping[type, tuple[str, Callable[[Any], Arrays]]] = {
    HistGradientBoostingClassifier: ("hist_gradient_boosting", _flatten_boosting),
    RandomForestClassifier: ("forest", _flatten_forest),
    ExtraTreesClassifier: ("forest", _flatten_forest),
    DummyClassifier: ("prior", _flatten_prior),
    LogisticRegression: ("logistic_regression", _flatten_logistic_regression),
    MLPClassifier: ("mlp", _flatten_mlp),
    KNeighborsClassifier: ("neighbours", _flatten_neighbours),
}
# Likewise, the key of `REGRESSORS`.
REGRESSOR_TYPES: Mapping[type, tuple[str, Callable[[Any], Arrays]]] = {
    HistGradientBoostingRegressor: ("boosted_trees", _flatten_boosting_of_numbers),
    RandomForestRegressor: ("forest", _flatten_forest),
    ExtraTreesRegressor: ("forest", _flatten_forest),
    DummyRegressor: ("constant", _flatten_constant),
    MLPRegressor: ("mlp", _flatten_mlp),
    KNeighborsRegressor: ("neighbours", _flatten_neighbours),
    SVR: ("support_vectors", _flatten_support_vectors),
    KernelRidge: ("kernel_ridge", _flatten_kernel_ridge),
    **dict.fromkeys((LinearRegression, Ridge, Lasso, ElasticNet), ("linear", _flatten_linear)),
}
