"""The smallest change beside a brute force over one and two features: see README.md."""

import argparse
import itertools
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.explanations.models import TREE, FittedModel, fit
from wineexp.models.training_values import Categories

MODELS = {
    "xgb": ["model=xgb"],
    "forest": ["model=forest", "model.n_estimators=50"],
    "histgb": ["model=histgb"],
    "tree": TREE,
    "logreg": ["model=logreg"],
}

# For a model that has no thresholds.
GRID_SIZE = 60

BATCH_ROWS = 2**16


def main() -> None:
    """Print, for each model, how far the changes that are found are from the smallest ones, and how long they take."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--data", nargs="*", default=["data=red", "target=good", "feature=raw"])
    arguments = parser.parse_args()
    for name in arguments.models:
        model = fit(*arguments.data, *MODELS[name])
        ratios, seconds, n_missed, n_none = [], [], 0, 0
        # Prepared here, so that the time of the first row is that of the others.
        explainer = model.explainer
        for position in np.linspace(0, len(model.X) - 1, arguments.rows).astype(int).tolist():
            row = model.row(position)
            start = time.process_time()
            change = explainer.smallest_change(row)
            seconds.append(time.process_time() - start)
            best = brute_force(model, row, math.inf if change is None else change.distance)
            if change is None:
                n_none += 1
                n_missed += best is not None
            else:
                ratios.append(1.0 if best is None else change.distance / best)
        print(
            f"{name:8} found {len(ratios)}, of brute force: median {np.median(ratios):.3f}, worst {max(ratios):.3f}; "
            f"none for {n_none}, of which brute force finds {n_missed}; "
            f"{1000 * np.median(seconds):.0f} ms, at most {1000 * max(seconds):.0f} ms",
            flush=True,
        )


def brute_force(model: FittedModel, row: dict[str, Any], limit: float) -> float | None:
    """The distance of the smallest change of one or two features below a limit; None where none flips the decision.

    Every combination of the thresholds of the model's splits is predicted by the model, the nearest first.
    """
    names = list(row)
    values = [_values(model, row, name) for name in names]
    distances = [
        np.array([model.training_values[name].distance(row[name], value) for value in of_feature])
        for name, of_feature in zip(names, values, strict=True)
    ]
    code = model.pipeline[-1].decide(
        model.predict_proba({name: np.array([row[name]], dtype=_dtype(row[name])) for name in names})
    )[0]
    best = None
    for changed in [*itertools.combinations(range(len(names)), 1), *itertools.combinations(range(len(names)), 2)]:
        for batch, of_batch in _nearest_first([distances[axis] for axis in changed], limit):
            columns = {name: np.full(len(of_batch), row[name], dtype=_dtype(row[name])) for name in names}
            for axis, chosen in zip(changed, batch, strict=True):
                columns[names[axis]] = values[axis][chosen]
            flips = np.flatnonzero(model.pipeline[-1].decide(model.predict_proba(columns)) != code)
            if len(flips):
                limit = best = float(of_batch[flips[0]])
                break
    return best


def _dtype(value: float | str) -> type:
    return object if isinstance(value, str) else np.float64


def _values(model: FittedModel, row: dict[str, Any], name: str) -> npt.NDArray[Any]:
    """Just beyond each threshold, as seen from the row, within the training range; each other text."""
    training = model.training_values[name]
    if isinstance(training, Categories):
        return np.array([value for value in training.values if value != row[name]], dtype=object)
    if model.explainer.boxes is None:
        return np.array([value for value in training.grid(GRID_SIZE) if value != row[name]])
    trees = model.explainer.boxes.trees
    # With feature=raw, each number is a column as it is.
    column = list(model.pipeline[:-1].get_feature_names_out()).index(name)
    limits = trees.threshold[(trees.left >= 0) & (trees.column == column)].astype(np.float32)
    below, above = np.nextafter(limits, np.float32(-np.inf)), np.nextafter(limits, np.float32(np.inf))
    possible = np.unique(np.where(limits < row[name], below, above).astype(np.float64))
    return possible[(possible >= training.low) & (possible <= training.high)]


def _nearest_first(
    distances: list[npt.NDArray[np.float64]], limit: float
) -> Iterator[tuple[tuple[npt.NDArray[np.intp], ...], npt.NDArray[np.float64]]]:
    """Combinations of values by ascending sum of distances below a limit, in batches, with their sums."""
    total = distances[0] if len(distances) == 1 else distances[0][:, None] + distances[1]
    places = np.flatnonzero(total.ravel() < limit)
    places = places[np.argsort(total.ravel()[places], kind="stable")]
    for start in range(0, len(places), BATCH_ROWS):
        batch = places[start : start + BATCH_ROWS]
        yield tuple(np.unravel_index(batch, total.shape)), total.ravel()[batch]


if __name__ == "__main__":
    main()
