"""Limits of means and shares from samples whose size was set beforehand, such as a training set."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import betaincinv

from wineexp.monitoring.sequential import unit_values

Floats = npt.NDArray[np.float64]


def fixed_sample_limit(values: npt.ArrayLike, level: float) -> float:
    """An upper limit of the mean that independent values in [0, 1] come from, too low with probability `level` at most.

    For a sample whose size was set beforehand, such as a training set. The empirical Bernstein bound of Maurer & Pontil
    2009 ("Empirical Bernstein Bounds and Sample Variance Penalization", theorem 4), or the Chernoff bound of Hoeffding
    1963 ("Probability Inequalities for Sums of Bounded Random Variables", theorem 1) where that is less, each at half
    the level.

    Parameters
    ----------
    values : array-like of shape (n_values,)
    level : float
        In (0, 1).
    """
    array = unit_values(values)
    if len(array) < 2:
        return 1.0
    return limit_of_mean(len(array), float(array.mean()), float(array.var(ddof=1)), level)


def limit_of_mean(n_values: int, mean: float, variance: float, level: float) -> float:
    """As `fixed_sample_limit`, from the number of values, their mean and their variance (n - 1)."""
    if n_values < 2:
        return 1.0
    # Each of the two bounds has half the level, and Bernstein's has two cases of its own.
    log_bernstein, log_chernoff = np.log(4 / level), np.log(2 / level)
    bernstein = np.sqrt(2 * variance * log_bernstein / n_values) + 7 * log_bernstein / (3 * (n_values - 1))
    return float(min(1.0, mean + bernstein, _chernoff_limit(mean, log_chernoff / n_values)))


def _chernoff_limit(mean: float, divergence: float) -> float:
    """The greatest expected value from which the divergence of this mean, as that of two coins, is no greater."""

    def excess(limit: float) -> float:
        of_values = mean * np.log(mean / limit) if mean else 0.0
        rest = (1 - mean) * np.log((1 - mean) / (1 - limit)) if mean < 1 else 0.0
        return float(of_values + rest - divergence)

    greatest = 1 - 1e-12
    return float(brentq(excess, max(mean, 1e-15), greatest)) if mean < greatest and excess(greatest) > 0 else 1.0


def fixed_share_limits(n_hits: npt.ArrayLike, n_rows: npt.ArrayLike, level: npt.ArrayLike) -> tuple[Floats, Floats]:
    """The exact interval of the probability of a hit, from n_hits in n_rows; each end is wrong with half of `level`.

    Clopper & Pearson 1934, for numbers of rows that were set beforehand. The arguments' shapes are broadcast.
    """
    hits, rows, half = np.asarray(n_hits, dtype=float), np.asarray(n_rows, dtype=float), np.asarray(level) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(hits > 0, betaincinv(hits, rows - hits + 1, half), 0.0)
        high = np.where(hits < rows, betaincinv(hits + 1, rows - hits, 1 - half), 1.0)
    return low, high
