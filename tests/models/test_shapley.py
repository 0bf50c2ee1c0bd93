"""Shapley values: exact for XGBoost, estimated for other models, and adding up to the prediction for all."""

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


def fit(*overrides: str) -> tuple[Experiment, Pipeline]:
    experiment = assemble(composed(*overrides))
    return experiment, experiment.fit()


def sample(X: pd.DataFrame, n_rows: int) -> pd.DataFrame:
    return X.iloc[np.linspace(0, len(X) - 1, n_rows).astype(int)]


@pytest.mark.parametrize("feature", ["raw", "poly", "domain"])
def test_contributions_of_trees_add_up_to_the_margin(feature: str) -> None:
    experiment, model = fit(*FEW_TREES, f"feature={feature}")
    X = experiment.task.X
    for position in (0, 60, 141):
        row = X.iloc[[position]]
        explanation = shapley.explain(model, row, sample(X, 20), seed=0)
        assert explanation.label == model.predict(row)[0]
        assert explanation.unit == "score"
        total = explanation.base_value + sum(explanation.contributions.values())
        assert total == pytest.approx(explanation.output_value)
        margins = model[-1].estimator_.predict(model[:-1].transform(row), output_margin=True)[0]
        assert explanation.output_value == pytest.approx(margins.max(), abs=1e-4)


@pytest.mark.usefixtures("wine_quality")
def test_two_classes_are_explained_by_the_log_odds_of_the_likelier() -> None:
    experiment, model = fit(*FEW_TREES, "data=quality", "target=good", "feature=domain")
    X = experiment.task.X
    labels = set()
    for position in model.predict_proba(X)[:, 1].argsort()[[0, -1]]:
        row = X.iloc[[position]]
        explanation = shapley.explain(model, row, sample(X, 20), seed=0)
        labels.add(explanation.label)
        probability = model.predict_proba(row).max()
        assert explanation.unit == "log-odds"
        assert explanation.output_value == pytest.approx(math.log(probability / (1 - probability)), abs=1e-4)
        names = set(explanation.contributions)
        assert {"colour", "alcohol"} <= names, "an indicator counts for its text, a logarithm for its number"
        assert {"sugar_to_alcohol"} <= names - set(X), "a ratio has its own name"
    assert labels == {"ordinary", "good"}


def test_contributions_of_another_model_approximate_its_shapley_values() -> None:
    experiment = assemble(composed("model=logreg"))
    X = experiment.task.X[["alcohol", "flavanoids", "proline", "hue"]]
    model = experiment.estimator.fit(X, experiment.task.y)
    row, background = X.iloc[[0]], sample(X, 20)
    explanation = shapley.explain(model, row, background, seed=0)
    code = model.predict_proba(row)[0].argmax()

    def value(coalition: tuple[str, ...]) -> float:
        mixed = background.assign(**{name: row[name].iloc[0] for name in coalition})
        return float(model.predict_proba(mixed)[:, code].mean())

    for name in X:
        others = [other for other in X if other != name]
        exact = sum(
            (value((*coalition, str(name))) - value(coalition)) / (len(X.columns) * math.comb(len(others), size))
            for size in range(len(X.columns))
            for coalition in itertools.combinations(others, size)
        )
        assert explanation.contributions[str(name)] == pytest.approx(exact, abs=0.02)
    assert explanation.unit == "probability"
    assert explanation.base_value == pytest.approx(value(()))
    assert explanation.output_value == pytest.approx(model.predict_proba(row)[0].max())
    assert shapley.explain(model, row, background, seed=0) == explanation
