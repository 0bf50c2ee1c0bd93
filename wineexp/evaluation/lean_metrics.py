"""The metrics whose usual computation takes many times the memory of the predictions, computed with little of it.

They are the same figures up to the last bits, which depend on the order of sums.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from wineexp.evaluation.metrics import Metric
from wineexp.evaluation.predictions import NumberPredictions, Predictions

# Rows that are looked at in one go.
CHUNK_ROWS = 1 << 20

# Metrics that are means over the rows.
MEANS = ("log_loss", "brier_score")


def with_little_memory(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """The metrics, by name, those among them computed so that have a way here."""
    lean: dict[str, Callable[[Any], float]] = {
        name: _mean_of_chunks(metric.score) for name, metric in metrics.items() if name in MEANS
    }
    lean |= {
        name: _of_positives(figure, metrics[name].score) for name, figure in OF_POSITIVES.items() if name in metrics
    }
    return {name: replace(metric, score=lean.get(name, metric.score)) for name, metric in metrics.items()}


def roc_auc(positives: npt.NDArray[np.float64], negatives: npt.NDArray[np.float64]) -> float:
    """The area under the ROC curve: how often a positive row scores more than a negative one, ties counting one half.

    Mann, Whitney 1947. The scores are sorted; they are of shapes (n_positives,) and (n_negatives,).
    """
    below = sum(
        int(np.searchsorted(negatives, chunk, side).sum()) for chunk in _chunks(positives) for side in ("left", "right")
    )
    return below / 2 / (len(positives) * len(negatives))


def average_precision(positives: npt.NDArray[np.float64], negatives: npt.NDArray[np.float64]) -> float:
    """The mean, over the positive rows, of the precision among the rows that score at least as much as each.

    As scikit-learn's, and of sorted scores as `roc_auc`.
    """
    total = 0.0
    for chunk in _chunks(positives):
        n_positives = len(positives) - np.searchsorted(positives, chunk)
        total += float((n_positives / (n_positives + len(negatives) - np.searchsorted(negatives, chunk))).sum())
    return total / len(positives)


OF_POSITIVES = {"roc_auc": roc_auc, "average_precision": average_precision}


def _of_positives(
    figure: Callable[..., float], usual: Callable[[Any], float]
) -> Callable[[Predictions | NumberPredictions], float]:
    """A figure from the second class's probabilities; the usual one where rows have weights or are of one class."""

    def score(predictions: Predictions | NumberPredictions) -> float:
        is_positive = predictions.y == 1
        if isinstance(predictions, NumberPredictions) or predictions.weights is not None:
            return usual(predictions)
        if is_positive.all() or not is_positive.any():
            return usual(predictions)
        scores = predictions.probabilities[:, 1]
        return figure(np.sort(scores[is_positive]), np.sort(scores[~is_positive]))

    return score


def _mean_of_chunks(usual: Callable[[Any], float]) -> Callable[[Predictions | NumberPredictions], float]:
    """A metric that is a mean over the rows, as the mean of those of chunks of them."""

    def score(predictions: Predictions | NumberPredictions) -> float:
        total, total_weight = 0.0, 0.0
        for rows in _chunks(np.arange(len(predictions.y))):
            part = predictions.select(rows)
            weight = float(len(rows) if part.weights is None else part.weights.sum())
            if weight:
                total, total_weight = total + weight * usual(part), total_weight + weight
        return total / total_weight

    return score


def _chunks(values: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    for start in range(0, len(values), CHUNK_ROWS):
        yield values[start : start + CHUNK_ROWS]
