"""Shapley values: exact for trees and linear models, estimated for others, and adding up to the prediction for all."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

from wineexp.models import features
from wineexp.models.decision import LossClassifier
from wineexp.models.fitted_trees import apply_link
from wineexp.models.pipeline import make_pipeline
from wineexp.models.shapley import ShapleyExplainer, find_sources

Columns = Mapping[str, npt.NDArray[Any]]

FEATURES = {
    "raw": lambda: features.raw("median"),
    "scaled": lambda: features.scaled("median"),
    "domain": lambda: features.domain("median", 0.01, {"sweetness": ["sugar", "alcohol"]}, 1.0),
    "poly": lambda: features.poly("median", 2, True),
}


def lightgbm(**settings: Any) -> Any:
    module = pytest.importorskip("lightgbm")
    return module.LGBMClassifier(n_estimators=20, min_child_samples=5, verbosity=-1, n_jobs=1, **settings)


def catboost(**settings: Any) -> Any:
    module = pytest.importorskip("catboost")
    return module.CatBoostClassifier(
        iterations=20, depth=4, verbose=0, allow_writing_files=False, thread_count=1, **settings
    )


EXACT = {
    "xgb": lambda: XGBClassifier(n_estimators=20, max_depth=4, n_jobs=1),
    "histgb": lambda: HistGradientBoostingClassifier(max_iter=10, min_samples_leaf=5),
    "forest": lambda: RandomForestClassifier(10, random_state=0),
    "extratrees": lambda: ExtraTreesClassifier(10, random_state=0),
    "median": lambda: LossClassifier(RandomForestClassifier(10, random_state=0), "absolute"),
    "tree": lambda: DecisionTreeClassifier(random_state=0),
    "lightgbm": lightgbm,
    "catboost": catboost,
    "logreg": lambda: LogisticRegression(max_iter=5000),
}

# Trees with settings under which their leaf values do not add up to the scores, or not by the usual link.
OTHER_TREES = {
    "xgb": lambda: XGBClassifier(n_estimators=5, n_jobs=1, tree_method="hist", multi_strategy="multi_output_tree"),
    "lightgbm one against all": lambda: lightgbm(objective="multiclassova"),
    "lightgbm linear": lambda: lightgbm(linear_tree=True),
    "lightgbm sigmoid": lambda: lightgbm(objective="multiclassova", sigmoid=1.5),
    "catboost one against all": lambda: catboost(loss_function="MultiClassOneVsAll"),
}


def table(n_rows: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "alcohol": rng.normal(11, 1, n_rows).round(1),
            "sugar": np.where(rng.random(n_rows) < 0.1, np.nan, rng.exponential(3, n_rows).round(1)),
            "acidity": rng.normal(7, 1, n_rows).round(2),
            "colour": pd.Series(rng.choice(["red", "rosé", "white"], n_rows), dtype="str"),
            "noise": rng.random(n_rows),
        }
    )


def labels(X: pd.DataFrame, n_classes: int) -> npt.NDArray[np.intp]:
    score = X["alcohol"] - X["sugar"].fillna(3) / 3 + (X["colour"] == "white") * X["acidity"] / 7
    return np.asarray(pd.qcut(score, n_classes, labels=False))


def fit(feature: str, estimator: Any, n_classes: int = 3) -> Pipeline:
    X = table()
    return make_pipeline(FEATURES[feature](), estimator, range(n_classes)).fit(X, labels(X, n_classes))


def columns(rows: pd.DataFrame) -> dict[str, npt.NDArray[Any]]:
    return {
        str(name): rows[name].to_numpy(dtype=object if name == "colour" else np.float64, na_value=np.nan)
        for name in rows
    }


def frame(rows: Columns) -> pd.DataFrame:
    return pd.DataFrame(
        {name: pd.Series(values, dtype="str" if name == "colour" else "float64") for name, values in rows.items()}
    )


def make_explainer(fitted: Pipeline, background: pd.DataFrame) -> ShapleyExplainer:
    def transform(rows: Columns) -> npt.NDArray[np.float64]:
        return np.asarray(fitted[:-1].transform(frame(rows)), dtype=np.float64)

    sources = find_sources(transform, columns(table()))
    return ShapleyExplainer(
        fitted, lambda rows: fitted.predict_proba(frame(rows)), transform, columns(background), sources
    )


def by_definition(fitted: Pipeline, row: pd.DataFrame, background: pd.DataFrame, code: int) -> dict[str, float]:
    """The values from the model's predictions for every coalition."""
    names = list(background)
    mixed = []
    for coalition in range(2 ** len(names)):
        inside = [name for player, name in enumerate(names) if coalition >> player & 1]
        mixed.append(background.assign(**{name: row[name].iloc[0] for name in inside}))
    probabilities = fitted.predict_proba(pd.concat(mixed).astype(background.dtypes.to_dict()))[:, code]
    worths = probabilities.reshape(-1, len(background)).mean(axis=1)
    n = len(names)
    return {
        name: sum(
            (worths[coalition | 1 << player] - worths[coalition]) / (n * math.comb(n - 1, coalition.bit_count()))
            for coalition in range(2**n)
            if not coalition >> player & 1
        )
        for player, name in enumerate(names)
    }


