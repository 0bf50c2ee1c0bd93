"""Tests and intervals that hold at any time: they may be looked at after every row, and stopped at any of them.

An e-process is the capital of a gambler who starts with 1 and bets against a hypothesis: while the hypothesis is true,
the capital is not expected to grow, whatever was seen so far. It then ever reaches 1 / level with a probability of at
most `level`, however often one looks (Ville's inequality; Ramdas, Grünwald, Vovk & Shafer 2023, "Game-Theoretic
Statistics and Safe Anytime-Valid Inference"). Capitals are given as natural logarithms, log e-values.
"""

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import logsumexp

Floats = npt.NDArray[np.float64]

# The shares of the capital that are staked on each row: from half of it down to what finds that the mean is above the
# bound by a thousandth. They have equal weights, so that betting on all of them costs log(10) = 2.3.
STAKES = 2.0 ** -np.arange(1, 11)
# Into how many parts the range of many values is divided for an interval.
N_VALUE_PARTS = 4096


class MeanTest:
    """An e-process against "the mean of the values stays at or below a bound", for values in [0, 1].

    For each share c of `STAKES` the capital is multiplied by 1 + c (value / bound - 1) with each row (Waudby-Smith &
    Ramdas 2023, "Estimating Means of Bounded Random Variables by Betting"); the e-value is the mean over the shares.
    The mean may rise at any row: a part of the starting capital is held back and put in row by row. This is a mixture
    over the time of the change, as in Shin, Ramdas & Rinaldo 2024, "E-Detectors", with weights that sum to 1, so that
    the probability that there is ever a false alarm is bounded, not only how often there is one.

    The hypothesis is that the expected value of each row, given the rows before it, is at most the bound. Hand in 1 -
    values and 1 - bound for "at or above".

    Parameters
    ----------
    bound : float
        In (0, 1].

    Attributes
    ----------
    n_rows : int
        The values seen so far.
    log_e_value, max_log_e_value : float
        Now, and the greatest after any row so far.

    Raises
    ------
    ValueError
        The bound is not in (0, 1].
    """

    def __init__(self, bound: float) -> None:
        if not 0 < bound <= 1:
            raise ValueError(f"0 < bound <= 1 must hold, but got bound={bound}")
        self.bound = bound
        self.n_rows = 0
        self.log_e_value = self.max_log_e_value = 0.0
        # The logarithm of what was put in and won with each stake, without what is still held back.
        self._log_capitals = np.full(len(STAKES), -np.inf)

    def update(self, values: npt.ArrayLike) -> Floats:
        """The log e-value after each of more values (n_values,), which may be handed in in any portions.

        Raises
        ------
        ValueError
            A value is not in [0, 1].
        """
        rows = unit_values(values)
        if not len(rows):
            return np.empty(0)
        numbers = self.n_rows + np.arange(1, len(rows) + 1)
        log_capitals = bet_from_each_step(_log_factors(rows, self.bound), numbers, self._log_capitals)
        self._log_capitals = log_capitals[-1]
        self.n_rows += len(rows)
        log_e = with_held_back(logsumexp(log_capitals, axis=1) - np.log(len(STAKES)), numbers)
        self.log_e_value = float(log_e[-1])
        self.max_log_e_value = max(self.max_log_e_value, float(log_e.max()))
        return np.asarray(log_e)


def change_row(values: npt.ArrayLike, bound: float) -> int:
    """The row, from 0, from which on a bet on a mean above the bound has won most by the last row: the likely change.

    Parameters
    ----------
    values : array-like of shape (n_values,)
        In [0, 1].
    bound : float
        In (0, 1].
    """
    gains = np.cumsum(_log_factors(unit_values(values), bound), axis=0)
    won = gains[-1] - np.vstack([np.zeros(len(STAKES)), gains[:-1]])
    return int(np.unravel_index(won.argmax(), won.shape)[0])


def _log_factors(values: Floats, bound: float) -> Floats:
    """By what each value multiplies the capital that is bet with each stake, as logarithms: (n_values, n_stakes)."""
    return np.log1p(STAKES * (values[:, None] / bound - 1))


def bet_from_each_step(log_factors: Floats, steps: npt.ArrayLike, log_capitals: npt.ArrayLike = -np.inf) -> Floats:
    """The log of the capital of gamblers who put in `start_weights` at each step, after each step.

    Parameters
    ----------
    log_factors : ndarray of shape (n_steps, ...)
        By what each step multiplies each gambler's capital.
    steps : array-like of int of shape (n_steps,)
        Their numbers, from 1.
    log_capitals : array-like of shape (...)
        What the gamblers have before the first of them.

    Returns
    -------
    ndarray of shape (n_steps, ...)
    """
    gains = np.cumsum(log_factors, axis=0)
    # Capital that is put in at a step grows by the gains from it on: those of all steps less those before it.
    weights = np.log(start_weights(steps)).reshape(-1, *[1] * (gains.ndim - 1))
    put_in = weights - np.concatenate([np.zeros_like(gains[:1]), gains[:-1]])
    put_in[0] = np.logaddexp(put_in[0], log_capitals)
    return np.asarray(gains + np.logaddexp.accumulate(put_in, axis=0))


