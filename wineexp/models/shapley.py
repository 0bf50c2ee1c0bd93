"""Why a model answers a row as it does."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

from wineexp.models.pipeline import FixedClassesClassifier

# The fewest orders in which features are added, each of which is also run backwards.
ORDERS = 64


@dataclass(frozen=True)
class Why:
    """How far each feature took the answer from what the model answers on average.

    Attributes
    ----------
    label : object
        The class that is explained: the one that was decided on.
    unit : str
        `log-odds` (of the class, XGBoost with two classes), `score` (before the softmax, which makes of differences
        in it log-odds between classes; XGBoost with more) or `probability`.
    base, output : float
        On average over the training rows, and for this row: `base + sum(parts.values()) == output`.
    parts : dict of str to float
        By feature, the largest first. What was derived from several measurements has a name of its own.
    """

    label: object
    unit: str
    base: float
    output: float
    parts: dict[str, float]


def why(fitted: Pipeline, row: pd.DataFrame, background: pd.DataFrame, *, seed: int) -> Why:
    """Shapley values of the decided class: the exact ones of XGBoost's trees, else an estimate.

    Parameters
    ----------
    fitted : Pipeline
        Of `wineexp.models.pipeline.pipeline`.
    row : DataFrame of shape (1, n_features)
    background : DataFrame of shape (n_background, n_features)
        Training rows, which stand for all of them.
    seed : int
        Of the orders in which features are added; the same seed gives the same figures.
    """
    model: FixedClassesClassifier = fitted[-1]
    background = background[list(row)].astype(row.dtypes.to_dict())
    code = int(model.decide(fitted.predict_proba(row))[0])
    label = model.classes_[code]
    if not hasattr(model.estimator_, "get_booster"):
        base, parts = _sampled(lambda rows: fitted.predict_proba(rows)[:, code], row, background, seed)
        return Why(label, "probability", base, base + sum(parts.values()), _sorted(parts))
    position = int(np.searchsorted(model.present_, code))
    base, derived = _of_trees(model.estimator_, fitted[:-1].transform(row), position)
    parts = {str(name): 0.0 for name in row}
    for name, part in zip(_origins(fitted[:-1], background), derived.tolist(), strict=True):
        parts[name] = parts.get(name, 0.0) + part
    unit = "log-odds" if len(model.present_) == 2 else "score"
    return Why(label, unit, base, base + sum(parts.values()), _sorted(parts))


def _of_trees(estimator: Any, X: npt.NDArray[np.float64], position: int) -> tuple[float, npt.NDArray[np.float64]]:
    """XGBoost's own contributions to one class: exact Shapley values (Lundberg et al. 2020, Nature MI 2:56)."""
    from xgboost import DMatrix

    # Given to the booster as predict_proba does it: as far as the best round, where training stopped at one.
    best = getattr(estimator.get_booster(), "best_iteration", None)
    rounds = (0, 0) if best is None else (0, best + 1)
    told = np.asarray(
        estimator.get_booster().predict(DMatrix(X), pred_contribs=True, iteration_range=rounds), dtype=np.float64
    )[0]
    # Two classes have one score between them, that of the second.
    ours = told[position] if told.ndim == 2 else (2 * position - 1) * told
    return float(ours[-1]), ours[:-1]


def _origins(feature: Pipeline, background: pd.DataFrame) -> list[str]:
    """For each column that a model sees, the feature that it was made of, or its own name where it was of several.

    Found by moving: each feature in turn is exchanged between rows, and the columns that change are made of it.
    """
    exchanged = []
    for name in background:
        values = background[name].to_numpy()
        exchanged.append(background.assign(**{str(name): values[np.argsort(values, kind="stable")[::-1]]}))
        # Sorted downwards it may stand as it stood; sorted upwards it then does not, unless it is constant.
        exchanged.append(background.assign(**{str(name): np.sort(values)}))
    before = feature.transform(background)
    after = feature.transform(pd.concat(exchanged)).reshape(len(background.columns), 2, *before.shape)
    made_of = (after != before).any(axis=(1, 2))
    return [
        str(background.columns[sources.argmax()]) if sources.sum() == 1 else str(own)
        for own, sources in zip(feature.get_feature_names_out(), made_of.T, strict=True)
    ]


def _sampled(
    ask: Callable[[pd.DataFrame], npt.NDArray[np.float64]], row: pd.DataFrame, background: pd.DataFrame, seed: int
) -> tuple[float, dict[str, float]]:
    """Shapley values by sampled orders (Strumbelj & Kononenko 2014), each also run backwards (Mitchell et al. 2022).

    Every background row is changed into the row asked about, one feature after the other in a random order; what a
    feature moved, on average, is its part. The parts add up whatever the number of orders.
    """
    background = pd.concat([background] * math.ceil(ORDERS / len(background)), ignore_index=True)
    n_rows, n_features = background.shape
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(n_features), (n_rows, 1)), axis=1)
    order = np.vstack([order, order[:, ::-1]])
    rank = order.argsort(axis=1)
    taken = rank[:, None, :] < np.arange(n_features + 1)[None, :, None]
    start = background.iloc[np.repeat(np.tile(np.arange(n_rows), 2), n_features + 1)].reset_index(drop=True)
    mixed = start.assign(
        **{str(name): start[name].mask(taken[:, :, j].ravel(), row[name].iloc[0]) for j, name in enumerate(background)}
    )
    value = ask(mixed).reshape(2 * n_rows, n_features + 1)
    moved = np.take_along_axis(np.diff(value, axis=1), rank, axis=1).mean(axis=0)
    return float(value[:, 0].mean()), dict(zip(map(str, background), moved.tolist(), strict=True))


def _sorted(parts: dict[str, float]) -> dict[str, float]:
    return dict(sorted(parts.items(), key=lambda item: -abs(item[1])))
