"""Shapley values: how far each feature moves a prediction from its mean over background rows.

Of classes it is the probability of the decided one that is moved, of numbers the predicted number.

They are interventional: the features outside of a coalition have the values of a background row, together. They are
exact for trees and linear models of few enough features, and estimated by sampling for all others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import Pipeline

from wineexp.models.coalitions import (
    MixedColumns,
    reach_leaves,
    scores_of_leaves,
    scores_of_sums,
    shapley_values,
    shapley_values_of_leaves,
)
from wineexp.models.fitted_trees import apply_link, fitted_trees, link_of
from wineexp.models.leaf_boxes import Transform
from wineexp.models.pipeline import DecidingClassifier, FixedClassesClassifier
from wineexp.models.regression import TransformingRegressor

Floats = npt.NDArray[np.float64]
# An array of n values for each feature.
Columns = Mapping[str, npt.NDArray[Any]]

LINEAR_REGRESSORS = (LinearRegression, Ridge, Lasso, ElasticNet)

# The fewest rows of the background that are used where more would take too long.
MIN_ROWS = 300
# The most pairs of a leaf and a background row, which take half a second.
MAX_LEAF_VISITS = 2**24
# The most scores of all coalitions and background rows, which take a second, and those that are in memory at once.
MAX_SCORES, SCORES_AT_ONCE = 2**24, 2**20
# The most rows that are predicted to have the worth of each coalition.
MAX_COALITION_ROWS = 2**15
# The most players that the bits of a coalition stand for.
MAX_PLAYERS = 62
# Sampled orders of the features for each background row; each is also used backwards.
N_ORDERS = 2
# The rows of such a sample; for many features it goes through fewer background rows, but not fewer than these.
MAX_SAMPLED_ROWS, MIN_SAMPLED_BACKGROUND = 2**16, 20
ROWS_PER_PREDICTION = 2**13


@dataclass(frozen=True)
class Explanation:
    """The Shapley values of one prediction.

    Attributes
    ----------
    code : int
        Position of the class that was decided on, whose probability is explained; 0 where a number is explained.
    base_value, output_value : float
        The mean prediction of the background rows, and that of this row: `base_value + sum(contributions.values())`.
    contributions : dict of str to float
        By feature, the largest first.
    standard_errors : dict of str to float, or None
        Of the contributions, due to sampling; None where they are exact.
    background_rows : int
        The first of the background, as many as take about a second at most.
    """

    code: int
    base_value: float
    output_value: float
    contributions: dict[str, float]
    standard_errors: dict[str, float] | None
    background_rows: int


class ShapleyExplainer:
    """Computes the Shapley values of predictions of one model.

    Parameters
    ----------
    fitted : Pipeline
        Of `make_pipeline` in `wineexp.models.pipeline` or `wineexp.models.regression`.
    outputs : callable
        From rows, given as an array for each feature, to probabilities of shape (n, n_classes), or numbers (n, 1).
    transform : callable
        From such rows to the columns that the model takes, of shape (n, n_columns).
    background : mapping of str to ndarray of shape (n_background,)
        Training rows, of which the first stand for all, as those of `representative_rows`.
    sources : ndarray of bool of shape (n_columns, n_features)
        The features that each column depends on; see `find_sources`.
    """

    def __init__(
        self,
        fitted: Pipeline,
        outputs: Callable[[Columns], Floats],
        transform: Transform,
        background: Columns,
        sources: npt.NDArray[np.bool_],
    ) -> None:
        self._model: FixedClassesClassifier | TransformingRegressor = fitted[-1]
        self._outputs = outputs
        self._transform = transform
        self._background = background
        self._n_rows = len(next(iter(background.values())))
        self._sources = sources
        self._of_background = outputs(background)
        self._transformed = transform(background)
        self.trees = fitted_trees(fitted, self._transformed, self._of_background)
        self._linear = _linear_model(self._model)

    def explain(self, row: Columns, *, seed: int) -> Explanation:
        """The Shapley values of the probability of a row's decided class, or of its predicted number.

        Parameters
        ----------
        row : mapping of str to ndarray of shape (1,)
        seed : int
            Of the orders in which features are added, for an estimate; the same seed gives the same estimate.
        """
        is_number = isinstance(self._model, TransformingRegressor)
        code = 0 if is_number else int(self._model.decide(self._outputs(row))[0])
        exact = self._of_trees(row, code) if self.trees is not None else self._of_linear_model(row, code)
        if exact is None:
            exact = self._of_all_coalitions(row, code)
        contributions, errors, n_rows = self._sampled(row, code, seed) if exact is None else (exact[0], None, exact[1])
        base = float(self._of_background[:n_rows, code].mean())
        order = np.argsort(-np.abs(contributions), kind="stable")
        names = list(self._background)
        return Explanation(
            code,
            base,
            base + float(contributions.sum()),
            {names[player]: float(contributions[player]) for player in order},
            None if errors is None else {names[player]: float(errors[player]) for player in order},
            n_rows,
        )

    def _affordable_rows(self, most: int) -> int:
        """How many rows of the background to use where more than `most` take too long; 0 if those are too few."""
        return min(most, self._n_rows) if most >= min(MIN_ROWS, self._n_rows) else 0

    def _of_trees(self, row: Columns, code: int) -> tuple[Floats, int] | None:
        """Exact values for trees, and the rows that were used.

        None where a column depends on three features or more, or there are too many features.
        """
        trees = self.trees
        assert trees is not None  # noqa: S101  for mypy
        used = np.unique(trees.column[trees.left >= 0])
        players = np.flatnonzero(self._sources[used].any(axis=0))
        if len(players) > MAX_PLAYERS or self._sources[used].sum(axis=1).max(initial=0) > 2:
            return None
        values = np.zeros(self._sources.shape[1])
        if not len(players):
            return values, self._n_rows
        if trees.link == "identity":
            n_rows = self._affordable_rows(max(MIN_ROWS, MAX_LEAF_VISITS // int((trees.left < 0).sum())))
            output = int(np.searchsorted(trees.present, code))
            reached = reach_leaves(trees, self._mixed_columns(row, players, n_rows))
            values[players] = shapley_values_of_leaves(reached, trees.values[:, output], len(players)) / n_rows
            return values, n_rows
        n_rows = self._affordable_rows(MAX_SCORES // len(trees.base) >> len(players))
        if not n_rows:
            return None
        mixed = self._mixed_columns(row, players, n_rows)
        worths = np.zeros(1 << len(players))
        n_at_once = max(1, SCORES_AT_ONCE // (len(trees.base) << len(players)))
        for start in range(0, n_rows, n_at_once):
            part = replace(mixed, values=mixed.values[:, start : start + n_at_once])
            scores = scores_of_leaves(reach_leaves(trees, part), trees, part.values.shape[1], len(players))
            worths += trees.probabilities(scores)[..., code].sum(axis=0)
        values[players] = shapley_values(worths / n_rows)
        return values, n_rows

    def _of_linear_model(self, row: Columns, code: int) -> tuple[Floats, int] | None:
        """Exact values for a linear model whose columns depend on one feature each, and the rows that were used.

        None for any other model.
        """
        players = np.flatnonzero(self._sources.any(axis=0))
        if self._linear is None or self._sources.sum(axis=1).max(initial=0) > 1:
            return None
        if isinstance(self._model, TransformingRegressor):
            change = (self._transform(row) - self._transformed).mean(axis=0)
            return np.asarray((change * self._linear.coef_) @ self._sources), self._n_rows
        weights = self._linear.coef_.T
        # The solver liblinear has a single number instead where it fits none.
        base = np.broadcast_to(self._linear.intercept_, weights.shape[1])
        n_rows = self._affordable_rows(MAX_SCORES // len(base) >> len(players))
        if not n_rows:
            return None
        transformed = self._transformed[:n_rows]
        changes = self._transform(row) - transformed
        by_player = np.einsum("rc,cp,co->rpo", changes, self._sources[:, players].astype(float), weights)
        scores = scores_of_sums(transformed @ weights + base, by_player)
        output = int(np.searchsorted(self._model.present_, code))
        values = np.zeros(self._sources.shape[1])
        values[players] = shapley_values(apply_link(link_of(len(base)), scores)[..., output].mean(axis=0))
        return values, n_rows

    def _of_all_coalitions(self, row: Columns, code: int) -> tuple[Floats, int] | None:
        """Exact values from predictions for each coalition, and the rows used; None where there are too many."""
        n_players = len(self._background)
        n_rows = self._affordable_rows(MAX_COALITION_ROWS >> n_players)
        if not n_rows:
            return None
        coalitions = np.repeat(np.arange(1 << n_players), n_rows)
        is_member = (coalitions[:, None] >> np.arange(n_players) & 1).astype(bool)
        worths = self._predict_mixed(row, is_member, n_rows)[:, code]
        return shapley_values(worths.reshape(-1, n_rows).mean(axis=1)), n_rows

    def _sampled(self, row: Columns, code: int, seed: int) -> tuple[Floats, Floats, int]:
        """Estimates by sampled orders (Strumbelj & Kononenko 2014), their standard errors, and the rows that were used.

        Each background row is changed into the explained row, one feature after the other in a random order, and in
        the same order backwards (Mitchell et al. 2022). The contribution of a feature is the mean change of the
        prediction in its step. The contributions add up to the difference from the base value whatever the number of
        orders. Their error comes from the orders alone, which are independent for each background row.
        """
        n_players = len(self._background)
        n_kept = min(self._n_rows, max(MIN_SAMPLED_BACKGROUND, MAX_SAMPLED_ROWS // (2 * N_ORDERS * (n_players + 1))))
        n_orders = N_ORDERS * n_kept
        orders = np.random.default_rng(seed).permuted(np.tile(np.arange(n_players), (n_orders, 1)), axis=1)
        both = np.stack([orders, orders[:, ::-1]])
        rank = both.argsort(axis=-1)
        # Whether a feature has its new value, by step, direction, order and feature; orders go through the background.
        is_member = rank[None] < np.arange(n_players + 1)[:, None, None, None]
        worths = self._predict_mixed(row, is_member.reshape(-1, n_players), n_kept)[:, code]
        worths = worths.reshape(n_players + 1, 2, n_orders)
        gains = np.moveaxis(np.diff(worths, axis=0), 0, -1)
        pairs = np.take_along_axis(gains, rank, axis=-1).mean(axis=0)
        variances = pairs.reshape(N_ORDERS, n_kept, n_players).var(axis=0, ddof=1).sum(axis=0) / N_ORDERS
        return pairs.mean(axis=0), np.sqrt(variances) / n_kept, n_kept

    def _predict_mixed(self, row: Columns, is_member: npt.NDArray[np.bool_], n_rows: int) -> Floats:
        """Predictions for the first background rows, over and over, with the row's values where `is_member` says."""
        parts = []
        for start in range(0, len(is_member), ROWS_PER_PREDICTION):
            members = is_member[start : start + ROWS_PER_PREDICTION]
            rows = np.arange(start, start + len(members)) % n_rows
            mixed = {name: values[rows] for name, values in self._background.items()}
            for player, (name, values) in enumerate(mixed.items()):
                values[members[:, player]] = row[name][0]
            parts.append(self._outputs(mixed))
        return np.concatenate(parts)

    def _mixed_columns(self, row: Columns, players: npt.NDArray[np.intp], n_rows: int) -> MixedColumns:
        """The columns for the coalitions of each column's players, of the first background rows."""
        transformed = self._transformed[:n_rows]
        background = {name: values[:n_rows] for name, values in self._background.items()}
        sources = self._sources[:, players]
        first = sources.argmax(axis=1)
        second = sources.shape[1] - 1 - sources[:, ::-1].argmax(axis=1)
        none = ~sources.any(axis=1)
        second[none] = first[none]
        of_row = np.broadcast_to(self._transform(row), transformed.shape)
        if (first == second).all():
            return MixedColumns((0, 3), np.stack([transformed, of_row]), first, second, len(players))
        names = list(background)
        one_changed = np.stack(
            [
                self._transform({**background, names[player]: np.repeat(row[names[player]], n_rows)})
                for player in players
            ]
        )
        columns = np.arange(len(first))
        with_first, with_second = (np.ascontiguousarray(one_changed[of, :, columns].T) for of in (first, second))
        values = np.stack([transformed, with_first, with_second, of_row])
        return MixedColumns((0, 1, 2, 3), values, first, second, len(players))


