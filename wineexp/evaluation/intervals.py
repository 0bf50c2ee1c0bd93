"""Prediction intervals of numbers, by cross-conformal prediction (Vovk 2015, "Cross-conformal predictors").

The errors of out-of-fold predictions say how far off a prediction for another row may be. They are taken from rows with
a prediction of about the same size (Bostrom & Johansson 2020, "Mondrian conformal regressors"), so that intervals are
wider where errors are larger, and for each end by itself, so that they need not be symmetric.
"""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# The share of rows whose interval is to hold the true number.
COVERAGE = 0.9
# Rows that a bin has at least, and the most bins: the ends of an interval are quantiles of a bin's errors.
MIN_BIN_ROWS, MAX_BINS = 100, 10
# With fewer rows no error is so large that another row's is larger less often than in a twentieth of the cases.
MIN_ROWS = 19


@dataclass(frozen=True)
class ErrorDistribution:
    """The errors of predictions of rows that the model was not trained on.

    Attributes
    ----------
    edges : ndarray of shape (n_bins - 1,)
        The greatest prediction in each bin but the last, ascending.
    errors : list of n_bins ndarrays
        True less predicted numbers of each bin, ascending.
    weights : list of n_bins ndarrays
        How much each of these errors counts, 1 on average within its bin.
    """

    edges: Floats
    errors: list[Floats]
    weights: list[Floats] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Let every error count the same where no weights are given."""
        if not self.weights:
            object.__setattr__(self, "weights", [np.ones(len(errors)) for errors in self.errors])

    @classmethod
    def of(cls, y: Floats, predicted: Floats, n_rows: int, weights: Floats | None = None) -> Self | None:
        """From true and predicted numbers (n_predictions,) of so many rows; None for fewer than `MIN_ROWS`.

        Errors count as often as the weights (n_predictions,) of their rows say, where there are any.
        """
        if n_rows < MIN_ROWS:
            return None
        n_bins = min(MAX_BINS, max(1, n_rows // MIN_BIN_ROWS))
        edges = np.unique(np.quantile(predicted, np.arange(1, n_bins) / n_bins, method="inverted_cdf"))
        # The last bin begins above its edge.
        edges = edges[edges < predicted.max()]
        bins = np.searchsorted(edges, predicted)
        actual = y - predicted
        order = np.argsort(actual, kind="stable")
        in_bins = [order[bins[order] == number] for number in range(len(edges) + 1)]
        counted = None if weights is None else [weights[rows] / weights[rows].mean() for rows in in_bins]
        return cls(edges, [actual[rows] for rows in in_bins], counted or [])

    def offsets(self) -> tuple[Floats, Floats]:
        """What the ends of the intervals of each bin are away from the prediction: two arrays of shape (n_bins,).

        Of n errors the k-th smallest with k = floor((1 - COVERAGE) / 2 (n + 1)), and the k-th largest: another row's
        error is beyond either with a probability of at most k / (n + 1). Weighted errors are counted by their weights.
        """
        low, high = [], []
        for errors, weights in zip(self.errors, self.weights, strict=True):
            # Rounded, since 0.05 times 20 is not 1 in floating point.
            k = max(1, int(np.floor(round((1 - COVERAGE) / 2 * (len(errors) + 1), 9))))
            low.append(kth_value(errors, weights, k))
            high.append(kth_value(errors[::-1], weights[::-1], k))
        return np.array(low), np.array(high)

    def intervals(self, predicted: Floats) -> tuple[Floats, Floats]:
        """The lower and upper ends of the intervals of predictions, all of shape (n_samples,)."""
        bins = np.searchsorted(self.edges, predicted)
        low, high = self.offsets()
        return predicted + low[bins], predicted + high[bins]

    def crps(self, y: Floats, predicted: Floats) -> Floats:
        """The continuous ranked probability score of each prediction plus its bin's errors: shape (n_samples,).

        Gneiting & Raftery 2007, "Strictly Proper Scoring Rules", equation 21: the mean distance of the distribution
        from the true number, less half the mean distance between two draws from it.
        """
        bins, actual = np.searchsorted(self.edges, predicted), y - predicted
        scores = np.empty(len(y))
        for number, (errors, weights) in enumerate(zip(self.errors, self.weights, strict=True)):
            mask = bins == number
            # How much is below, and its sum, give the mean distance without a loop over the errors.
            n_below = np.searchsorted(errors, actual[mask])
            counts = np.concatenate([[0.0], np.cumsum(weights)])
            sums, n = np.concatenate([[0.0], np.cumsum(weights * errors)]), counts[-1]
            distance = actual[mask] * (2 * counts[n_below] - n) + sums[-1] - 2 * sums[n_below]
            spread = 2 * np.sum((2 * counts[1:] - weights - n) * weights * errors) / n**2
            scores[mask] = distance / n - spread / 2
        return scores


def kth_value(values: Floats, weights: Floats, k: int) -> float:
    """The value at which k rows are reached, each of which counts as often as its weight says.

    Parameters
    ----------
    values, weights : ndarrays of shape (n_samples,)
        In the order in which they are counted; the weights are 1 on average.
    k : int
        From 1 to n_samples.
    """
    # Rounded, since ten weights of 0.1 add up to less than 1 in floating point.
    return float(values[np.searchsorted(np.round(np.cumsum(weights), 9), k)])


def pinball_losses(y: Floats, low: Floats, high: Floats) -> Floats:
    """The mean pinball loss of the two ends of each interval, as quantiles: shape (n_samples,).

    Koenker & Bassett 1978, "Regression Quantiles".
    """
    tail = (1 - COVERAGE) / 2
    losses = [
        np.maximum(share * (y - quantile), (share - 1) * (y - quantile))
        for share, quantile in ((tail, low), (1 - tail, high))
    ]
    return np.asarray(np.mean(losses, axis=0))
