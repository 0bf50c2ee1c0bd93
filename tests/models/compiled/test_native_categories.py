"""Categories that a model splits as they are, compiled bit for bit."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from xgboost import XGBClassifier, XGBRegressor

from wineexp.models import features, regression
from wineexp.models.compiled.category_splits import split_by_sides
from wineexp.models.compiled.file_format import pack
from wineexp.models.compiled.flat_trees import Tree
from wineexp.models.compiled.flatten import flatten
from wineexp.models.compiled.proof import prove
from wineexp.models.native_categories import native_faults
from wineexp.models.pipeline import make_pipeline, outputs
from wineexp.models.transformers import MAX_CATEGORIES

MODELS: dict[str, Any] = {
    "histgb": HistGradientBoostingClassifier(max_iter=8, random_state=0),
    "xgb": XGBClassifier(n_estimators=8, max_depth=4, max_cat_to_onehot=3, random_state=0),
    "histgb of numbers": HistGradientBoostingRegressor(max_iter=8, random_state=0),
    "xgb of numbers": XGBRegressor(n_estimators=8, max_depth=4, random_state=0),
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


@pytest.mark.parametrize("name", MODELS)
def test_a_compiled_model_splits_categories_as_the_library_does(name: str) -> None:
    X, number = customers()
    if "numbers" in name:
        fitted = regression.make_pipeline(features.native(), MODELS[name], None).fit(X, number)
    else:
        labels = pd.Series(np.where(number > 2, "much", np.where(number < 0, "less", "some")))
        fitted = make_pipeline(features.native(), MODELS[name], ["less", "much", "some"]).fit(X, labels)
    content = pack(*flatten(fitted, X))
    # Also on a category that no training row has, which counts as a missing one.
    prove(content, fitted, X, n_rows=1000)
    row = X.iloc[[1]]
    elsewhere, nowhere = (outputs(fitted, row.assign(city=[city])) for city in ("Atlantis", None))
    assert np.array_equal(elsewhere, nowhere)
    assert not np.array_equal(outputs(fitted, row.assign(city="city 1")), outputs(fitted, row.assign(city="city 5")))


def test_each_set_of_categories_has_one_column() -> None:
    leaf, values = np.array([1, -1, -1]), np.zeros((3, 1))
    tree = Tree(leaf, np.array([2, -1, -1]), np.array([1, 0, 0]), np.array([7.0, 0, 0]), leaf < 0, values)
    splits = [{0: (0, np.array([1, 0, 1]))}, {0: (0, np.array([1, 0, 1]))}, {0: (0, np.array([0, 1, 1]))}, {}]
    trees, sides = split_by_sides([tree] * 4, splits, [2, 1], n_numbers=3)
    assert [int(one.feature[0]) for one in trees] == [3, 3, 4, 1]
    assert [float(one.threshold[0]) for one in trees] == [0.5, 0.5, 0.5, 7]
    assert sides[0].tolist() == [[1, 0], [0, 1], [1, 1]]
    assert sides[1].tolist() == [[0], [0]], "of a column that no tree splits by"


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
