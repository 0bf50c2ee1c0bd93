"""What compiled/_sklearn.py relies on of scikit-learn: this breaks first where an upgrade changes it."""

from typing import Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVR

from wineexp.models.compiled._sklearn import (
    boosted_trees,
    calibrators,
    forest_trees,
    gamma,
    has_categorical_splits,
)
from wineexp.models.compiled.flat_trees import Tree

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3))
X[RNG.random(X.shape) < 0.1] = np.nan
Y = (np.nan_to_num(X[:, 0]) > 0).astype(int) + (np.nan_to_num(X[:, 1], nan=2.0) > 1)


def leaf_values(tree: Tree, row: Any, *, single_precision: bool) -> Any:
    """The values of the leaf that a row reaches: equal values go left."""
    node = 0
    while tree.left[node] >= 0:
        cell = row[tree.feature[node]]
        cell = np.float32(cell) if single_precision else cell
        goes_left = tree.missing_left[node] if np.isnan(cell) else cell <= tree.threshold[node]
        node = tree.left[node] if goes_left else tree.right[node]
    return tree.values[node]


@pytest.mark.parametrize("forest", [RandomForestClassifier, ExtraTreesClassifier])
def test_a_forest_is_the_mean_of_its_trees_values(forest: Any) -> None:
    fitted = forest(n_estimators=5, max_depth=4, random_state=0).fit(X, Y)
    trees = forest_trees(fitted)
    assert len(trees) == 5
    for row in X[:40]:
        mean = np.mean([leaf_values(tree, row, single_precision=True) for tree in trees], axis=0)
        np.testing.assert_allclose(mean, fitted.predict_proba([row])[0], rtol=1e-12)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_boosted_score_is_the_base_and_its_trees_values(classes: int) -> None:
    y = np.minimum(Y, classes - 1)
    fitted = HistGradientBoostingClassifier(max_iter=4, max_leaf_nodes=6, random_state=0).fit(X, y)
    trees, groups, base = boosted_trees(fitted)
    n_outputs = 1 if classes == 2 else 3
    assert groups.tolist() == list(range(n_outputs)) * 4
    assert base.shape == (n_outputs,)
    assert not has_categorical_splits(fitted)
    for row in X[:40]:
        scores = base.copy()
        for tree, group in zip(trees, groups, strict=True):
            scores[group] += leaf_values(tree, row, single_precision=False)[0]
        np.testing.assert_allclose(scores, np.atleast_1d(fitted.decision_function([row])[0]), rtol=1e-12)


def test_categorical_splits_are_recognized() -> None:
    codes = np.c_[np.arange(60) % 3, np.arange(60)]
    fitted = HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]).fit(codes, np.arange(60) % 2)
    assert has_categorical_splits(fitted)


def test_gamma_is_that_of_the_kernel() -> None:
    complete = np.nan_to_num(X)
    fitted = SVR().fit(complete, Y)
    distances = ((complete[:5, None] - fitted.support_vectors_) ** 2).sum(axis=2)
    predicted = np.exp(-gamma(fitted) * distances) @ fitted.dual_coef_[0] + fitted.intercept_
    np.testing.assert_allclose(predicted, fitted.predict(complete[:5]))


def test_calibrators_are_those_of_each_classifier() -> None:
    complete = np.nan_to_num(X)
    fitted = CalibratedClassifierCV(LogisticRegression(), cv=2).fit(complete, Y)
    means = []
    for classifier, of_classes in calibrators(fitted):
        scores = classifier.decision_function(complete)
        shares = np.column_stack([one.predict(scores[:, code]) for code, one in enumerate(of_classes)])
        means.append(shares / shares.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(np.mean(means, axis=0), fitted.predict_proba(complete))
