"""The loss of single answers, by the deciding metric."""

import numpy as np
import pandas as pd
import pytest

from wineexp.monitoring.row_loss import RowLoss

CLASSES = ("3", "5", "8")
ROWS = pd.DataFrame(
    {
        "truth": ["5", "8", "5"],
        "decision": ["5", "3", "3"],
        "probability.3": [0.1, 0.9, 0.6],
        "probability.5": [0.8, 0.1, 0.4],
        "probability.8": [0.1, 0.0, 0.0],
    }
)


@pytest.mark.parametrize(
    ("metric", "losses", "limit", "is_metric"),
    [
        ("accuracy", [0, 1, 1], 1, True),
        ("f1_macro", [0, 1, 1], 1, False),
        ("mean_absolute_error", [0, 5, 2], 5, True),
        ("quadratic_weighted_kappa", [0, 25, 4], 25, False),
        ("accuracy_within_1", [0, 1, 1], 1, True),
        ("brier_score", [0.06, 1.82, 0.72], 2, True),
        ("roc_auc", [0.06, 1.82, 0.72], 2, False),
        ("log_loss", [-np.log(0.8), -np.log(0.01), -np.log(0.4)], -np.log(0.01), True),
    ],
)
def test_losses_of_classes(metric: str, losses: list[float], limit: float, is_metric: bool) -> None:
    loss = RowLoss.of_classes(metric, CLASSES)
    assert loss.of(ROWS) == pytest.approx(losses)
    assert (loss.limit, loss.is_metric) == (pytest.approx(limit), is_metric)


def test_costs_are_those_of_the_target() -> None:
    costs = [[0, 1, 2], [10, 0, 3], [50, 20, 0]]
    loss = RowLoss.of_classes("cost", CLASSES, costs)
    assert (loss.of(ROWS).tolist(), loss.limit) == ([0, 50, 10], 50)


def test_large_errors_of_numbers_are_cut_off() -> None:
    rows = pd.DataFrame({"truth": [5.0, 6.0, np.nan], "number": [5.5, 60.0, 1.0]})
    loss = RowLoss.of_numbers("root_mean_squared_error", np.full(100, 2.0))
    assert loss.has_truth(rows).tolist() == [True, True, False]
    assert (loss.of(rows[:2]).tolist(), loss.limit, loss.is_metric) == ([0.25, 4.0], 4.0, True)
    assert RowLoss.of_numbers("median_absolute_error", np.full(100, 2.0)).of(rows[:2]).tolist() == [0.5, 2.0]


def test_a_truth_that_is_none_of_the_classes_is_known_as_such() -> None:
    assert RowLoss.of_classes("accuracy", CLASSES).has_truth(ROWS.assign(truth=["5", "9", None])).tolist() == [
        True,
        False,
        False,
    ]
