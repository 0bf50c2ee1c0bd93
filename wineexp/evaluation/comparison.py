"""Statistical comparison of two models by their scores on the same folds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

# Unless another level is chosen, an interval holds the true value with probability 1 - ALPHA.
ALPHA = 0.05
# Power of the test at the gain that is called detectable.
POWER = 0.8


@dataclass(frozen=True)
class Comparison:
    """Result of comparing the scores of two models on the same folds.

    Attributes
    ----------
    difference : float
        Mean gain of the first model over the second, in the metric's unit: positive where the first is better, whether
        the metric is to be maximized or minimized.
    low, high : float
        Confidence interval of the difference, at level 1 - alpha.
    p_value : float
        One-sided; the null hypothesis is that the first model is not better.
    detectable : float
        The true gain whose interval would lie above 0 with probability `POWER`, given the variance over these folds.
    verdict : str
        On the first model: "better", "worse" or "no difference shown", as the interval lies above, below or around 0.
    """

    difference: float
    low: float
    high: float
    p_value: float
    detectable: float
    verdict: str


def compare_folds(
    scores: Sequence[float], reference: Sequence[float], *, direction: str, test_to_train: float
) -> Comparison | None:
    """A model's scores by fold compared with those of a reference, at level 1 - `ALPHA`.

    None where fewer than two folds have a score of both; see `corrected_t_test`.
    """
    first, second = np.array(scores, dtype=float), np.array(reference, dtype=float)
    if len(first) == len(second) and (~np.isnan(first - second)).sum() < 2:
        return None
    return corrected_t_test(first, second, direction=direction, test_to_train=test_to_train, alpha=ALPHA)


def mean_interval(scores: npt.NDArray[np.float64], *, test_to_train: float, alpha: float) -> tuple[float, float]:
    """The interval, at level 1 - alpha, of the mean of the scores of folds (n_folds,); see `corrected_t_test`."""
    beyond_zero = corrected_t_test(
        scores, np.zeros_like(scores), direction="maximize", test_to_train=test_to_train, alpha=alpha
    )
    return beyond_zero.low, beyond_zero.high


def corrected_t_test(
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
    half_width = float(stats.t.ppf(1 - alpha / 2, freedom)) * error
    low, high = mean - half_width, mean + half_width
    # Where all folds have the same gain, its sign decides.
    p_value = float(stats.t.sf(mean / error, freedom)) if error > 0 else float(mean <= 0)
    return Comparison(
        difference=mean,
        low=low,
        high=high,
        p_value=p_value,
        detectable=float(stats.t.ppf(1 - alpha / 2, freedom) + stats.t.ppf(POWER, freedom)) * error,
        verdict="better" if low > 0 else "worse" if high < 0 else "no difference shown",
    )
