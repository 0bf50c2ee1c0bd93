"""Prediction sets: worked out by hand, and held to their promise on rows that neither fit nor calibration saw."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from tests.conftest import Command
from wineexp.data.split import CopiesTogetherKFold
from wineexp.evaluation.metrics import Predictions, coverage_by_class, score
from wineexp.models.conformal import ConformalClassifier, _least
from wineexp.models.decision import LossClassifier
from wineexp.models.pipeline import FixedClassesClassifier

CV = CopiesTogetherKFold(folds=5, random_state=0)


def drawn(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Three classes, of which the last is rare and hard to tell from the second."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, rows, p=[0.3, 0.6, 0.1])
    return np.c_[np.array([0, 1.5, 2.0])[y] + rng.normal(0, 1, rows), rng.normal(0, 1, rows)], y


@pytest.mark.parametrize(
    ("rows", "share", "place"),
    # floor(0.1 (n + 1)): one below the smallest, which is none; the smallest; the second smallest.
    [(8, 0.9, None), (9, 0.9, 0), (18, 0.9, 0), (19, 0.9, 1), (99, 0.9, 9), (9, 0.8, 1), (1, 0.5, 0)],
)
def test_the_least_probability_by_hand(rows: int, share: float, place: int | None) -> None:
    told = np.random.default_rng(0).permutation(np.arange(1, rows + 1) / (rows + 1))
    assert _least(told, share) == (0 if place is None else (place + 1) / (rows + 1))


def test_each_class_is_covered_as_often_as_was_promised() -> None:
    shares = []
    for seed in range(8):
        fitted = FixedClassesClassifier(ConformalClassifier(LogisticRegression(), 0.9, CV), [0, 1, 2]).fit(
            *drawn(seed, 600)
        )
        X, y = drawn(seed + 100, 3000)
        sets = fitted.sets(fitted.predict_proba(X))
        shares.append([sets[y == code, code].mean() for code in range(3)])
    np.testing.assert_allclose(np.mean(shares, axis=0), 0.9, atol=0.02)


def test_one_bound_for_all_classes_would_not_cover_the_rare_one() -> None:
    """What the sets by class are for."""
    X, y = drawn(0, 3000)
    fitted = LogisticRegression().fit(X, y)
    told = fitted.predict_proba(X)
    own = told[range(len(y)), y]
    bound = np.quantile(own, 0.1)
    assert (own[y == 2] >= bound).mean() < 0.6


def test_a_class_of_few_rows_or_none_is_never_ruled_out() -> None:
    X, y = drawn(0, 200)
    some = np.flatnonzero((y != 2) | (np.cumsum(y == 2) <= 5))
    fitted = FixedClassesClassifier(ConformalClassifier(LogisticRegression(), 0.9, CV), [0, 1, 2, 3]).fit(
        X[some], y[some]
    )
    sets = fitted.sets(fitted.predict_proba(X))
    assert sets[:, [2, 3]].all()
    assert not sets[:, 0].all()


def test_answers_stay_the_estimators_own() -> None:
    X, y = drawn(0, 300)
    inner = LossClassifier(LogisticRegression(), "squared")
    fitted, alone = (
        ConformalClassifier(inner, 0.9, CV).fit(X, y),
        LossClassifier(LogisticRegression(), "squared").fit(X, y),
    )
    np.testing.assert_array_equal(fitted.predict_proba(X), alone.predict_proba(X))
    np.testing.assert_array_equal(fitted.predict(X), alone.predict(X))
    assert (fitted.predict(X) != fitted.predict_proba(X).argmax(axis=1)).any()


@pytest.mark.parametrize("share", [0, 1, 1.5])
def test_a_coverage_out_of_range_is_told(share: float) -> None:
    with pytest.raises(ValueError, match=f"0 < coverage < 1 must hold, but got coverage={share}"):
        ConformalClassifier(LogisticRegression(), share, CV).fit(*drawn(0, 100))


def test_coverage_by_hand() -> None:
    sets = np.array([[True, False, True], [True, True, False], [False, True, False], [False, False, False]])
    answers = Predictions(np.array([0, 0, 0, 1]), np.zeros(4, dtype=int), np.full((4, 3), 1 / 3), sets)
    table = coverage_by_class(answers)
    assert table["rows"].tolist() == [3, 1, 0]
    assert table["coverage"].tolist()[:2] == [2 / 3, 0]
    assert np.isnan(table["coverage"][2])
    assert score(answers, []) == {"set_coverage": 0.5, "set_size": 1.25}
    with pytest.raises(ValueError, match="no prediction sets"):
        coverage_by_class(Predictions(answers.y, answers.predicted, answers.probabilities))


def test_a_run_records_its_sets_and_how_often_they_held(command: Command, tmp_path: Path) -> None:
    few = "model.estimator.n_estimators=30"
    done = command("train", "model=conformal", few, "hydra.run.dir=out")
    assert done.returncode == 0, done.stderr
    assert "set_coverage" in done.stdout
    table = pd.read_parquet(tmp_path / "out/predictions.parquet")
    held = pd.concat([table[f"in set {label}"][table["true"] == label] for label in "123"])
    covered = pd.read_csv(tmp_path / "out/coverage.csv")
    assert covered.columns.tolist() == ["rows_of", "class", "rows", "coverage"]
    assert covered["rows_of"].tolist() == ["folds"] * 3 + ["holdout"] * 3
    assert covered["rows"].sum() == len(held) == 178
    assert (covered["rows"] * covered["coverage"]).sum() == pytest.approx(held.sum())
