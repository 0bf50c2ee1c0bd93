import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from tests.conftest import composed
from wineexp.models import counterfactual
from wineexp.models.counterfactual import Numbers, Words
from wineexp.workflows.experiment import assemble


def likeliest(probabilities: np.ndarray) -> np.ndarray:
    return probabilities.argmax(axis=1)


def seen(X: pd.DataFrame) -> dict[str, Numbers | Words]:
    found: dict[str, Numbers | Words] = {}
    for name, column in X.items():
        if pd.api.types.is_numeric_dtype(column):
            low, first, median, third, high = (float(value) for value in column.quantile([0, 0.25, 0.5, 0.75, 1]))
            found[str(name)] = Numbers(low, high, median, third - first)
        else:
            found[str(name)] = Words(tuple(sorted(column.unique())))
    return found


def changed(row: pd.DataFrame, change: counterfactual.Change) -> pd.DataFrame:
    return row.assign(**change.values)


@pytest.mark.parametrize("model", ["xgb", "logreg"])
def test_a_change_flips_the_class_and_no_single_one_is_smaller(model: str) -> None:
    few = ["model.n_estimators=15"] if model == "xgb" else []
    experiment = assemble(composed(f"model={model}", *few))
    pipeline = experiment.fit()
    X, classes = experiment.task.X, experiment.task.classes.tolist()
    told = seen(X)
    flipped = 0
    for place in range(0, len(X), 20):
        row = X.iloc[[place]]
        change = counterfactual.smallest_change(
            pipeline.predict_proba, pipeline[-1].decide, classes, row.iloc[0].to_dict(), told
        )
        before = pipeline.predict(row)[0]
        if change is None:
            best = math.inf
        else:
            flipped += 1
            after = changed(row, change)
            assert pipeline.predict(after)[0] == change.label != before
            assert pipeline.predict_proba(after).max() == pytest.approx(change.probability)
            assert all(X[name].min() <= value <= X[name].max() for name, value in change.values.items())
            best = change.distance
        for name in X:
            values = np.linspace(X[name].min(), X[name].max(), 40)
            tried = pd.concat([row] * 40).assign(**{str(name): values})
            flips = values[pipeline.predict(tried) != before]
            distances = abs(flips - row[name].iloc[0]) / told[str(name)].spread
            assert not len(flips) or best <= distances.min() + 0.02
    assert flipped >= 3


def test_a_text_can_be_what_flips() -> None:
    def ask(rows: pd.DataFrame) -> np.ndarray:
        white = (rows["colour"] == "white") & (rows["alcohol"] > 9)
        return np.column_stack([~white, white]).astype(float)

    told: dict[str, Numbers | Words] = {"alcohol": Numbers(8, 14, 10, 2), "colour": Words(("red", "white"))}
    change = counterfactual.smallest_change(ask, likeliest, ["no", "yes"], {"alcohol": 10.0, "colour": "red"}, told)
    assert change == counterfactual.Change({"colour": "white"}, 1.0, "yes", 1.0)
    change = counterfactual.smallest_change(ask, likeliest, ["no", "yes"], {"alcohol": None, "colour": "white"}, told)
    assert change is not None
    assert set(change.values) == {"alcohol"} or set(change.values) == {"colour"}


@pytest.mark.parametrize("answer", [[1.0, 0.0], [0.4, 0.6]])
def test_nothing_flips_a_model_that_always_says_the_same(answer: list[float]) -> None:
    ask: Callable[[pd.DataFrame], np.ndarray] = lambda rows: np.tile(answer, (len(rows), 1))  # noqa: E731
    told = {"alcohol": Numbers(8, 14, 10, 2), "hue": Numbers(0, 1, 0.5, 0.1)}
    assert counterfactual.smallest_change(ask, likeliest, ["no", "yes"], {"alcohol": 10.0, "hue": 0.2}, told) is None
