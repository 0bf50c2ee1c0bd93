"""Counterfactuals: verified by the model, within the training range, and no larger than a single change need be."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

from benchmarks.explanations.counterfactuals import brute_force
from benchmarks.explanations.models import TREE, FittedModel, fit
from wineexp.models.counterfactual import Change, smallest_change
from wineexp.models.fitted_trees import fitted_trees
from wineexp.models.leaf_boxes import make_leaf_boxes
from wineexp.models.pipeline import make_pipeline
from wineexp.models.training_values import Categories, NumericRange

Columns = dict[str, Any]

RED = ["data=red", "target=good", "feature=raw"]
SMALL_MODELS = {
    "xgb": [*RED, "model=xgb", "model.n_estimators=10", "model.learning_rate=0.5"],
    "forest": [*RED, "model=forest", "model.n_estimators=5", "+model.max_leaf_nodes=15"],
    "histgb": [*RED, "model=histgb", "model.max_iter=5", "model.learning_rate=0.5"],
    "tree": [*RED, *TREE, "+model.max_leaf_nodes=30"],
    "logreg": [*RED, "model=logreg"],
    "colour": [
        "data=quality",
        "target=good",
        "feature=raw",
        "model=xgb",
        "model.n_estimators=10",
        "model.learning_rate=0.5",
    ],
}

RANGES: dict[str, NumericRange | Categories] = {
    "alcohol": NumericRange(8, 14, 10, 2),
    "colour": Categories(("red", "white"), ("red", "white")),
}


def likeliest(probabilities: np.ndarray) -> np.ndarray:
    return probabilities.argmax(axis=1)


@pytest.fixture(
    scope="module",
    params=[
        "xgb",
        "logreg",
        "colour",
        *(pytest.param(n, marks=pytest.mark.journey) for n in ("forest", "histgb", "tree")),
    ],
)
def model(request: pytest.FixtureRequest) -> FittedModel:
    """Small models of each kind that has a search of its own, one of them with a text."""
    fitted = fit(*SMALL_MODELS[request.param])
    assert (fitted.explainer.boxes is None) == (request.param == "logreg")
    return fitted


@pytest.mark.usefixtures("wine_quality")
def test_no_change_of_one_or_two_features_is_smaller(model: FittedModel) -> None:
    """Beside a brute force over all thresholds; the model predicts what is found, within the training range."""
    n_found = 0
    for position in range(0, len(model.X), len(model.X) // 6):
        row = model.row(position)
        change = model.explainer.smallest_change(row)
        assert brute_force(model, row, math.inf if change is None else change.distance / 1.05) is None
        if change is not None:
            n_found += 1
            assert len(change.values) <= 2
            changed = model.X.iloc[[position]].assign(**change.values)
            assert (
                model.pipeline.predict(changed)[0] == change.label != model.pipeline.predict(changed.assign(**row))[0]
            )
            assert model.pipeline.predict_proba(changed).max() == pytest.approx(change.probability, abs=1e-6)
            for name, value in change.values.items():
                assert model.X[name].min() <= value <= model.X[name].max()
    assert n_found >= 3


def test_a_single_change_is_the_smallest_however_many_thresholds_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wineexp.models.threshold_changes.MAX_CELLS", 2)
    numbers = np.arange(64.0)
    X, y = numbers[:, None], (numbers % 4 == 0).astype(int)
    fitted = make_pipeline(FunctionTransformer(), DecisionTreeClassifier(), range(2)).fit(X, y)

    def transform(rows: Columns) -> np.ndarray:
        return np.asarray(rows["hue"])[:, None]

    def predict_proba(rows: Columns) -> np.ndarray:
        return np.asarray(fitted.predict_proba(transform(rows)))

    trees = fitted_trees(fitted, X, fitted.predict_proba(X))
    assert trees is not None
    boxes = make_leaf_boxes(trees, ["hue"], transform, {"hue": (0, 63)}, {"hue": numbers})
    assert boxes is not None
    ranges = {"hue": NumericRange(0, 63, 31.5, 1)}
    change = smallest_change(predict_proba, likeliest, ["no", "yes"], {"hue": 30.0}, ranges, boxes)
    assert change is not None
    # To 28.5 or to 31.5.
    assert change.distance == pytest.approx(1.5, rel=0.01)


@pytest.mark.usefixtures("wine_quality")
def test_a_change_of_two_features_is_found_at_the_thresholds_of_trees() -> None:
    """None was found, since the grid of evenly spaced values has none of these."""
    red = fit("model=xgb", "data=red", "target=good")
    values = [9.5, 0.37, 0.52, 2.0, 0.088, 12.0, 51.0, 0.99613, 3.29, 0.58, 11.1]
    row = dict(zip(map(str, red.X), values, strict=True))
    change = red.explainer.smallest_change(row)
    assert change is not None
    assert change.label == "good"
    assert change.values == {"density": 0.99676, "sulphates": 0.77}


def test_the_change_may_be_of_a_text() -> None:
    def predict_proba(rows: Columns) -> np.ndarray:
        is_good = (rows["colour"] == "white") & (rows["alcohol"] > 9)
        return np.column_stack([~is_good, is_good]).astype(float)

    red = {"alcohol": 10.0, "colour": "red"}
    assert smallest_change(predict_proba, likeliest, ["no", "yes"], red, RANGES) == Change(
        {"colour": "white"}, 1.0, "yes", 1.0
    )


@pytest.mark.parametrize("alcohol", [10.0, 10.001])
def test_every_value_that_is_named_is_a_change(alcohol: float) -> None:
    """The model decides on sums, so that a pair with one value as it is would flip it as well as the other alone."""
    ranges = RANGES | {"hue": NumericRange(0, 2, 1, 0.5), "sugar": NumericRange(0, 9, 2, 1, whole=True)}
    row = {"alcohol": alcohol, "colour": "red", "hue": 1.0, "sugar": 2.0}

    def predict_proba(rows: Columns, limit: float) -> np.ndarray:
        is_good = rows["alcohol"] + 2 * (rows["colour"] == "white") + rows["hue"] + 2 * rows["sugar"] > limit
        return np.column_stack([~is_good, is_good]).astype(float)

    for limit in np.linspace(15.01, 26, 50):
        change = smallest_change(partial(predict_proba, limit=limit), likeliest, ["no", "yes"], row, ranges)
        assert change is not None
        for name, value in change.values.items():
            assert value != row[name]
            assert name != "alcohol" or round(float(value), 2) != 10


def test_a_missing_number_counts_as_the_median() -> None:
    def predict_proba(rows: Columns) -> np.ndarray:
        is_good = np.nan_to_num(rows["alcohol"], nan=10) > 9
        return np.column_stack([~is_good, is_good]).astype(float)

    missing = {"alcohol": None, "colour": "white"}
    change = smallest_change(predict_proba, likeliest, ["no", "yes"], missing, RANGES)
    assert change is not None
    assert set(change.values) == {"alcohol"}
    assert change.values["alcohol"] == pytest.approx(9, abs=0.02)
    assert change.distance == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("probabilities", [[1.0, 0.0], [0.4, 0.6]])
def test_nothing_flips_a_model_that_always_predicts_the_same(probabilities: list[float]) -> None:
    ranges = {"alcohol": NumericRange(8, 14, 10, 2), "hue": NumericRange(0, 1, 0.5, 0.1)}
    row = {"alcohol": 10.0, "hue": 0.2}
    change = smallest_change(
        lambda rows: np.tile(probabilities, (len(rows["hue"]), 1)), likeliest, ["no", "yes"], row, ranges
    )
    assert change is None
