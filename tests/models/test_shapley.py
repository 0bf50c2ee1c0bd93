import itertools
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from tests.conftest import composed
from wineexp.models import shapley
from wineexp.workflows.experiment import Experiment, assemble

FEW_TREES = ["model=xgb", "model.n_estimators=15"]


def fitted(*overrides: str) -> tuple[Experiment, Pipeline]:
    experiment = assemble(composed(*overrides))
    return experiment, experiment.fit()


def some(X: pd.DataFrame, number: int) -> pd.DataFrame:
    return X.iloc[np.linspace(0, len(X) - 1, number).astype(int)]


@pytest.mark.parametrize("feature", ["raw", "scaled", "poly", "domain"])
def test_parts_of_trees_add_up_to_the_margin(feature: str) -> None:
    experiment, model = fitted(*FEW_TREES, f"feature={feature}")
    X = experiment.task.X
    for place in (0, 60, 141):
        told = shapley.why(model, X.iloc[[place]], some(X, 20), seed=0)
        assert told.label == model.predict(X.iloc[[place]])[0]
        margins = model[-1].estimator_.predict(model[:-1].transform(X.iloc[[place]]), output_margin=True)[0]
        assert told.unit == "score"
        assert told.base + sum(told.parts.values()) == pytest.approx(told.output)
        assert told.output == pytest.approx(margins.max(), abs=1e-4)


@pytest.mark.usefixtures("wine_quality")
def test_two_classes_have_log_odds_of_the_likelier() -> None:
    experiment, model = fitted(*FEW_TREES, "data=quality", "target=good", "feature=domain")
    X = experiment.task.X
    labels = set()
    for place in model.predict_proba(X)[:, 1].argsort()[[0, -1]]:
        told = shapley.why(model, X.iloc[[place]], some(X, 20), seed=0)
        labels.add(told.label)
        probability = model.predict_proba(X.iloc[[place]]).max()
        assert told.unit == "log-odds"
        assert told.output == pytest.approx(math.log(probability / (1 - probability)), abs=1e-4)
        assert {"colour", "alcohol"} <= set(told.parts), "an indicator belongs to its text, a logarithm to its number"
        assert {"sugar_to_alcohol"} <= set(told.parts) - set(X), "a ratio has a name of its own"
    assert labels == {"ordinary", "good"}


def test_parts_of_another_model_are_its_shapley_values() -> None:
    experiment = assemble(composed("model=logreg"))
    X = experiment.task.X[["alcohol", "flavanoids", "proline", "hue"]]
    model = experiment.estimator.fit(X, experiment.task.y)
    row, background = X.iloc[[0]], some(X, 20)
    told = shapley.why(model, row, background, seed=0)
    code = model.predict_proba(row)[0].argmax()

    def worth(taken: tuple[str, ...]) -> float:
        mixed = background.assign(**{name: row[name].iloc[0] for name in taken})
        return float(model.predict_proba(mixed)[:, code].mean())

    for name in X:
        others = [other for other in X if other != name]
        exact = sum(
            (worth((*taken, str(name))) - worth(taken)) / (len(X.columns) * math.comb(len(others), size))
            for size in range(len(X.columns))
            for taken in itertools.combinations(others, size)
        )
        assert told.parts[str(name)] == pytest.approx(exact, abs=0.02)
    assert told.unit == "probability"
    assert told.base == pytest.approx(worth(()))
    assert told.output == pytest.approx(model.predict_proba(row)[0].max())
    assert shapley.why(model, row, background, seed=0) == told