def with_held_back(log_capitals: Floats, steps: npt.ArrayLike) -> Floats:
    """The log e-values, (n_steps,): the capital after each step and what is not put in yet."""
    return np.logaddexp(log_capitals, np.log(_held_back(steps)))


def start_weights(rows: npt.ArrayLike) -> Floats:
    """The prior weight of a change at each row, counted from 1; over all rows they sum to 1.

    About 1 / (row log(row)^2), which decreases nearly as slowly as a sum allows: a change after a million rows costs
    19 of the log e-value.
    """
    numbers = np.asarray(rows, dtype=float)
    return _held_back(numbers - 1) - _held_back(numbers)


def _held_back(rows: npt.ArrayLike) -> Floats:
    """What of the starting capital 1 is not put in yet after so many rows."""
    return np.asarray(1 / (1 + np.log1p(np.asarray(rows, dtype=float))))


def unit_values(values: npt.ArrayLike) -> Floats:
    """The values as an array (n_values,) of numbers in [0, 1]; ValueError for others."""
    array = np.asarray(values, dtype=float)
    outside = array[~((array >= 0) & (array <= 1))]
    if len(outside):
        raise ValueError(f"values must be in [0, 1], but {len(outside)} are not, such as {outside[0]}")
    return array


def mean_interval(values: npt.ArrayLike, level: float = 0.95, low: float = 0, high: float = 1) -> tuple[float, float]:
    """The interval of the mean of bounded values that holds at any time: at all rows at once with probability `level`.

    The means that neither a bet on more nor one on less has refuted so far (the hedged capital of Waudby-Smith & Ramdas
    2023, section 4.4, with a mixture over stakes in place of a predicted one).

    Parameters
    ----------
    values : array-like of shape (n_values,)
    level : float
        In (0, 1).
    low, high : float
        The least and the greatest value that there can be.

    Raises
    ------
    ValueError
        A value is out of its range.
    """
    scaled = unit_values((np.asarray(values, dtype=float) - low) / (high - low))
    below, above = _lower_limit(scaled, (1 - level) / 2), 1 - _lower_limit(1 - scaled, (1 - level) / 2)
    return low + (high - low) * below, low + (high - low) * above


def _lower_limit(values: Floats, level: float) -> float:
    """The least mean that a bet on a greater one has not refuted at this level; the capital falls as the mean grows."""
    if not len(values) or not values.sum():
        return 0.0
    # Each different value is computed once; those of many are rounded down, which makes the limit a little lower.
    rounded = values if len(values) <= N_VALUE_PARTS else np.floor(values * N_VALUE_PARTS) / N_VALUE_PARTS
    different, counts = np.unique(rounded, return_counts=True)

    def excess(mean: float) -> float:
        gains = counts @ np.log1p(STAKES * (different[:, None] / mean - 1))
        return float(logsumexp(gains) - np.log(len(STAKES)) + np.log(level))

    # With a mean of 1 no bet has won; with one near 0 any value above 0 has.
    return float(brentq(excess, 1e-12, 1.0)) if excess(1e-12) > 0 else 0.0


def difference_values(values: npt.ArrayLike, in_second: npt.ArrayLike, share: float) -> Floats:
    """One value per row whose expected value is the second stream's mean less the first's, for `mean_interval`.

    For rows that were sent to the second of two streams with a known probability, whatever came before (inverse
    propensity weighting: Horvitz & Thompson 1952), less the mean of the rows before, which costs nothing and makes the
    interval narrow. `difference_range` says between which ends they lie.

    Parameters
    ----------
    values : array-like of shape (n_rows,)
        In [0, 1], in the order in which they became known.
    in_second : array-like of bool of shape (n_rows,)
        Whether the row was sent to the second stream.
    share : float
        The probability of that, in (0, 1).
    """
    rows, second = unit_values(values), np.asarray(in_second, dtype=bool)
    # The mean of the rows before, with half a row of each end as a start.
    before = (np.cumsum(rows) - rows + 0.5) / np.arange(1, len(rows) + 1)
    return np.asarray((rows - before) * np.where(second, 1 / share, -1 / (1 - share)))


def difference_range(share: float) -> tuple[float, float]:
    """The least and the greatest that `difference_values` can be."""
    greatest = max(1 / share, 1 / (1 - share))
    return -greatest, greatest


def e_benjamini_hochberg(log_e_values: npt.ArrayLike, level: float) -> npt.NDArray[np.bool_]:
    """Which hypotheses are refuted, of which a share of at most `level` is expected to be true: shape (n_hypotheses,).

    Wang & Ramdas 2022, "False Discovery Rate Control with E-Values": the k greatest e-values, with the greatest k for
    which the k-th is at least n_hypotheses / (level k). It holds whatever the dependence between them.
    """
    log_e = np.asarray(log_e_values, dtype=float)
    descending = np.sort(log_e)[::-1]
    needed = np.log(len(log_e) / level) - np.log(np.arange(1, len(log_e) + 1))
    passed = np.flatnonzero(descending >= needed)
    return np.asarray(log_e >= descending[passed[-1]]) if len(passed) else np.zeros(len(log_e), dtype=bool)