def _linear_model(model: FixedClassesClassifier | TransformingRegressor) -> Any:
    """The linear model whose weighted sum, or its link function, a model predicts; None for any other model."""
    estimator = model.estimator_
    if isinstance(model, TransformingRegressor):
        return estimator if type(estimator) in LINEAR_REGRESSORS else None
    while isinstance(estimator, DecidingClassifier):
        estimator = estimator.estimator_
    return estimator if type(estimator) is LogisticRegression else None


def find_sources(transform: Transform, rows: Columns) -> npt.NDArray[np.bool_]:
    """The features that each transformed column depends on: shape (n_columns, n_features).

    To find out, the values of each feature are exchanged between rows: the columns that change depend on it.

    Parameters
    ----------
    transform : callable
    rows : mapping of str to ndarray of shape (n_rows,)
        In which no feature is constant, unless it is so in training.
    """
    before = transform(rows)
    depends = []
    for name, values in rows.items():
        changed = np.zeros(before.shape[1], dtype=bool)
        # By rank, since a missing text cannot be compared with others. If the values were in descending order
        # already, ascending order changes them, unless all are equal.
        order = np.argsort([str(value) for value in values.tolist()], kind="stable")
        for exchanged in (values[order[::-1]], values[order]):
            after = transform({**rows, name: exchanged})
            changed |= ((after != before) & ~(np.isnan(after) & np.isnan(before))).any(axis=0)
        depends.append(changed)
    return np.stack(depends, axis=1)


def only_sources(sources: npt.NDArray[np.bool_], names: list[str]) -> list[str]:
    """For each column the only feature that it depends on, an empty text where there are several or none."""
    return [names[of_column.argmax()] if of_column.sum() == 1 else "" for of_column in sources]
