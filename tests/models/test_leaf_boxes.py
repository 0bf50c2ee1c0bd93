"""The boxes of leaves give the model's probabilities for every cell of one feature and of two."""

from typing import Any

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

from benchmarks.explanations.models import fit
from tests.models import test_shapley as small
from wineexp.models.fitted_trees import fitted_trees
from wineexp.models.leaf_boxes import LeafBoxes, make_leaf_boxes
from wineexp.models.pipeline import make_pipeline
from wineexp.models.shapley import find_sources, only_sources

KINDS = {
    "xgb": lambda: XGBClassifier(n_estimators=10, max_depth=4, n_jobs=1),
    "histgb": lambda: HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=5),
    "tree": lambda: DecisionTreeClassifier(random_state=0),
}


@pytest.mark.usefixtures("wine_quality")
@pytest.mark.parametrize(
    "feature", ["raw", *(pytest.param(name, marks=pytest.mark.journey) for name in ("scaled", "without"))]
)
@pytest.mark.parametrize("settings", [["model=xgb", "model.n_estimators=10"], ["model=histgb", "model.max_iter=5"]])
def test_scores_of_cells_are_those_of_the_model(feature: str, settings: list[str]) -> None:
    model = fit("data=quality", "target=tier", f"feature={feature}", *settings)
    boxes = model.explainer.boxes
    assert boxes is not None
    row = {
        name: np.array([value], dtype=object if isinstance(value, str) else float)
        for name, value in model.row(7).items()
    }
    passes = boxes.passes(boxes.transform(row)[0])
    for first, second in (("alcohol", "density"), ("chlorides", "pH")):
        axes = [boxes.axes.index(name) for name in (first, second)]
        leaves = np.flatnonzero(np.delete(passes, axes, axis=1).all(axis=1))
        # A cut is the smallest value of the cell above it.
        values = [cuts[np.isfinite(cuts)][:40] for cuts in (boxes.cuts[first], boxes.cuts[second])]
        cells = [np.arange(1, len(of_axis) + 1) for of_axis in values]
        both = np.meshgrid(*values, indexing="ij")
        for shift in (0, 1):
            # Just below its cut, a value is in the cell before.
            scores = boxes.scores(leaves, axes, [of_axis - shift for of_axis in cells])
            moved = [np.nextafter(of_axis.ravel(), -np.inf) if shift else of_axis.ravel() for of_axis in both]
            rows = {name: np.repeat(value, moved[0].size) for name, value in row.items()}
            expected = model.predict_proba(rows | {first: moved[0], second: moved[1]})
            found = boxes.trees.probabilities(scores.reshape(-1, scores.shape[-1]))
            assert found == pytest.approx(expected, abs=1e-6)


def test_columns_of_several_features_are_no_axes() -> None:
    assert fit("model=xgb", "model.n_estimators=5", "feature=poly").explainer.boxes is None


def small_boxes(transformer: Any, kind: str, y: Any = None) -> tuple[LeafBoxes | None, Any]:
    """The boxes of a model of a table with missing numbers and a text of three values, and its probabilities."""
    X = small.table()
    fitted = make_pipeline(transformer, KINDS[kind](), range(3)).fit(X, small.labels(X, 3) if y is None else y)

    def transform(rows: small.Columns) -> np.ndarray:
        return np.asarray(fitted[:-1].transform(small.frame(rows)), dtype=np.float64)

    probes, probabilities = small.columns(X), fitted.predict_proba(X)
    trees = fitted_trees(fitted, transform(probes), probabilities)
    assert trees is not None
    sources = only_sources(find_sources(transform, probes), list(probes))
    ranges = {name: (np.nanmin(values), np.nanmax(values)) for name, values in probes.items() if name != "colour"}
    return make_leaf_boxes(trees, sources, transform, ranges, probes), probabilities


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("feature", ["raw", "scaled"])
def test_a_row_passes_one_leaf_of_each_tree_whatever_its_text_and_what_it_misses(feature: str, kind: str) -> None:
    boxes, probabilities = small_boxes(small.FEATURES[feature](), kind)
    assert boxes is not None
    for columns, expected in zip(boxes.transform(small.columns(small.table())), probabilities, strict=True):
        passes = boxes.passes(columns).all(axis=1)
        assert passes.sum() == len(boxes.trees.roots)
        scores = boxes.trees.values[passes].sum(axis=0) + boxes.trees.base
        assert boxes.trees.probabilities(scores) == pytest.approx(expected, abs=1e-6)


def test_a_number_with_a_column_that_says_whether_it_is_missing_has_no_cells() -> None:
    def indicated(imputer: SimpleImputer) -> Any:
        return make_column_transformer((OneHotEncoder(), ["colour"]), remainder=imputer, sparse_threshold=0)

    X = small.table()
    y = np.where(X["sugar"].isna(), 2, X["sugar"] > 3)
    assert small_boxes(indicated(SimpleImputer(strategy="most_frequent")), "tree", y)[0] is not None
    assert small_boxes(indicated(SimpleImputer(strategy="most_frequent", add_indicator=True)), "tree", y)[0] is None


def test_trees_without_splits_have_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "stump", lambda: XGBClassifier(n_estimators=2, gamma=1e9, n_jobs=1))
    boxes, probabilities = small_boxes(small.FEATURES["raw"](), "stump")
    assert boxes is not None
    assert boxes.trees.probabilities(boxes.scores(np.arange(len(boxes.low)), [], [])) == pytest.approx(
        probabilities[0], abs=1e-6
    )
