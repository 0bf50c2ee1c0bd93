"""What compiled/_sklearn.py relies on of scikit-learn: this breaks first where an upgrade changes it."""

from typing import Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVR
from sklearn.utils._sorting import _py_simultaneous_sort

from wineexp.models.compiled._sklearn import (
    boosted_trees,
    calibrators,
    forest_trees,
    gamma,
    has_categorical_splits,
    neighbour_search,
)
from wineexp.models.compiled.flat_trees import Tree
from wineexp.models.compiled.neighbours import sort_as_scikit_learn

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


def test_neighbours_are_searched_in_a_tree_of_boxes() -> None:
    complete = np.nan_to_num(X)
    search = neighbour_search(KNeighborsClassifier().fit(complete, Y))
    assert search.method == "kd_tree"
    assert search.targets.tolist() == Y.tolist()
    rows, numbers, nodes, (low, high) = search.tree.get_arrays()
    assert sorted(numbers.tolist()) == list(range(len(X)))
    for node, (begin, end, is_leaf, _) in enumerate(nodes.tolist()):
        in_node = rows[numbers[begin:end]]
        assert (in_node.min(axis=0).tolist(), in_node.max(axis=0).tolist()) == (low[node].tolist(), high[node].tolist())
        assert is_leaf or nodes["idx_start"][2 * node + 1] == begin, "its children are not where they are expected"
    assert neighbour_search(KNeighborsClassifier(algorithm="brute").fit(complete, Y)).method == "brute"


@pytest.mark.parametrize("size", [1, 15, 16, 30, 100, 400])
def test_ties_are_sorted_as_scikit_learn_sorts_them(size: int) -> None:
    # Whole numbers have many ties, and rising and falling ones divide a quicksort badly.
    rounded = RNG.integers(0, 9, size).astype(float)
    shaped = np.concatenate([np.arange(size // 2), np.arange(size - size // 2)[::-1]]).astype(float)
    for distances in (rounded, np.sort(rounded)[::-1].copy(), shaped, RNG.normal(size=size)):
        expected, order = distances.copy(), np.arange(size)
        _py_simultaneous_sort(expected, order, size, use_three_way_partition=False)
        assert sort_as_scikit_learn(distances.tolist(), list(range(size))) == (expected.tolist(), order.tolist())
