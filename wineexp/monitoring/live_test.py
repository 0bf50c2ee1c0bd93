"""Which of two versions is better on live traffic, from labels that come one after the other.

Each label gives one gain: in shadow mode, where both versions answered the row, the champion's loss less the
challenger's; in split mode, where one of them did, the value of `sequential.difference_values`, whose expected value is
the challenger's gain. A gambler bets on a gain with a mixture of stakes (see `sequential`); what it would refute is
outside of the interval. Since all of this holds at any time, one may look after every label and stop at any of them.

Where a loss is 0 or 1, right or wrong, a stake c multiplies the capital by 1 + c where the challenger alone was right,
by 1 - c where the champion alone was, and leaves it where they agree: so only discordant pairs count, and the mixture
is one over the probability (1 + c) / 2 that the challenger wins such a pair, by a beta distribution of c.

A verdict "better" leads to a promotion, and gets most of the probability of an error; see `BETTER_SHARE`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import logsumexp

Floats = npt.NDArray[np.float64]

BETTER, WORSE, GO_ON = VERDICTS = ("better", "worse", "go on")

# Of the probability of a wrong verdict, the share of "better"; the rest is that of "worse", which needs more labels.
BETTER_SHARE = 0.8
# Parameters of the beta distribution of stakes, which bets best on 0.1 to 0.4, and how many points stand for it.
PRIOR, N_STAKES = (3, 8), 24
# A share of the capital goes to small stakes, each half of the one before, which find small gains in long streams.
SMALL_SHARE, SMALL_STAKES = 0.05, 2.0 ** -np.arange(4, 11)
# Gains are rounded to so many parts of their range, towards the hypothesis: equal ones are then computed once.
N_PARTS = 2**17


def _stakes() -> tuple[Floats, Floats]:
    """Stakes in (0, 1), and the logarithms of their weights, whose sum is 1."""
    grid = (np.arange(N_STAKES) + 0.5) / N_STAKES
    density = grid ** (PRIOR[0] - 1) * (1 - grid) ** (PRIOR[1] - 1)
    small = np.full(len(SMALL_STAKES), SMALL_SHARE / len(SMALL_STAKES))
    weights = np.concatenate([(1 - SMALL_SHARE) * density / density.sum(), small])
    return np.concatenate([grid, SMALL_STAKES]), np.log(weights)


STAKES, LOG_WEIGHTS = _stakes()


@dataclass(frozen=True)
class LiveTest:
    """What the labels so far say about the challenger's gain: how much less its loss is than the champion's.

    Attributes
    ----------
    verdict : str
        `better` where the interval lies above 0, `worse` where it lies below, `go on` otherwise.
    gain : float
        The mean so far; NaN without any label.
    low, high : float
        The interval of the true gain. With a probability of at least `level` it holds after all labels at once, so that
        a verdict without a true difference is ever given with one of at most 1 - level.
    n_labels : int
    level : float
    needed : dict of float to int
        How many labels more a true gain of each size needs until the verdict is `better`, in about half of the cases.
    """

    verdict: str
    gain: float
    low: float
    high: float
    n_labels: int
    level: float
    needed: dict[float, int]


def live_test(gains: npt.ArrayLike, *, limit: float, level: float, sizes: tuple[float, ...] = ()) -> LiveTest:
    """Test the gains so far.

    Parameters
    ----------
    gains : array-like of shape (n_labels,)
        In any order: it does not matter which label came first.
    limit : float
        The greatest that a gain can be, and with a minus the least.
    level : float
        Of the interval, in (0, 1).
    sizes : tuple of float
        Gains of which the number of labels is wanted.

    Raises
    ------
    ValueError
        A gain is beyond the limit.
    """
    values = np.asarray(gains, dtype=float)
    if (np.abs(values) > limit * (1 + 1e-9)).any():
        raise ValueError(f"gains must be within {limit} of 0, but there is {values[np.abs(values).argmax()]}")
    scaled = np.clip(values / limit, -1, 1)
    tail = (1 - level) * BETTER_SHARE
    low, high = limit * _lower_limit(scaled, tail), -limit * _lower_limit(-scaled, 1 - level - tail)
    return LiveTest(
        verdict=BETTER if low > 0 else WORSE if high < 0 else GO_ON,
        gain=float(values.mean()) if len(values) else float("nan"),
        low=low,
        high=high,
        n_labels=len(values),
        level=level,
        needed={size: labels_needed(scaled, size / limit, tail) for size in sizes} if len(values) else {},
    )


def log_e_value(gains: Floats, mean: float = 0.0) -> float:
    """The log e-value of "the expected gain is at most `mean`", from gains (n_labels,) in [-1, 1]."""
    values, counts = _counted(gains)
    return float(logsumexp(_log_capitals(values, counts, mean) + LOG_WEIGHTS))


def labels_needed(gains: Floats, size: float, tail: float) -> int:
    """How many more labels with an expected gain of `size` bring the capital to 1 / tail, if all goes as expected.

    The labels to come are taken to vary as those so far, (n_labels,) in [-1, 1]; 0 where there is no need of more.
    """
    values, counts = _counted(gains)
    capitals = _log_capitals(values, counts, 0.0)
    shifted = values - np.average(values, weights=counts) + size
    growth = np.average(np.log(np.maximum(1 + STAKES * shifted[:, None], 1e-12)), axis=0, weights=counts)

    def missing(n_labels: float) -> float:
        return float(-np.log(tail) - logsumexp(capitals + n_labels * growth + LOG_WEIGHTS))

    if missing(0) <= 0:
        return 0
    most = 1.0
    while missing(most) > 0:
        most *= 2
        if most > 1e12:
            # No stake grows: the gain is smaller than the smallest stake can find.
            raise ValueError(f"a gain of {size:g} of the greatest possible one is too small to be found")
    return int(np.ceil(brentq(missing, 0, most)))


def _counted(gains: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    """The different gains, rounded down, and how often each occurs."""
    return np.unique(np.floor(gains * N_PARTS) / N_PARTS, return_counts=True)


def _log_capitals(values: Floats, counts: npt.NDArray[np.intp], mean: float) -> Floats:
    """The logarithm of what each stake has made of 1, betting that the expected gain is more than a mean in (-1, 1].

    A gain, moved to [0, 1], is compared with the moved mean: 1 + c (value / mean - 1), as in `sequential.MeanTest`.
    """
    ratios = (values + 1) / (mean + 1) - 1
    return np.asarray(counts @ np.log1p(STAKES * ratios[:, None]))


def _lower_limit(gains: Floats, tail: float) -> float:
    """The least expected gain that is not refuted at level `tail`; the capital falls as the mean grows."""
    if not len(gains) or gains.max() <= -1:
        return -1.0
    values, counts = _counted(gains)

    def excess(mean: float) -> float:
        return float(logsumexp(_log_capitals(values, counts, mean) + LOG_WEIGHTS) + np.log(tail))

    least = -1 + 1e-9
    return float(brentq(excess, least, 1.0, xtol=1e-12)) if excess(least) > 0 else -1.0
