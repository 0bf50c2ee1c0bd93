"""The gate: the rules that a candidate must meet before an alias is moved to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from wineexp.core.errors import UserError, did_you_mean
from wineexp.evaluation import cross_validation
from wineexp.evaluation.baseline import BASELINE
from wineexp.evaluation.comparison import corrected_t_test
from wineexp.evaluation.cross_validation import Fold
from wineexp.evaluation.metrics import METRICS, Metric
from wineexp.evaluation.own_metric import is_own
from wineexp.evaluation.predictions import NumberPredictions, Predictions
from wineexp.monitoring.live_test import LiveTest

REQUIREMENTS = ("better", "not_worse")
LIVE_REQUIRED = "required"

# The error that is compared with that of the mean, where the deciding metric is none: of r2 the mean has about 0.
NUMBER_ERROR = "root_mean_squared_error"


@dataclass(frozen=True)
class ModelScores:
    """The measured quality of a model.

    Attributes
    ----------
    name : str
    scores : dict of str to ndarray of shape (n_folds,)
        Each metric by fold, on the same folds as those of the model it is compared with.
    calibration_error : float or None
        Of all out-of-fold predictions together; None where numbers are predicted.
    """

    name: str
    scores: Mapping[str, npt.NDArray[np.float64]]
    calibration_error: float | None

    @classmethod
    def of_folds(cls, name: str, folds: list[Fold]) -> Self:
        """The scores of a cross-validation."""
        scores = {metric: np.array([fold.scores[metric] for fold in folds]) for metric in folds[0].scores}
        return cls(name, scores, calibration_error(cross_validation.pool_predictions(folds)))


def calibration_error(predictions: Predictions | NumberPredictions) -> float | None:
    """The expected calibration error; None where numbers are predicted."""
    if isinstance(predictions, NumberPredictions):
        return None
    return METRICS["expected_calibration_error"].score(predictions)


@dataclass(frozen=True)
class Check:
    """One rule, whether a candidate meets it, and a message with value and bound."""

    rule: str
    passed: bool
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


@dataclass(frozen=True)
class Gate:
    """The rules, as `conf/gate/usual.yaml` sets them.

    Parameters
    ----------
    floors : dict of str to float or None
        The worst mean over the folds that each metric may have; None sets no bound.
    better_than_mean : bool
        Of models that predict numbers: whether the error must be less than that of always answering the mean of the
        training rows.
    require : str
        `better`: the candidate must be shown to be better than the champion. `not_worse`: it must be shown not to be
        worse by `margin` or more.
    margin : float
        In the deciding metric's unit.
    alpha : float
        How often a candidate that is not better (or is worse by `margin`) may pass.
    calibration_margin : float
        By how much its expected calibration error may exceed the champion's.
    row_milliseconds : float
        The longest that the prediction of one row may take.
    megabytes : float
        The largest that the stored model may be, in millions of bytes.
    live : str, optional
        `required`: a test on live traffic, at level 1 - `alpha`, must show the same, see `require`.
    """

    floors: dict[str, float | None]
    better_than_mean: bool
    require: str
    margin: float
    alpha: float
    calibration_margin: float
    row_milliseconds: float
    megabytes: float
    live: str | None = None

    def __post_init__(self) -> None:
        faults = []
        if self.require not in REQUIREMENTS:
            faults.append(f"gate.require={self.require}: {did_you_mean(self.require, REQUIREMENTS)}")
        if self.live not in (None, LIVE_REQUIRED):
            faults.append(f"gate.live={self.live}: {LIVE_REQUIRED} is wanted, or null")
        if not 0 < self.alpha < 0.5:
            faults.append(f"gate.alpha={self.alpha}: 0 < alpha < 0.5 must hold")
        faults += [
            f"gate.{name}={getattr(self, name)}: {name} >= 0 must hold"
            for name in ("margin", "calibration_margin", "row_milliseconds", "megabytes")
            if getattr(self, name) < 0
        ]
        unknown = [name for name in self.floors if name not in METRICS and not is_own(name)]
        faults += [f"gate.floors.{name}: {did_you_mean(name, METRICS)}" for name in unknown]
        if faults:
            raise UserError(*faults)

    def check_scores(
        self,
        candidate: ModelScores,
        champion: ModelScores | None,
        *,
        metric: str,
        test_to_train: float,
        metrics: Mapping[str, Metric] = METRICS,
    ) -> list[Check]:
        """The rules about how good a candidate is.

        Parameters
        ----------
        candidate : ModelScores
        champion : ModelScores or None
            None where the alias names nothing yet: only the floors are checked.
        metric : str
            The deciding one.
        test_to_train : float
            See `comparison.corrected_t_test`.
        metrics : mapping of str to Metric, optional
            Those of the target.

        Raises
        ------
        UserError
            A floor is set for a metric that does not apply to the target.
        """
        floors = {name: bound for name, bound in self.floors.items() if bound is not None}
        if missing := [name for name in floors if name not in candidate.scores]:
            raise UserError(*(f"gate.floors.{name}: {did_you_mean(name, candidate.scores)}" for name in missing))
        checks = [_check_floor(name, bound, candidate, metrics[name].direction) for name, bound in floors.items()]
        if self.better_than_mean and f"{BASELINE}{NUMBER_ERROR}" in candidate.scores:
            checks.append(_check_better_than_mean(metric, candidate))
        if champion is not None:
            checks.append(self._check_gain(candidate, champion, metric, metrics[metric].direction, test_to_train))
            checks += self._check_calibration(candidate, champion)
        return checks

    def check_costs(self, *, row_milliseconds: float, size: int) -> list[Check]:
        """The rules about what a model costs to serve: milliseconds for one row, and size in bytes."""
        return [
            _check_at_most("row_milliseconds", row_milliseconds, self.row_milliseconds, "ms for one row"),
            _check_at_most("megabytes", size / 1e6, self.megabytes, "MB"),
        ]

    def check_live(self, test: LiveTest, found: str) -> Check:
        """The rule about a test on live traffic, whose result is said in words in `found`."""
        bound = 0.0 if self.require == "better" else -self.margin
        passed = test.n_labels > 0 and test.low > bound
        return Check("live", passed, found if passed else f"{found}; the interval must lie above {bound:g}")

    def _check_gain(
        self, candidate: ModelScores, champion: ModelScores, metric: str, direction: str, test_to_train: float
    ) -> Check:
        new, old = candidate.scores[metric], champion.scores[metric]
        # A fold on which one of the two failed must not drop out of the comparison.
        if len(new) != len(old) or (np.isnan(new) != np.isnan(old)).any() or np.isfinite(new).sum() < 2:
            message = (
                f"{metric} is a number on {np.isfinite(new).sum()} of {len(new)} folds, {champion.name}'s on "
                f"{np.isfinite(old).sum()} of {len(old)}; both must be on the same folds, at least 2"
            )
            return Check(self.require, passed=False, message=message)
        comparison = corrected_t_test(
            new,
            old,
            direction=direction,
            test_to_train=test_to_train,
            # The comparison's interval is two-sided, this test is one-sided.
            alpha=2 * self.alpha,
        )
        bound = 0.0 if self.require == "better" else -self.margin
        passed = comparison.low > bound
        if np.array_equal(new, old, equal_nan=True):
            message = f"{metric} is the same as {champion.name}'s on every fold"
            remedy = ", and must be shown to be better; with gate.require=not_worse an equal model passes"
            return Check(self.require, passed, message if passed else message + remedy)
        message = (
            f"{metric} is {_gain(abs(comparison.difference))} {'better' if comparison.difference >= 0 else 'worse'} "
            f"than {champion.name}'s on the same folds; at level {self.alpha:g} the gain is more than "
            f"{_gain(comparison.low)}, and must be more than {bound:g}"
        )
        if not passed:
            message += f": short by {_gain(bound - comparison.low)}"
            # Where the gain is the same on every fold, any other gain would be seen at once.
            if comparison.detectable > 0:
                message += (
                    f". On these folds a true gain of {_gain(comparison.detectable + bound)} passes four times in five"
                )
        return Check(self.require, passed, message)

    def _check_calibration(self, candidate: ModelScores, champion: ModelScores) -> list[Check]:
        if candidate.calibration_error is None or champion.calibration_error is None:
            return []
        excess = candidate.calibration_error - champion.calibration_error
        passed = excess <= self.calibration_margin
        message = (
            f"expected calibration error {candidate.calibration_error:.4f}, {champion.name}'s is "
            f"{champion.calibration_error:.4f}, and it may be at most {self.calibration_margin:g} more"
        )
        if not passed:
            message += f": over by {excess - self.calibration_margin:.4f}"
        return [Check("calibration", passed, message)]


def _gain(value: float) -> str:
    """A difference of scores to four decimals, or to two digits where these would be zeros."""
    return f"{value:.4f}" if abs(value) >= 0.00005 else f"{value:.2g}"


def _check_floor(name: str, bound: float, candidate: ModelScores, direction: str) -> Check:
    mean = float(pd.Series(candidate.scores[name]).mean())
    maximize = direction == "maximize"
    passed = mean >= bound if maximize else mean <= bound
    message = f"{mean:.4f}, must be {'at least' if maximize else 'at most'} {bound:g}"
    return Check(f"floors.{name}", passed, message if passed else f"{message}: short by {abs(mean - bound):.4f}")


def _check_better_than_mean(metric: str, candidate: ModelScores) -> Check:
    name = metric if f"{BASELINE}{metric}" in candidate.scores else NUMBER_ERROR
    error, of_mean = (float(np.nanmean(candidate.scores[key])) for key in (name, f"{BASELINE}{name}"))
    message = (
        f"{name} {error:.4g}, must be less than {of_mean:.4g}, which always answering the mean of the training rows has"
    )
    return Check("better_than_mean", error < of_mean, message)


def _check_at_most(rule: str, value: float, bound: float, unit: str) -> Check:
    message = f"{value:.3g} {unit}, must be at most {bound:g}"
    return Check(rule, value <= bound, message if value <= bound else f"{message}: over by {value - bound:.3g}")
