"""Early stopping: the number of boosting rounds that is best on rows that the trees were not grown on.

The model is then fitted with so many rounds on all training rows, so that what is stored, compiled and explained is the
library's own model with fewer rounds.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from wineexp.models.arguments import change_arguments
from wineexp.models.weights import Weights, weight_options

# The argument that says how many rounds there are at most, by the package that a model is from.
ROUNDS = {"xgboost": "n_estimators", "lightgbm": "n_estimators", "catboost": "iterations", "sklearn": "max_iter"}
# Arguments of these libraries that stop early only with rows that `fit` is given.
OWN_ARGUMENTS = ("early_stopping_rounds", "early_stopping_round")


@dataclass(frozen=True)
class EarlyStopping:
    """When to stop, and by which of the rows that a model is fitted on.

    Attributes
    ----------
    rounds : int
        After so many rounds without a better score the best round is known.
    training, validation : ndarrays of int
        Positions of the rows that trees are grown on to find it, and of those that they are scored on.
    """

    rounds: int
    training: npt.NDArray[np.intp]
    validation: npt.NDArray[np.intp]


@dataclass(frozen=True)
class Rows:
    """Rows as a library takes them: features (n_samples, n_features), labels or numbers, and weights, if any."""

    X: Any
    y: npt.NDArray[Any]
    weights: Weights

    @classmethod
    def chosen(cls, X: Any, y: npt.NDArray[Any], weights: Weights, positions: npt.NDArray[np.intp]) -> "Rows":
        """Some of the rows."""
        features = X.iloc[positions] if isinstance(X, pd.DataFrame) else np.asarray(X)[positions]
        return cls(features, y[positions], None if weights is None else weights[positions])


def early_stopping_faults(model: Any, rounds: int | None, fraction: float) -> list[str]:
    """Why a model cannot be stopped early as a config says, one sentence each; with `rounds` None it is not to be."""
    faults = []

    def check(owners: Sequence[Any], name: str, value: Any) -> Any:
        if name.rpartition(".")[2] in OWN_ARGUMENTS and value is not None and _package(owners[-1]) in ROUNDS:
            faults.append(
                f"model.{name}={value}: it needs rows to stop by, which only early_stopping.rounds={value} gives it: a "
                "part of the training rows of each fold"
            )
        return value

    change_arguments(model, check)
    if rounds is None:
        return faults
    if rounds < 1:
        faults.append(f"early_stopping.rounds={rounds}: rounds >= 1 must hold, or null for none")
    if not 0 < fraction <= 0.5:
        faults.append(f"early_stopping.fraction={fraction}: 0 < fraction <= 0.5 must hold")
    if not _is_boosted(model):
        faults.append(
            f"early_stopping.rounds={rounds}: a {type(model).__name__} has no rounds of boosting that could be "
            "stopped; choose model=xgb, lightgbm, catboost or histgb, or early_stopping.rounds=null"
        )
    return faults


def parts(X: Any, y: npt.NDArray[Any], weights: Weights, early_stopping: EarlyStopping) -> tuple[Rows, Rows]:
    """The rows that trees are grown on to find the best round, and those that they are scored on."""
    training, validation = (
        Rows.chosen(X, y, weights, positions) for positions in (early_stopping.training, early_stopping.validation)
    )
    return training, validation


def with_best_rounds(estimator: Any, for_search: Any, training: Rows, validation: Rows, rounds: int) -> Any:
    """A copy of an estimator with the number of rounds that is best on the validation rows.

    Parameters
    ----------
    estimator : classifier or regressor
    for_search : classifier or regressor
        The same with arguments for the training rows, as `best_rounds` takes it.
    training, validation, rounds
        As of `best_rounds`.
    """
    return copy.deepcopy(estimator).set_params(**best_rounds(for_search, training, validation, rounds))


def best_rounds(estimator: Any, training: Rows, validation: Rows, rounds: int) -> dict[str, int]:
    """The number of rounds that is best on the validation rows, by the name of the model's argument that says it.

    Parameters
    ----------
    estimator : classifier or regressor of XGBoost, LightGBM or CatBoost, or scikit-learn's histogram-based boosting
        Not fitted. Its own metric decides, by default its loss.
    training, validation : Rows
        The labels are 0 to n_classes - 1, and those of validation rows are all among the training rows'.
    rounds : int
        After so many rounds without a better score the search ends.
    """
    package = _package(estimator)
    best = FITS[package](copy.deepcopy(estimator), training, validation, rounds)
    return {ROUNDS[package]: max(1, best)}


def _fit_xgboost(model: Any, training: Rows, validation: Rows, rounds: int) -> int:
    model.set_params(early_stopping_rounds=rounds).fit(
        training.X,
        training.y,
        eval_set=[(validation.X, validation.y)],
        sample_weight_eval_set=None if validation.weights is None else [validation.weights],
        verbose=False,
        **weight_options(training.weights),
    )
    return int(model.best_iteration) + 1


def _fit_lightgbm(model: Any, training: Rows, validation: Rows, rounds: int) -> int:
    model.set_params(early_stopping_round=rounds).fit(
        training.X,
        training.y,
        eval_X=validation.X,
        eval_y=validation.y,
        eval_sample_weight=None if validation.weights is None else [validation.weights],
        **weight_options(training.weights),
    )
    return int(model.best_iteration_)


def _fit_catboost(model: Any, training: Rows, validation: Rows, rounds: int) -> int:
    import catboost

    categories = model.get_params().get("cat_features")
    pool = catboost.Pool(validation.X, validation.y, weight=validation.weights, cat_features=categories)
    model.fit(training.X, training.y, eval_set=pool, early_stopping_rounds=rounds, **weight_options(training.weights))
    return int(model.get_best_iteration()) + 1


def _fit_histogram_based(model: Any, training: Rows, validation: Rows, rounds: int) -> int:
    model.set_params(early_stopping=True, n_iter_no_change=rounds).fit(
        training.X,
        training.y,
        X_val=validation.X,
        y_val=validation.y,
        sample_weight_val=validation.weights,
        **weight_options(training.weights),
    )
    # The first score is that before the first round.
    return int(np.argmax(model.validation_score_))


FITS: dict[str, Callable[[Any, Rows, Rows, int], int]] = {
    "xgboost": _fit_xgboost,
    "lightgbm": _fit_lightgbm,
    "catboost": _fit_catboost,
    "sklearn": _fit_histogram_based,
}


def _package(model: Any) -> str:
    """The first of the packages of `ROUNDS` that a model's classes are from, so that a class of one's own counts."""
    packages = [base.__module__.partition(".")[0] for base in type(model).__mro__]
    return next((package for package in packages if package in ROUNDS), "")


def _is_boosted(model: Any) -> bool:
    package = _package(model)
    if package == "sklearn":
        return isinstance(model, HistGradientBoostingClassifier | HistGradientBoostingRegressor)
    return package in ROUNDS and ROUNDS[package] in model.get_params()
