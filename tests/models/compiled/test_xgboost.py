"""What compiled/_xgboost.py relies on of XGBoost's model files: this breaks first where an upgrade changes it."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from xgboost import DMatrix, XGBClassifier

from wineexp.models.compiled._xgboost import BoosterError, booster_trees

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3)).astype(np.float32)
X[RNG.random(X.shape) < 0.1] = np.nan
Y = (np.nan_to_num(X[:, 0]) > 0).astype(int) + (np.nan_to_num(X[:, 1], nan=2.0) > 1)


def leaf_value(tree: Any, row: Any) -> Any:
    """The value of the leaf that a row reaches: equal values go right."""
    node = 0
    while tree.left[node] >= 0:
        cell = row[tree.feature[node]]
        goes_left = tree.missing_left[node] if np.isnan(cell) else cell < tree.threshold[node]
        node = tree.left[node] if goes_left else tree.right[node]
    return tree.values[node, 0]


@pytest.mark.parametrize("best_iteration", [None, 2])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_margin_is_the_base_and_its_trees_values(classes: int, best_iteration: int | None) -> None:
    fitted = XGBClassifier(n_estimators=5, max_depth=3, base_score=0.3, n_jobs=1).fit(X, np.minimum(Y, classes - 1))
    booster = fitted.get_booster()
    if best_iteration is not None:
        booster.set_attr(best_iteration=str(best_iteration))
    trees, groups, base, _ = booster_trees(booster)
    n_outputs = 1 if classes == 2 else 3
    n_rounds = 5 if best_iteration is None else best_iteration + 1
    assert groups.tolist() == list(range(n_outputs)) * n_rounds
    margins = booster.predict(DMatrix(X[:40]), output_margin=True, iteration_range=(0, n_rounds)).reshape(40, -1)
    for row, expected in zip(X[:40], margins, strict=True):
        scores = base.copy()
        for tree, group in zip(trees, groups, strict=True):
            scores[group] += leaf_value(tree, row)
        np.testing.assert_array_equal(scores, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"booster": "dart"}, "booster dart and objective multi:softprob"),
        ({"booster": "gblinear"}, "booster gblinear and objective multi:softprob"),
    ],
)
def test_another_booster_is_refused(settings: dict[str, Any], message: str) -> None:
    fitted = XGBClassifier(n_estimators=2, n_jobs=1, **settings).fit(X, Y)
    with pytest.raises(BoosterError, match=message):
        booster_trees(fitted.get_booster())


def test_another_objective_is_refused() -> None:
    fitted = XGBClassifier(n_estimators=2, n_jobs=1, objective="binary:hinge").fit(X, Y > 0)
    with pytest.raises(BoosterError, match="booster gbtree and objective binary:hinge"):
        booster_trees(fitted.get_booster())


def test_categorical_splits_are_refused() -> None:
    frame = pd.DataFrame({"colour": pd.Categorical(["red", "white", "rosé"] * 20), "ash": np.arange(60.0)})
    fitted = XGBClassifier(n_estimators=2, n_jobs=1, enable_categorical=True, tree_method="hist")
    fitted.fit(frame, (frame["colour"] == "white").astype(int))
    with pytest.raises(BoosterError, match="with categorical splits cannot be compiled"):
        booster_trees(fitted.get_booster())