def check(fitted: Pipeline, row: pd.DataFrame, background: pd.DataFrame) -> ShapleyExplainer:
    """Check an exact explanation."""
    explainer = make_explainer(fitted, background)
    explained = explainer.explain(columns(row), seed=0)
    code = explained.code
    assert code == fitted[-1].decide(fitted.predict_proba(row))[0]
    assert explained.standard_errors is None
    assert explained.contributions == pytest.approx(by_definition(fitted, row, background, code), abs=1e-6)
    assert explained.base_value == pytest.approx(fitted.predict_proba(background)[:, code].mean(), abs=1e-6)
    assert explained.output_value == pytest.approx(fitted.predict_proba(row)[0, code], abs=1e-6)
    sizes = [abs(value) for value in explained.contributions.values()]
    assert sizes == sorted(sizes, reverse=True)
    return explainer


@pytest.fixture
def no_coalitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact are the methods for trees and for linear models alone: the model is not asked about every coalition."""
    monkeypatch.setattr("wineexp.models.shapley.MAX_COALITION_ROWS", 0)


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("kind", EXACT)
def test_values_are_those_of_the_definition(kind: str, feature: str, request: pytest.FixtureRequest) -> None:
    # A linear model of columns of several features has no method of its own.
    if kind != "logreg" or feature in ("raw", "scaled"):
        request.getfixturevalue("no_coalitions")
    fitted, X = fit(feature, EXACT[kind]()), table()
    missing = int(np.flatnonzero(X["sugar"].isna())[0])
    explainer = check(fitted, X.iloc[[missing]], X.iloc[[0, 70, -1]])
    assert (explainer.trees is None) == (kind == "logreg")


@pytest.mark.usefixtures("no_coalitions")
@pytest.mark.parametrize("kind", [kind for kind in EXACT if kind not in ("extratrees", "median")])
def test_two_classes_share_a_score(kind: str) -> None:
    explainer = check(fit("raw", EXACT[kind](), n_classes=2), table().iloc[[3]], table().iloc[[0, 70, -1]])
    assert (explainer.trees is None) == (kind == "logreg")


@pytest.mark.parametrize("kind", OTHER_TREES)
def test_trees_that_are_not_the_models_probabilities_are_not_used(kind: str) -> None:
    explainer = check(fit("raw", OTHER_TREES[kind]()), table().iloc[[3]], table().iloc[[0, 70, -1]])
    assert explainer.trees is None


@pytest.mark.usefixtures("no_coalitions")
@pytest.mark.parametrize("n_classes", [2, 3])
def test_no_feature_contributes_to_trees_without_splits(n_classes: int) -> None:
    fitted = fit("raw", XGBClassifier(n_estimators=2, gamma=1e9, n_jobs=1), n_classes)
    explainer = check(fitted, table().iloc[[3]], table().iloc[[0, 70, -1]])
    assert set(explainer.explain(columns(table().iloc[[3]]), seed=0).contributions.values()) == {0}


@pytest.mark.usefixtures("no_coalitions")
def test_a_linear_model_may_have_no_intercept() -> None:
    linear = LogisticRegression(solver="liblinear", fit_intercept=False)
    check(fit("raw", linear, n_classes=2), table().iloc[[3]], table().iloc[[0, 70, -1]])


@pytest.mark.filterwarnings("error")
def test_scores_far_from_zero_have_probabilities() -> None:
    assert apply_link("sigmoid", np.array([[-800.0], [800.0]])).tolist() == [[1, 0], [0, 1]]
    assert apply_link("softmax", np.array([[-800.0, 800.0]])).tolist() == [[0, 1]]


def test_any_model_of_few_features_is_explained_exactly() -> None:
    check(fit("scaled", KNeighborsClassifier(15)), table().iloc[[3]], table().iloc[:10])


@pytest.mark.usefixtures("no_coalitions")
def test_a_class_that_is_missing_from_training_is_no_obstacle() -> None:
    X = table()
    fitted = make_pipeline(FEATURES["raw"](), EXACT["xgb"](), range(4)).fit(X, np.array([0, 2, 3])[labels(X, 3)])
    for row in range(3):
        check(fitted, X.iloc[[row]], X.iloc[[50, 70, -1]])


@pytest.mark.usefixtures("no_coalitions")
def test_boosted_trees_of_many_scores_are_explained_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wineexp.models.shapley.SCORES_AT_ONCE", 200)
    check(fit("raw", EXACT["xgb"]()), table().iloc[[3]], table().iloc[:10])


@pytest.mark.journey
def test_sampled_values_are_within_their_standard_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted, X = fit("scaled", KNeighborsClassifier(15)), table()
    exact_explainer = make_explainer(fitted, X.iloc[:40])
    rows = [columns(X.iloc[[position]]) for position in range(40, 70)]
    exact = [exact_explainer.explain(row, seed=0) for row in rows]
    monkeypatch.setattr("wineexp.models.shapley.MAX_COALITION_ROWS", 0)
    distances = []
    for number, (row, expected) in enumerate(zip(rows, exact, strict=True)):
        estimate = exact_explainer.explain(row, seed=number)
        assert estimate.standard_errors is not None
        assert list(estimate.standard_errors) == list(estimate.contributions)
        assert estimate.base_value == pytest.approx(expected.base_value)
        assert estimate.output_value == pytest.approx(expected.output_value)
        assert estimate.output_value == pytest.approx(estimate.base_value + sum(estimate.contributions.values()))
        assert exact_explainer.explain(row, seed=number) == estimate
        distances += [
            (value - expected.contributions[name]) / estimate.standard_errors[name]
            for name, value in estimate.contributions.items()
        ]
    assert 0.7 < np.sqrt(np.mean(np.square(distances))) < 1.4


def test_a_sample_of_many_features_goes_through_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wineexp.models.shapley.MAX_COALITION_ROWS", 0)
    monkeypatch.setattr("wineexp.models.shapley.MAX_SAMPLED_ROWS", 30 * 6 * 4)
    fitted, X = fit("scaled", KNeighborsClassifier(15)), table()
    estimate = make_explainer(fitted, X.iloc[:100]).explain(columns(X.iloc[[3]]), seed=0)
    assert estimate.background_rows == 30
    assert estimate.base_value == pytest.approx(fitted.predict_proba(X.iloc[:30])[:, estimate.code].mean())


@pytest.mark.parametrize(
    ("estimator", "limit", "value"),
    [
        (RandomForestClassifier(3, random_state=0), "MAX_LEAF_VISITS", 1),
        (HistGradientBoostingClassifier(max_iter=2), "MAX_SCORES", 10 * 3 * 2**5),
        (LogisticRegression(), "MAX_SCORES", 10 * 3 * 2**5),
        (KNeighborsClassifier(15), "MAX_COALITION_ROWS", 10 * 2**5),
    ],
)
def test_where_all_rows_take_too_long_the_first_ones_are_the_background(
    estimator: Any, limit: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wineexp.models.shapley.MIN_ROWS", 10)
    monkeypatch.setattr(f"wineexp.models.shapley.{limit}", value)
    fitted, X = fit("scaled", estimator), table()
    row = columns(X.iloc[[3]])
    explanation = make_explainer(fitted, X).explain(row, seed=0)
    assert 10 <= explanation.background_rows < len(X)
    assert explanation.standard_errors is None
    assert make_explainer(fitted, X.iloc[: explanation.background_rows]).explain(row, seed=0) == explanation
