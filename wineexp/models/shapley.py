"""Shapley values: how far each feature moves a prediction from the average one."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

from wineexp.models.pipeline import FixedClassesClassifier

# The fewest sampled orders in which features are added; each is also used backwards.
MIN_ORDERS = 64


@dataclass(frozen=True)
class Explanation:
    """The Shapley values of one prediction.

    Attributes
    ----------
    label : object
        The class that was decided on, whose prediction is explained.
    unit : str
        `log-odds` (of the class; XGBoost with two classes), `score` (before the softmax, so that differences between
        classes are log-odds; XGBoost with more classes) or `probability`.
    base_value, output_value : float
        The average over training rows, and the value for this row: `base_value + sum(contributions.values())`.
    contributions : dict of str to float
        By feature, the largest first. A column that is derived from several features has its own name.
    """

    label: object
    unit: str
    base_value: float
    output_value: float
    contributions: dict[str, float]


def explain(fitted: Pipeline, row: pd.DataFrame, background: pd.DataFrame, *, seed: int) -> Explanation:
    """The Shapley values of a row's decided class: exact ones from XGBoost, or else an estimate.

    Parameters
    ----------
    fitted : Pipeline
        Of `wineexp.models.pipeline.make_pipeline`.
    row : DataFrame of shape (1, n_features)
    background : DataFrame of shape (n_background, n_features)
        A sample of the training rows.
    seed : int
        Of the orders in which features are added; the same seed gives the same estimate.
    """
    model: FixedClassesClassifier = fitted[-1]
    background = background[list(row)].astype(row.dtypes.to_dict())
    code = int(model.decide(fitted.predict_proba(row))[0])
    label = model.classes_[code]
    if not hasattr(model.estimator_, "get_booster"):
        base_value, contributions = _sampled_shapley_values(
            lambda rows: fitted.predict_proba(rows)[:, code], row, background, seed
        )
        return _explanation(label, "probability", base_value, contributions)
    position = int(np.searchsorted(model.present_, code))
    base_value, of_columns = _tree_shapley_values(model.estimator_, fitted[:-1].transform(row), position)
    contributions = {str(name): 0.0 for name in row}
    for name, contribution in zip(source_features(fitted[:-1], background), of_columns.tolist(), strict=True):
        contributions[name] = contributions.get(name, 0.0) + contribution
    unit = "log-odds" if len(model.present_) == 2 else "score"
    return _explanation(label, unit, base_value, contributions)


def _explanation(label: object, unit: str, base_value: float, contributions: dict[str, float]) -> Explanation:
    largest_first = dict(sorted(contributions.items(), key=lambda item: -abs(item[1])))
    return Explanation(label, unit, base_value, base_value + sum(contributions.values()), largest_first)


def _tree_shapley_values(
    estimator: Any, X: npt.NDArray[np.float64], position: int
) -> tuple[float, npt.NDArray[np.float64]]:
    """XGBoost's exact Shapley values of one class (Lundberg et al. 2020, Nature MI 2:56).

    Parameters
    ----------
    estimator : XGBClassifier
    X : ndarray of shape (1, n_columns)
    position : int
        Of the class among the estimator's own.

    Returns
    -------
    base_value : float
    contributions : ndarray of shape (n_columns,)
    """
    from xgboost import DMatrix

    # Up to the best iteration, where training stopped early, as predict_proba does.
    best_iteration = getattr(estimator.get_booster(), "best_iteration", None)
    iteration_range = (0, 0) if best_iteration is None else (0, best_iteration + 1)
    values = np.asarray(
        estimator.get_booster().predict(DMatrix(X), pred_contribs=True, iteration_range=iteration_range),
        dtype=np.float64,
    )[0]
    # Two classes share one score, that of the second.
    of_class = values[position] if values.ndim == 2 else (2 * position - 1) * values
    return float(of_class[-1]), of_class[:-1]


def source_features(feature: Pipeline, background: pd.DataFrame) -> list[str]:
    """For each transformed column, the only feature that it depends on, or its own name where there are several.

    Parameters
    ----------
    feature : Pipeline
        Of transformers.
    background : DataFrame of shape (n_rows, n_features)

    Notes
    -----
    To find out, the values of each feature are exchanged between rows: the columns that change depend on it.
    """
    exchanged = []
    for name in background:
        values = background[name].array
        # By rank, since a missing text cannot be compared with others.
        order = np.argsort(pd.factorize(background[name], sort=True)[0], kind="stable")
        exchanged.append(background.assign(**{str(name): values[order[::-1]]}))
        # If the values were in descending order already, ascending order changes them, unless all are equal.
        exchanged.append(background.assign(**{str(name): values[order]}))
    before = feature.transform(background)
    after = feature.transform(pd.concat(exchanged)).reshape(len(background.columns), 2, *before.shape)
    depends = (after != before).any(axis=(1, 2))
    return [
        str(background.columns[sources.argmax()]) if sources.sum() == 1 else str(own_name)
        for own_name, sources in zip(feature.get_feature_names_out(), depends.T, strict=True)
    ]


def _sampled_shapley_values(
    predict: Callable[[pd.DataFrame], npt.NDArray[np.float64]], row: pd.DataFrame, background: pd.DataFrame, seed: int
) -> tuple[float, dict[str, float]]:
    """Shapley values by sampled orders (Strumbelj & Kononenko 2014), each also backwards (Mitchell et al. 2022).

    Each background row is changed into the explained row, one feature after the other in a random order. The
    contribution of a feature is the mean change of the prediction in its step. The contributions add up to the
    difference from the base value whatever the number of orders.

    Parameters
    ----------
    predict : callable
        From a frame of shape (n, n_features) to values of shape (n,).
    row : DataFrame of shape (1, n_features)
    background : DataFrame of shape (n_background, n_features)
    seed : int

    Returns
    -------
    base_value : float
    contributions : dict of str to float
    """
    background = pd.concat([background] * math.ceil(MIN_ORDERS / len(background)), ignore_index=True)
    n_rows, n_features = background.shape
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(n_features), (n_rows, 1)), axis=1)
    order = np.vstack([order, order[:, ::-1]])
    rank = order.argsort(axis=1)
    # Whether a feature has its new value, by order, step and feature.
    is_changed = rank[:, None, :] < np.arange(n_features + 1)[None, :, None]
    start = background.iloc[np.repeat(np.tile(np.arange(n_rows), 2), n_features + 1)].reset_index(drop=True)
    mixed = start.assign(
        **{
            str(name): start[name].mask(is_changed[:, :, j].ravel(), row[name].iloc[0])
            for j, name in enumerate(background)
        }
    )
    values = predict(mixed).reshape(2 * n_rows, n_features + 1)
    changes = np.take_along_axis(np.diff(values, axis=1), rank, axis=1).mean(axis=0)
    return float(values[:, 0].mean()), dict(zip(map(str, background), changes.tolist(), strict=True))
