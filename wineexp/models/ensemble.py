"""Ensembles: several models, weighed or combined by what each says of rows that it was not fitted on."""

from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils.validation import check_is_fitted, validate_data

from wineexp.evaluation.metrics import METRICS, Predictions
from wineexp.models.decision import utility_for
from wineexp.models.pipeline import FixedClassesClassifier, best, out_of_fold

# Probabilities below it are taken for it, where their logarithm is.
LEAST = 1e-4


class EnsembleClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """What ensembles share: members, told out of fold while fitting, and fitted on all rows in the end.

    Parameters
    ----------
    members : dict of str to classifier
    cv : cross-validator
        Splits the training rows.

    Attributes
    ----------
    members_ : dict of str to FixedClassesClassifier
        Those that have a say, fitted on all training rows.
    classes_ : ndarray of shape (n_classes,)
    utility_ : ndarray of shape (n_classes, n_classes)
        See `wineexp.models.pipeline.best`.
    """

    members: dict[str, ClassifierMixin]
    cv: BaseCrossValidator

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.generic]:
        """The label of the greatest expected utility for each row: shape (n_samples,)."""
        return np.asarray(self.classes_[best(self.predict_proba(X), self.utility_)])

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Probabilities of shape (n_samples, n_classes)."""
        check_is_fitted(self)
        values = validate_data(self, X, reset=False)
        return self._combined([member.predict_proba(values) for member in self.members_.values()])

    def _combined(self, told: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        raise NotImplementedError

    def _out_of_fold(
        self, values: npt.NDArray[np.float64], codes: npt.NDArray[np.intp]
    ) -> dict[str, npt.NDArray[np.float64]]:
        if not self.members:
            raise ValueError("members must name one model or more, but got none")
        return {name: out_of_fold(member, values, codes, self.cv) for name, member in self.members.items()}

    def _fit_members(self, names: list[str], values: npt.NDArray[np.float64], codes: npt.NDArray[np.intp]) -> None:
        classes: list[object] = list(range(len(self.classes_)))
        self.members_ = {
            name: FixedClassesClassifier(clone(self.members[name]), classes).fit(values, codes) for name in names
        }


class SelectionClassifier(EnsembleClassifier):
    """A mean over models that were picked one by one, each time the one that helps the most.

    Caruana et al. 2004, "Ensemble Selection from Libraries of Models", with replacement: a model that is picked twice
    counts twice. Picked by out-of-fold probabilities of the training rows alone, so that choosing between models and
    their settings is a part of fitting, and a cross-validation of it is nested.

    Parameters
    ----------
    members : dict of str to classifier
    metric : str
        One of `wineexp.evaluation.metrics.METRICS`, by which they are picked.
    picks : int
        At most; the best beginning of the sequence is taken.
    decision : str
        Another one, for which is decided on the mean's out-of-fold probabilities; see
        `wineexp.models.decision.utility_for`.
    temper : bool
        Whether the mean is then made as sure of itself as its log loss asks for; see `_temperature`.
    cv : cross-validator

    Attributes
    ----------
    weights_ : dict of str to float
        Shares of the picks, of every member; those of none are not fitted again.
    temperature_ : float or None
    """

    def __init__(
        self,
        members: dict[str, ClassifierMixin],
        metric: str,
        picks: int,
        decision: str,
        temper: bool,
        cv: BaseCrossValidator,
    ) -> None:
        self.members = members
        self.metric = metric
        self.picks = picks
        self.decision = decision
        self.temper = temper
        self.cv = cv

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Fit on X (n_samples, n_features) and y (n_samples,).

        Raises
        ------
        ValueError
            A metric is unknown, `picks` is less than 1, there is no member, or one of them refuses the data.
        """
        for name, metric in (("metric", self.metric), ("decision", self.decision)):
            if metric not in METRICS:
                raise ValueError(f"{name} must be one of {', '.join(METRICS)}, but got {metric}")
        if self.picks < 1:
            raise ValueError(f"picks >= 1 must hold, but got picks={self.picks}")
        values, labels = validate_data(self, X, y)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        told = self._out_of_fold(values, codes)
        picked = self._pick(told, codes)
        self.weights_ = {name: picked.count(name) / len(picked) for name in self.members}
        mean = np.asarray(sum(self.weights_[name] * told[name] for name in self.members))
        self.temperature_ = _temperature(mean, codes) if self.temper else None
        self.utility_ = utility_for(self.decision, codes, self._tempered(mean))
        self._fit_members([name for name in self.members if name in picked], values, codes)
        return self

    def _pick(self, told: dict[str, npt.NDArray[np.float64]], codes: npt.NDArray[np.intp]) -> list[str]:
        """Names in the order in which they were picked, as far as they helped."""
        metric = METRICS[self.metric]
        sign = 1 if metric.direction == "maximize" else -1
        picked: list[str] = []
        scores: list[float] = []
        total = np.zeros_like(next(iter(told.values())))
        for number in range(1, self.picks + 1):
            found = {}
            for name, probabilities in told.items():
                mean = (total + probabilities) / number
                found[name] = sign * float(metric.score(Predictions(codes, mean.argmax(axis=1), mean)))
            name = max(found, key=lambda name: found[name])
            total += told[name]
            picked.append(name)
            scores.append(found[name])
        return picked[: int(np.argmax(scores)) + 1]

    def _combined(self, told: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        shares = [self.weights_[name] for name in self.members_]
        return self._tempered(np.asarray(sum(share * each for share, each in zip(shares, told, strict=True))))

    def _tempered(self, mean: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return mean if self.temperature_ is None else _at(self.temperature_, mean)


class StackClassifier(EnsembleClassifier):
    """A model over the models' answers (Wolpert 1992, "Stacked Generalization").

    It is fitted on the logarithms of their out-of-fold probabilities.

    Parameters
    ----------
    members : dict of str to classifier
    final : classifier
    cv : cross-validator

    Attributes
    ----------
    final_ : classifier
    """

    def __init__(self, members: dict[str, ClassifierMixin], final: ClassifierMixin, cv: BaseCrossValidator) -> None:
        self.members = members
        self.final = final
        self.cv = cv

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Fit on X (n_samples, n_features) and y (n_samples,).

        Raises
        ------
        ValueError
            There is no member, or one of them or the final model refuses the data.
        """
        values, labels = validate_data(self, X, y)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        told = self._out_of_fold(values, codes)
        self.final_ = clone(self.final).fit(_logarithms(list(told.values())), codes)
        self.utility_ = np.eye(len(self.classes_))
        self._fit_members(list(self.members), values, codes)
        return self

    def _combined(self, told: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        return np.asarray(self.final_.predict_proba(_logarithms(told)), dtype=np.float64)


def _temperature(told: npt.NDArray[np.float64], codes: npt.NDArray[np.intp]) -> float:
    """By what to divide the logarithms of probabilities (n_samples, n_classes) so that their log loss is least.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", temperature scaling: a mean of models is less sure
    than it could be, which is below 1. Searched between a third and 3.
    """
    rows = np.arange(len(codes))

    def loss(logarithm: float) -> float:
        return float(-np.log(_at(np.exp(logarithm), told)[rows, codes]).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-np.log(3), np.log(3)), method="bounded").x))


def _at(temperature: float, told: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(softmax(np.log(np.maximum(told, LEAST)) / temperature, axis=1))


def _logarithms(told: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    return np.log(np.maximum(np.hstack(told), LEAST))
