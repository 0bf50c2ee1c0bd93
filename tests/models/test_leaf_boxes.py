"""The boxes of leaves give the model's probabilities for every cell of one feature and of two."""

import numpy as np
import pytest

from benchmarks.explanations.models import fit


@pytest.mark.usefixtures("wine_quality")
@pytest.mark.parametrize("feature", ["raw", "scaled", "without"])
@pytest.mark.parametrize("settings", [["model=xgb", "model.n_estimators=10"], ["model=histgb", "model.max_iter=5"]])
def test_scores_of_cells_are_those_of_the_model(feature: str, settings: list[str]) -> None:
    model = fit("data=quality", "target=tier", f"feature={feature}", *settings)
    boxes = model.boxes
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
    assert fit("model=xgb", "model.n_estimators=5", "feature=poly").boxes is None
