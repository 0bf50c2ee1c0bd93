"""Whether one model is better than another on the same folds, and how sure one can be of it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

# How often a gain of the size that is called detectable is found.
POWER = 0.8


@dataclass(frozen=True)
class Comparison:
    """What two models' scores on the same folds say.

    Attributes
    ----------
    difference : float
        By how much the first is better than the second, on average over the folds, in the metric's unit; negative
        where it is worse, whichever way the metric is better.
    low, high : float
        The interval around it that holds the true difference with probability 1 - alpha.
    p_value : float
        Of the first not being better (one-sided).
    detectable : float
        The gain that would be shown, the interval lying above 0, with probability `POWER`, given how much these folds
        disagree.
    verdict : str
        Of the first: "better", "worse" or "no difference shown", as the interval lies above, below or around 0.
    """

    difference: float
    low: float
    high: float
    p_value: float
    detectable: float
    verdict: str


def paired(
    first: npt.NDArray[np.float64],
    second: npt.NDArray[np.float64],
    *,
    direction: str,
    test_to_train: float,
    alpha: float,
) -> Comparison:
    """The corrected resampled t-test: Nadeau and Bengio 2003, "Inference for the Generalization Error", section 3.

    Folds share training rows, so their differences vary less than those of independent samples would; the variance
    of the mean is taken as (1 / n_folds + n_test / n_train) times the variance over the folds.

    Parameters
    ----------
    first, second : ndarrays of shape (n_folds,)
        Scores on the same folds, in the same order; a fold that is NaN in either is left out.
    direction : str
        `maximize` or `minimize`: which way the metric is better.
    test_to_train : float
        Test rows of a fold over its training rows.
    alpha : float
        In (0, 1).

    Raises
    ------
    ValueError
        The scores differ in number, or fewer than two folds are left.
    """
    if len(first) != len(second):
        raise ValueError(f"scores of the same folds are wanted, but got {len(first)} and {len(second)} of them")
    gains = (first - second) * (1 if direction == "maximize" else -1)
    gains = gains[~np.isnan(gains)]
    if len(gains) < 2:
        raise ValueError(f"at least 2 folds are wanted, but {len(gains)} have a score in both")
    mean = float(gains.mean())
    error = float(np.sqrt((1 / len(gains) + test_to_train) * gains.var(ddof=1)))
    freedom = len(gains) - 1
    reach = float(stats.t.ppf(1 - alpha / 2, freedom)) * error
    low, high = mean - reach, mean + reach
    # Folds that all agree leave no doubt: better everywhere, or not.
    p_value = float(stats.t.sf(mean / error, freedom)) if error > 0 else float(mean <= 0)
    return Comparison(
        difference=mean,
        low=low,
        high=high,
        p_value=p_value,
        detectable=float(stats.t.ppf(1 - alpha / 2, freedom) + stats.t.ppf(POWER, freedom)) * error,
        verdict="better" if low > 0 else "worse" if high < 0 else "no difference shown",
    )
