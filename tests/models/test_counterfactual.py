"""Counterfactuals: verified by the model, within the training range, and no larger than a single change need be."""

import math
from functools import partial

import numpy as np
import pandas as pd
import pytest

from tests.conftest import composed
from wineexp.models.counterfactual import Categories, Change, NumericRange, smallest_change
from wineexp.workflows.experiment import assemble

RANGES: dict[str, NumericRange | Categories] = {
    "alcohol": NumericRange(8, 14, 10, 2),
    "colour": Categories(("red", "white")),
}


def likeliest(probabilities: np.ndarray) -> np.ndarray:
    return probabilities.argmax(axis=1)


def numeric_ranges(X: pd.DataFrame) -> dict[str, NumericRange]:
    ranges = {}
    for name, column in X.items():
        low, first, median, third, high = (float(value) for value in column.quantile([0, 0.25, 0.5, 0.75, 1]))
        ranges[str(name)] = NumericRange(low, high, median, third - first)
    return ranges


@pytest.mark.parametrize("settings", [["model=xgb", "model.n_estimators=15"], ["model=logreg"]], ids=["xgb", "logreg"])
def test_a_change_flips_the_decision_and_no_change_of_one_feature_is_smaller(settings: list[str]) -> None:
    experiment = assemble(composed(*settings))
    pipeline = experiment.fit()
    X, classes = experiment.task.X, experiment.task.classes.tolist()
    ranges = numeric_ranges(X)
    n_flipped = 0
    for position in range(0, len(X), 25):
        row = X.iloc[[position]]
        change = smallest_change(pipeline.predict_proba, pipeline[-1].decide, classes, row.iloc[0].to_dict(), ranges)
        before = pipeline.predict(row)[0]
        distance = math.inf if change is None else change.distance
        if change is not None:
            n_flipped += 1
            changed = row.assign(**change.values)
            assert pipeline.predict(changed)[0] == change.label != before
            assert pipeline.predict_proba(changed).max() == pytest.approx(change.probability)
            assert all(X[name].min() <= value <= X[name].max() for name, value in change.values.items())
        for name in X:
            values = np.linspace(X[name].min(), X[name].max(), 40)
            rows = pd.concat([row] * 40).assign(**{str(name): values})
            flips = values[pipeline.predict(rows) != before]
            distances = abs(flips - row[name].iloc[0]) / ranges[str(name)].spread
            assert not len(flips) or distance <= distances.min() + 0.02
    assert n_flipped >= 3


def test_the_change_may_be_of_a_text() -> None:
    def predict_proba(rows: pd.DataFrame) -> np.ndarray:
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

    def predict_proba(rows: pd.DataFrame, limit: float) -> np.ndarray:
        is_good = rows["alcohol"] + 2 * (rows["colour"] == "white") + rows["hue"] + 2 * rows["sugar"] > limit
        return np.column_stack([~is_good, is_good]).astype(float)

    for limit in np.linspace(15.01, 26, 50):
        change = smallest_change(partial(predict_proba, limit=limit), likeliest, ["no", "yes"], row, ranges)
        assert change is not None
        for name, value in change.values.items():
            assert value != row[name]
            assert name != "alcohol" or round(float(value), 2) != 10


def test_a_missing_number_counts_as_the_median() -> None:
    def predict_proba(rows: pd.DataFrame) -> np.ndarray:
        is_good = rows["alcohol"].fillna(10) > 9
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
    change = smallest_change(lambda rows: np.tile(probabilities, (len(rows), 1)), likeliest, ["no", "yes"], row, ranges)
    assert change is None
