"""Categories that a model splits as they are, compiled bit for bit."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from xgboost import XGBClassifier, XGBRegressor

from wineexp.models import features, regression
from wineexp.models._lightgbm import ZERO, lightgbm_trees
from wineexp.models.compiled.category_splits import split_by_sides
from wineexp.models.compiled.file_format import pack
from wineexp.models.compiled.flat_trees import Tree
from wineexp.models.compiled.flatten import flatten
from wineexp.models.compiled.proof import prove
from wineexp.models.compiled.refusal import CannotCompileError
from wineexp.models.early_stopping import EarlyStopping
from wineexp.models.fitted_trees import fitted_trees
from wineexp.models.native_categories import native_faults, suited_to
from wineexp.models.pipeline import make_pipeline, outputs
from wineexp.models.transformers import MAX_CATEGORIES

QUICK = {"n_jobs": 1, "verbosity": -1, "min_child_samples": 5, "min_data_per_group": 5}
MODELS: dict[str, Any] = {
    "histgb": HistGradientBoostingClassifier(max_iter=8, random_state=0),
    "xgb": XGBClassifier(n_estimators=8, max_depth=4, max_cat_to_onehot=3, random_state=0),
    "histgb of numbers": HistGradientBoostingRegressor(max_iter=8, random_state=0),
    "xgb of numbers": XGBRegressor(n_estimators=8, max_depth=4, random_state=0),
    # Not installed everywhere.
    "lightgbm": lambda: pytest.importorskip("lightgbm").LGBMClassifier(n_estimators=8, **QUICK),
    "lightgbm of numbers": lambda: pytest.importorskip("lightgbm").LGBMRegressor(n_estimators=8, **QUICK),
    "catboost": lambda: pytest.importorskip("catboost").CatBoostRegressor(
        iterations=40, verbose=0, allow_writing_files=False, thread_count=1
    ),
}


def customers() -> tuple[pd.DataFrame, np.ndarray]:
    """Rows with two columns of categories, of which some are missing, and the number that these decide."""
    rng = np.random.default_rng(0)
    city = rng.integers(0, 40, 400)
    plan = rng.choice(["free", "paid", "trial"], 400)
    age = rng.normal(size=400).round(1)
    number = np.sin(city) * 3 + (plan == "paid") + age / 2 + rng.normal(0, 0.1, 400)
    X = pd.DataFrame({"city": [f"city {n}" for n in city], "age": age, "plan": plan})
    return X.assign(age=X["age"].mask(X.index % 9 == 0), plan=X["plan"].mask(X.index % 7 == 0)), number


@pytest.mark.parametrize("name", [name for name in MODELS if name != "catboost"])
def test_a_compiled_model_splits_categories_as_the_library_does(name: str) -> None:
    X, number = customers()
    model = MODELS[name]() if callable(MODELS[name]) else MODELS[name]
    if "numbers" in name:
        fitted = regression.make_pipeline(features.native(), model, None).fit(X, number)
    else:
        labels = pd.Series(np.where(number > 2, "much", np.where(number < 0, "less", "some")))
        fitted = make_pipeline(features.native(), model, ["less", "much", "some"]).fit(X, labels)
    content = pack(*flatten(fitted, X))
    # Also on a category that no training row has, which counts as a missing one.
    prove(content, fitted, X, n_rows=1000)
    row = X.iloc[[1]]
    elsewhere, nowhere = (outputs(fitted, row.assign(city=[city])) for city in ("Atlantis", None))
    assert np.array_equal(elsewhere, nowhere)
    assert not np.array_equal(outputs(fitted, row.assign(city="city 1")), outputs(fitted, row.assign(city="city 5")))


def test_dates_beside_categories_are_compiled() -> None:
    X, number = customers()
    X = X.assign(since=np.arange(len(X)) % 90)[["city", "since", "plan"]]
    feature = features.with_dates(features.native(), ["since"])
    fitted = regression.make_pipeline(feature, MODELS["histgb of numbers"], None).fit(X, number)
    prove(pack(*flatten(fitted, X)), fitted, X, n_rows=1000)


def test_each_set_of_categories_has_one_column() -> None:
    leaf, values = np.array([1, -1, -1]), np.zeros((3, 1))
    tree = Tree(leaf, np.array([2, -1, -1]), np.array([1, 0, 0]), np.array([7.0, 0, 0]), leaf < 0, values)
    splits = [{0: (0, np.array([1, 0, 1]))}, {0: (0, np.array([1, 0, 1]))}, {0: (0, np.array([0, 1, 1]))}, {}]
    trees, sides = split_by_sides([tree] * 4, splits, [2, 1], n_numbers=3)
    assert [int(one.feature[0]) for one in trees] == [3, 3, 4, 1]
    assert [float(one.threshold[0]) for one in trees] == [0.5, 0.5, 0.5, 7]
    assert sides[0].tolist() == [[1, 0], [0, 1], [1, 1]]
    assert sides[1].tolist() == [[0], [0]], "of a column that no tree splits by"


def test_a_split_of_lightgbm_sends_right_what_it_does_not_name() -> None:
    split = {"missing_type": "None", "default_left": False, "left_child": {"leaf_value": 1.0}}
    of_city = split | {"left_child": {"leaf_value": 2.0}, "right_child": {"leaf_value": 3.0}}
    of_city |= {"split_feature": 1, "decision_type": "==", "threshold": "0||2"}
    of_age = split | {"split_feature": 0, "decision_type": "<=", "threshold": -ZERO, "right_child": of_city}
    dump = {"objective": "regression", "average_output": False, "num_tree_per_iteration": 1, "max_feature_idx": 1}
    booster = SimpleNamespace(
        dump_model=lambda: dump | {"tree_info": [{"tree_structure": of_age}]}, pandas_categorical=[[0, 1, 2]]
    )
    estimator = SimpleNamespace(booster_=booster)
    assert lightgbm_trees(estimator) is None
    read = lightgbm_trees(estimator, with_categories=True)
    assert read is not None
    ((tree,), (sides,)) = read.trees, read.sides
    assert [tree.feature[0], tree.feature[2], tree.threshold[2]] == [0, 1, 0.5]
    assert -1.01 * ZERO < tree.threshold[0] < -ZERO, "since this number counts as 0"
    assert sides.tolist() == [[0], [1], [0], [1]]
    assert not tree.missing_left[2], "as its sides say of what is missing"


def test_catboost_takes_categories_and_missing_ones_as_a_category_of_their_own() -> None:
    X, number = customers()
    model = MODELS["catboost"]()
    feature = features.native()
    assert native_faults(feature, model) == []
    fitted = regression.make_pipeline(suited_to(model, feature), model, None).fit(X, number)
    assert fitted[-1].estimator_.get_cat_feature_indices() == [1, 2]
    assert fitted[:-1].transform(X)["plan"].notna().all()
    row = X.iloc[[1]]
    elsewhere, nowhere = (outputs(fitted, row.assign(city=[city])) for city in ("Atlantis", None))
    assert np.array_equal(elsewhere, nowhere)
    assert not np.array_equal(outputs(fitted, row.assign(city="city 1")), outputs(fitted, row.assign(city="city 5")))
    with pytest.raises(CannotCompileError, match="a CatBoostRegressor that takes categories as they are"):
        flatten(fitted, X)
    assert fitted_trees(fitted, np.zeros((1, 3)), np.zeros((1, 1))) is None


@pytest.mark.parametrize("name", ["histgb of numbers", "xgb of numbers", "lightgbm of numbers", "catboost"])
def test_boosting_of_categories_stops_early(name: str) -> None:
    X, number = customers()
    model = MODELS[name]() if callable(MODELS[name]) else MODELS[name]
    rows = np.arange(len(X))
    stopping = EarlyStopping(2, rows[:300], rows[300:])
    pipeline = regression.make_pipeline(suited_to(model, features.native()), model, None)
    fitted = pipeline.fit(X, number, model__early_stopping=stopping)
    assert np.corrcoef(outputs(fitted, X)[:, 0], number)[0, 1] > 0.8


def test_rare_ones_of_very_many_categories_are_missing() -> None:
    names = [f"n{number:03d}" for number in range(MAX_CATEGORIES + 50)]
    X = pd.DataFrame({"name": [*names, *names[50:]]})
    codes = features.native().fit(X).transform(X)["name"]
    assert codes.cat.categories.size == MAX_CATEGORIES
    assert codes[:50].isna().all()
    assert codes[50:].notna().all()


def test_a_model_that_takes_no_categories_is_refused() -> None:
    assert native_faults(features.native(), XGBClassifier()) == []
    assert native_faults(features.raw("median"), LogisticRegression()) == []
    (fault,) = native_faults(features.with_dates(features.native(), ["since"]), LogisticRegression())
    assert "a LogisticRegression does not take them" in fault
