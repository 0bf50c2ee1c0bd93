"""Prediction sets: thresholds worked out by hand, and coverage on rows that neither fit nor calibration saw."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from tests.conftest import new_database
from wineexp import compose, train
from wineexp.data.split import CopiesTogetherKFold
from wineexp.evaluation.calibration import coverage_by_class
from wineexp.evaluation.metrics import score
from wineexp.evaluation.predictions import Predictions
from wineexp.models.conformal import ConformalClassifier, _set_threshold
from wineexp.models.decision import LossClassifier
from wineexp.models.pipeline import FixedClassesClassifier

CV = CopiesTogetherKFold(folds=5, random_state=0)


def draw_rows(seed: int, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Three classes, of which the last is rare and hard to separate from the second."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, n_rows, p=[0.3, 0.6, 0.1])
    return np.c_[np.array([0, 1.5, 2.0])[y] + rng.normal(0, 1, n_rows), rng.normal(0, 1, n_rows)], y


@pytest.mark.parametrize(
    ("n_rows", "share", "rank"),
    # With a coverage of 0.9, the floor of 0.1 (n + 1) is 0 for 8 rows, 1 from 9 rows on and 2 from 19 rows on.
    [(8, 0.9, None), (9, 0.9, 0), (18, 0.9, 0), (19, 0.9, 1), (99, 0.9, 9), (9, 0.8, 1), (1, 0.5, 0)],
)
def test_a_threshold_by_hand(n_rows: int, share: float, rank: int | None) -> None:
    probabilities = np.random.default_rng(0).permutation(np.arange(1, n_rows + 1) / (n_rows + 1))
    expected = 0 if rank is None else (rank + 1) / (n_rows + 1)
    assert _set_threshold(probabilities, np.ones(n_rows), share) == expected
    # Rows of no weight do not count, and it does not matter in which unit weights are.
    more, weights = np.append(probabilities, [0.0, 1.0]), np.append(np.full(n_rows, 3.0), [0.0, 0.0])
    assert _set_threshold(more, weights, share) == expected


def test_a_row_counts_for_a_threshold_as_often_as_its_weight_says() -> None:
    probabilities = np.arange(1, 20) / 20
    # Of 19 rows with a coverage of 0.6, 8 may be below: the first ones, of which one counts for seven of 25.
    weights = np.where(probabilities == 0.15, 7.0, 1.0)
    assert _set_threshold(probabilities, weights, 0.6) == probabilities[4]
    assert _set_threshold(probabilities, np.ones(19), 0.6) == probabilities[7]


def test_the_sets_cover_each_class_as_often_as_requested() -> None:
    shares = []
    for seed in range(8):
        fitted = FixedClassesClassifier(ConformalClassifier(LogisticRegression(), 0.9, CV), [0, 1, 2]).fit(
            *draw_rows(seed, 600)
        )
        X, y = draw_rows(seed + 100, 3000)
        sets = fitted.prediction_sets(fitted.predict_proba(X))
        shares.append([sets[y == code, code].mean() for code in range(3)])
    np.testing.assert_allclose(np.mean(shares, axis=0), 0.9, atol=0.02)


def test_one_threshold_for_all_classes_would_not_cover_the_rare_one() -> None:
    """The reason for one threshold per class."""
    X, y = draw_rows(0, 3000)
    of_true_class = LogisticRegression().fit(X, y).predict_proba(X)[range(len(y)), y]
    threshold = np.quantile(of_true_class, 0.1)
    assert (of_true_class[y == 2] >= threshold).mean() < 0.6


def test_a_class_of_few_rows_or_none_is_in_every_set() -> None:
    X, y = draw_rows(0, 200)
    chosen = np.flatnonzero((y != 2) | (np.cumsum(y == 2) <= 5))
    fitted = FixedClassesClassifier(ConformalClassifier(LogisticRegression(), 0.9, CV), [0, 1, 2, 3]).fit(
        X[chosen], y[chosen]
    )
    sets = fitted.prediction_sets(fitted.predict_proba(X))
    assert sets[:, [2, 3]].all()
    assert not sets[:, 0].all()


def test_probabilities_and_decisions_are_the_estimators_own() -> None:
    X, y = draw_rows(0, 300)
    inner = LossClassifier(LogisticRegression(), "squared")
    fitted = ConformalClassifier(inner, 0.9, CV).fit(X, y)
    inner_fitted = LossClassifier(LogisticRegression(), "squared").fit(X, y)
    np.testing.assert_array_equal(fitted.predict_proba(X), inner_fitted.predict_proba(X))
    np.testing.assert_array_equal(fitted.predict(X), inner_fitted.predict(X))
    assert (fitted.predict(X) != fitted.predict_proba(X).argmax(axis=1)).any()


@pytest.mark.parametrize("share", [0, 1, 1.5])
def test_a_coverage_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=f"0 < coverage < 1 must hold, but got coverage={share}"):
        ConformalClassifier(LogisticRegression(), share, CV).fit(*draw_rows(0, 100))


def test_coverage_by_hand() -> None:
    sets = np.array([[True, False, True], [True, True, False], [False, True, False], [False, False, False]])
    predictions = Predictions(np.array([0, 0, 0, 1]), np.zeros(4, dtype=int), np.full((4, 3), 1 / 3), sets)
    table = coverage_by_class(predictions)
    assert table["rows"].tolist() == [3, 1, 0]
    assert table["coverage"].tolist()[:2] == [2 / 3, 0]
    assert np.isnan(table["coverage"][2])
    assert score(predictions, []) == {"set_coverage": 0.5, "set_size": 1.25}
    weighted = coverage_by_class(replace(predictions, weights=np.array([1.0, 2.0, 3.0, 4.0])))
    assert weighted["rows"].tolist() == [6, 4, 0]
    assert weighted["coverage"].tolist()[:2] == [0.5, 0]
    with pytest.raises(ValueError, match="no prediction sets"):
        coverage_by_class(Predictions(predictions.y, predictions.predicted, predictions.probabilities))


@pytest.mark.journey
def test_a_run_records_its_prediction_sets_and_their_coverage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    few = ["model.estimator.n_estimators=10", "model.cv.folds=4"]
    result = train(compose("model=conformal", *few, f"tracking.uri={new_database(tmp_path)}"))
    table = pd.read_parquet(result.folder / "predictions.parquet")
    contains_true = pd.concat([table[f"in set {label}"][table["true"] == label] for label in "123"])
    coverage = pd.read_csv(result.folder / "coverage.csv")
    assert coverage.columns.tolist() == ["rows_of", "class", "rows", "coverage"]
    assert coverage["rows_of"].tolist() == ["folds"] * 3 + ["holdout"] * 3
    assert coverage["rows"].sum() == len(contains_true) == 178
    assert (coverage["rows"] * coverage["coverage"]).sum() == pytest.approx(contains_true.sum())
    of_holdout = contains_true[table.loc[contains_true.index, "fold"] == -1]
    assert result.holdout["set_coverage"] == pytest.approx(of_holdout.mean())
