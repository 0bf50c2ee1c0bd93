"""What a single answer costs once its truth is known: the loss by which two versions are compared on live traffic.

The deciding metric itself where it is a mean over rows. For others, such as the area under a curve, no test is known
that holds at any time; the versions are then compared by a loss that is near to them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from wineexp.evaluation.predictions import class_values
from wineexp.monitoring.format import DECISION, NUMBER, PROBABILITY, TRUTH

Floats = npt.NDArray[np.float64]

# Of the absolute errors of out-of-fold predictions, the share that is not cut off: how much an error counts at most
# must be set before the test, since single large errors would make any test of a mean useless.
UNCUT_SHARE = 0.99
# A probability of the true class below this counts as this one, for the same reason.
LEAST_PROBABILITY = 0.01

SQUARED_METRICS = ("root_mean_squared_error", "r2")
PROBABILITY_METRICS = ("brier_score", "expected_calibration_error", "roc_auc", "average_precision")
EXACT_METRICS = ("accuracy", "log_loss", "brier_score", "mean_absolute_error", "accuracy_within_1", "cost")


@dataclass(frozen=True)
class RowLoss:
    """A loss of single rows, never below 0; the less, the better.

    Attributes
    ----------
    name : str
        In words, such as `share of wrong decisions`: what the mean of the losses is.
    limit : float
        The greatest that it can be.
    is_metric : bool
        Whether its mean decides as the deciding metric does; it is another figure otherwise.
    classes : tuple of str
        As the log spells them; empty of a target of numbers.
    """

    name: str
    limit: float
    is_metric: bool
    classes: tuple[str, ...]
    _losses: Callable[[pd.DataFrame], Floats]

    @classmethod
    def of_numbers(cls, metric: str, errors: Floats) -> Self:
        """For a target of numbers.

        Parameters
        ----------
        metric : str
            The deciding one.
        errors : ndarray of shape (n_predictions,)
            Absolute errors of the champion's out-of-fold predictions, from which follows where errors are cut off.
        """
        cut = float(np.quantile(errors, UNCUT_SHARE)) or 1.0
        power, word = (2, "squared") if metric in SQUARED_METRICS else (1, "absolute")
        return cls(
            name=f"mean {word} error, where one above {cut:.4g} counts as {cut:.4g}",
            limit=cut**power,
            is_metric=metric in (*SQUARED_METRICS, "mean_absolute_error"),
            classes=(),
            _losses=lambda rows: np.asarray(np.minimum(_absolute_errors(rows), cut) ** power),
        )

    @classmethod
    def of_classes(cls, metric: str, classes: Sequence[str], costs: npt.ArrayLike | None = None) -> Self:
        """For a target of classes.

        Parameters
        ----------
        metric : str
            The deciding one.
        classes : sequence of str
            In the order of the model's probabilities.
        costs : array-like of shape (n_classes, n_classes), optional
            What each decision (column) costs by true class (row), where the metric is `cost`.
        """
        labels = tuple(classes)
        if metric == "log_loss":
            return cls(
                f"mean log loss, where a probability below {LEAST_PROBABILITY:g} counts as {LEAST_PROBABILITY:g}",
                float(-np.log(LEAST_PROBABILITY)),
                True,
                labels,
                lambda rows: np.asarray(-np.log(np.clip(_probability_of_truth(rows, labels), LEAST_PROBABILITY, 1))),
            )
        if metric in PROBABILITY_METRICS:
            return cls("Brier score", 2.0, metric == "brier_score", labels, lambda rows: _brier_scores(rows, labels))
        name, table = _decision_costs(metric, labels, costs)
        return cls(
            name,
            float(table.max()),
            metric in EXACT_METRICS,
            labels,
            lambda rows: np.asarray(table[_positions(rows[TRUTH], labels), _positions(rows[DECISION], labels)]),
        )

    def has_truth(self, rows: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Whether the truth of each row is one of the classes, or a finite number: shape (n_rows,)."""
        if self.classes:
            return rows[TRUTH].isin(self.classes).to_numpy(dtype=bool)
        return np.asarray(np.isfinite(_numbers(rows[TRUTH])))

    def of(self, rows: pd.DataFrame) -> Floats:
        """The loss of each row of the log that has a truth: shape (n_rows,)."""
        return self._losses(rows)


def _decision_costs(metric: str, classes: tuple[str, ...], costs: npt.ArrayLike | None) -> tuple[str, Floats]:
    """What is averaged, in words, and what it is for each true class (row) and decision (column)."""
    values = class_values(classes)
    values = np.arange(len(classes), dtype=float) if values is None else values
    distances = np.abs(values[:, None] - values)
    if metric == "cost" and costs is not None:
        return "mean cost of a decision", np.asarray(costs, dtype=float)
    if metric == "mean_absolute_error":
        return "mean absolute error", distances
    if metric == "quadratic_weighted_kappa":
        return "mean squared error of the decision", distances**2
    if metric == "accuracy_within_1":
        # Differences of decimal fractions are off by their last bits.
        return "share of decisions that are off by more than 1", (distances > 1 + 1e-9).astype(float)
    return "share of wrong decisions", (distances > 0).astype(float)


def _brier_scores(rows: pd.DataFrame, classes: tuple[str, ...]) -> Floats:
    probabilities = _probabilities(rows, classes)
    probabilities[np.arange(len(rows)), _positions(rows[TRUTH], classes)] -= 1
    return np.asarray((probabilities**2).sum(axis=1))


def _probability_of_truth(rows: pd.DataFrame, classes: tuple[str, ...]) -> Floats:
    return np.asarray(_probabilities(rows, classes)[np.arange(len(rows)), _positions(rows[TRUTH], classes)])


def _probabilities(rows: pd.DataFrame, classes: tuple[str, ...]) -> Floats:
    return rows[[f"{PROBABILITY}{name}" for name in classes]].to_numpy(dtype=float, copy=True)


def _positions(values: pd.Series, classes: tuple[str, ...]) -> npt.NDArray[np.intp]:
    return np.asarray(pd.Index(classes).get_indexer(pd.Index(values.astype(object))))


def _absolute_errors(rows: pd.DataFrame) -> Floats:
    return np.abs(_numbers(rows[TRUTH]) - _numbers(rows[NUMBER]))


def _numbers(values: pd.Series) -> Floats:
    return np.asarray(pd.to_numeric(values, errors="coerce").to_numpy(dtype=float))
