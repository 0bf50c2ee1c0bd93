"""Ensembles of models of numbers: a mean, plain or weighted by out-of-fold predictions, or a model of these."""

from typing import Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils.validation import check_is_fitted, validate_data

from wineexp.evaluation.grouped_folds import fitting_part
from wineexp.evaluation.metrics import METRICS
from wineexp.evaluation.predictions import NumberPredictions
from wineexp.models.ensemble import pick_members
from wineexp.models.weights import Weights, weight_options

Floats = npt.NDArray[np.float64]


class EnsembleRegressor(RegressorMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """Base class: members are fitted on all training rows, and their predictions are combined.

    Parameters
    ----------
    members : dict of str to regressor

    Attributes
    ----------
    members_ : dict of str to regressor
        Those with a part in the ensemble, fitted on all training rows.
    """

    members: dict[str, RegressorMixin]

    def predict(self, X: npt.ArrayLike) -> Floats:
        """A number for each row: shape (n_samples,)."""
        check_is_fitted(self)
        values = validate_data(self, X, reset=False)
        return self._combine(np.column_stack([member.predict(values) for member in self.members_.values()]))

    def _combine(self, predicted: Floats) -> Floats:
        """The ensemble's numbers (n_samples,) from those of `members_`, (n_samples, n_members)."""
        raise NotImplementedError

    def _check_training(
        self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: Weights
    ) -> tuple[Floats, Floats, Weights]:
        """X, y and the weights as arrays of float64.

        Raises
        ------
        ValueError
            There is no member, or a value that is not finite.
        """
        if not self.members:
            raise ValueError("members must name one model or more, but got none")
        values, numbers = validate_data(self, X, y, y_numeric=True, dtype=np.float64)
        return values, numbers, None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)

    def _out_of_fold(self, cv: BaseCrossValidator, values: Floats, y: Floats, weights: Weights) -> Floats:
        """Out-of-fold predictions (n_samples, n_members): of several for a row, the mean."""
        total, n_predictions = np.zeros((len(y), len(self.members))), np.zeros((len(y), 1))
        for train, test in cv.split(values, y):
            with fitting_part(train):
                for column, member in enumerate(self.members.values()):
                    fitted = clone(member).fit(values[train], y[train], **weight_options(weights, train))
                    total[test, column] += fitted.predict(values[test])
            n_predictions[test] += 1
        if not n_predictions.all():
            n_left_out = int((n_predictions == 0).sum())
            raise ValueError(f"every row must be in a test part of cv, but {n_left_out} of {len(y)} are not")
        return np.asarray(total / n_predictions)

    def _fit_members(self, names: list[str], values: Floats, y: Floats, weights: Weights) -> None:
        options = weight_options(weights)
        self.members_ = {name: clone(self.members[name]).fit(values, y, **options) for name in names}


class WeightedRegressor(EnsembleRegressor):
    """Base class of means of members by weights.

    Attributes
    ----------
    weights_ : dict of str to float
        The share of each member, also of those that have none.
    """

    weights_: dict[str, float]

    def _combine(self, predicted: Floats) -> Floats:
        return np.asarray(predicted @ [self.weights_[name] for name in self.members_])


class MeanRegressor(WeightedRegressor):
    """The mean of all members, whose weights are equal.

    Parameters
    ----------
    members : dict of str to regressor
    """

    def __init__(self, members: dict[str, RegressorMixin]) -> None:
        self.members = members

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: Weights = None) -> Self:
        """Fit on X (n_samples, n_features), y (n_samples,) and, where there are any, weights (n_samples,).

        Raises
        ------
        ValueError
            There is no member, or one of them refuses the data.
        """
        values, numbers, weights = self._check_training(X, y, sample_weight)
        self.weights_ = dict.fromkeys(self.members, 1 / len(self.members))
        self._fit_members(list(self.members), values, numbers, weights)
        return self


class SelectionRegressor(WeightedRegressor):
    """A mean over models that are picked one by one, each time the one that improves a metric the most.

    Caruana et al. 2004, "Ensemble Selection from Libraries of Models", with replacement, as `SelectionClassifier`.

    Parameters
    ----------
    members : dict of str to regressor
    metric : str
        A metric of numbers of `wineexp.evaluation.metrics.METRICS`, by which members are picked.
    picks : int
        How many are picked at most; the picks after the best value of the metric are dropped.
    cv : cross-validator

    Attributes
    ----------
    weights_ : dict of str to float
        The share of the picks of each member; a member that was not picked is not fitted again.
    """

    def __init__(self, members: dict[str, RegressorMixin], metric: str, picks: int, cv: BaseCrossValidator) -> None:
        self.members = members
        self.metric = metric
        self.picks = picks
        self.cv = cv

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: Weights = None) -> Self:
        """Fit on X (n_samples, n_features), y (n_samples,) and, where there are any, weights (n_samples,).

        Raises
        ------
        ValueError
            The metric is unknown, `picks` is less than 1, there is no member, or one of them refuses the data.
        """
        choices = [
            name
            for name, metric in METRICS.items()
            if "numbers" in metric.applies_to and metric.computed_from == "decisions"
        ]
        if self.metric not in choices:
            raise ValueError(f"metric must be one of {', '.join(choices)}, but got {self.metric}")
        if self.picks < 1:
            raise ValueError(f"picks >= 1 must hold, but got picks={self.picks}")
        values, numbers, weights = self._check_training(X, y, sample_weight)
        out_of_fold = dict(zip(self.members, self._out_of_fold(self.cv, values, numbers, weights).T, strict=True))
        picked = pick_members(
            out_of_fold, METRICS[self.metric], lambda mean: NumberPredictions(numbers, mean, weights), self.picks
        )
        self.weights_ = {name: picked.count(name) / len(picked) for name in self.members}
        self._fit_members([name for name in self.members if name in picked], values, numbers, weights)
        return self


class StackRegressor(EnsembleRegressor):
    """A final model over the members' out-of-fold predictions (Wolpert 1992, "Stacked Generalization").

    Parameters
    ----------
    members : dict of str to regressor
    final : regressor
    cv : cross-validator

    Attributes
    ----------
    final_ : regressor
    """

    def __init__(self, members: dict[str, RegressorMixin], final: RegressorMixin, cv: BaseCrossValidator) -> None:
        self.members = members
        self.final = final
        self.cv = cv

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: Weights = None) -> Self:
        """Fit on X (n_samples, n_features), y (n_samples,) and, where there are any, weights (n_samples,).

        Raises
        ------
        ValueError
            There is no member, or one of them or the final model refuses the data.
        """
        values, numbers, weights = self._check_training(X, y, sample_weight)
        out_of_fold = self._out_of_fold(self.cv, values, numbers, weights)
        self.final_ = clone(self.final).fit(out_of_fold, numbers, **weight_options(weights))
        self._fit_members(list(self.members), values, numbers, weights)
        return self

    def _combine(self, predicted: Floats) -> Floats:
        return np.asarray(self.final_.predict(predicted), dtype=np.float64)
