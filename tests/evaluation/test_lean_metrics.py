"""Metrics that are computed with little memory are the usual ones."""

import numpy as np
import pytest

from wineexp.evaluation import lean_metrics
from wineexp.evaluation.metrics import METRICS, score
from wineexp.evaluation.predictions import Predictions


@pytest.mark.parametrize("weighted", [False, True])
def test_they_are_the_usual_figures(monkeypatch: pytest.MonkeyPatch, weighted: bool) -> None:
    monkeypatch.setattr(lean_metrics, "CHUNK_ROWS", 700)
    rng = np.random.default_rng(0)
    # Rounded, so that many rows tie.
    positive = rng.random(5000).round(2)
    y = (rng.random(5000) < positive).astype(np.intp)
    probabilities = np.column_stack([1 - positive, positive])
    weights = rng.integers(0, 3, 5000).astype(float) if weighted else None
    predictions = Predictions(y, probabilities.argmax(axis=1), probabilities, weights=weights)
    names = ["log_loss", "brier_score", "roc_auc", "average_precision", "accuracy"]
    usual = {name: METRICS[name] for name in names}
    found = score(predictions, lean_metrics.with_little_memory(usual))
    assert found == pytest.approx(score(predictions, usual), rel=1e-12)


def test_rows_of_one_class_have_no_area() -> None:
    certain = Predictions(np.zeros(9, dtype=np.intp), np.zeros(9, dtype=np.intp), np.tile([0.7, 0.3], (9, 1)))
    usual = {name: METRICS[name] for name in ("roc_auc", "average_precision")}
    found = score(certain, lean_metrics.with_little_memory(usual))
    assert all(np.isnan(value) for value in found.values())
