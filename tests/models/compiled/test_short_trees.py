"""Trees that are asked a block of rows at once answer as the walk in numpy does, bit for bit, whatever their shape."""

from typing import Any

import numpy as np
import pytest

from wineexp.models.compiled import kernel, short
from wineexp.models.compiled.walk import Walk

pytestmark = pytest.mark.skipif(kernel.build() is None, reason="no C compiler")

# Fewer than a block is worth, a block, and so many that the last block is large or small.
ROWS = (1, 15, 16, 17, 63, 64, 65, 127, 130, 200)

# Thresholds lie on a grid, on which values lie as well.
STEPS = 20


def forest(rng: Any, kind: Any, depths: list[int], *, columns: int = 7, width: int = 1, steps: int = STEPS) -> Any:
    """The arrays of trees that are so deep, as full as chance has it, their nodes mingled, children after parents."""
    feature, left, threshold, missing_left, values = [], [], [], [], []
    # Of each node, how far its tree may grow below it, and whether it must.
    nodes = [(depth, True) for depth in depths]
    for below, must in nodes:
        splits = below > 0 and (must or rng.random() < 0.9)
        left.append(len(nodes) if splits else -1)
        feature.append(int(rng.integers(columns)) if splits else len(values))
        threshold.append(rng.integers(steps) / 8 if splits else 0)
        missing_left.append(bool(rng.integers(2)))
        if splits:
            nodes += [(below - 1, False)] * 2
        else:
            values.append(rng.normal(size=width))
    return {
        "threshold": np.array(threshold, dtype=kind),
        "feature": np.array(feature, dtype=np.int32),
        "left": np.array(left, dtype=np.int32),
        "missing_left": np.array(missing_left),
        "roots": np.arange(len(depths), dtype=np.int32),
        "groups": np.array(rng.integers(4 if width == 1 else 1, size=len(depths)), dtype=np.int32),
        "values": np.array(values, dtype=kind),
        "columns": columns,
        "outputs": 4,
    }


def alike(rng: Any, trees: Any, *, missing: bool = False, steps: int = STEPS) -> Walk:
    """Ask both walks the same rows: values on thresholds, beside them, and beyond."""
    native = Walk(**trees)
    with kernel.plain():
        walked = Walk(**trees)
    kind = trees["threshold"].dtype
    for rows in ROWS:
        on = (rng.integers(-2, steps + 2, size=(rows, trees["columns"])) / 8).astype(kind)
        near = np.nextafter(on, kind.type(np.inf) * rng.choice([-1, 1], on.shape).astype(kind))
        X = np.select([rng.random(on.shape) < 0.5], [on], near).astype(np.float64)
        X[rng.random(on.shape) < 0.01] = np.inf
        X[rng.random(on.shape) < 0.01] = -0.0
        if missing:
            X[rows // 2, 0] = np.nan
        ours, theirs = (np.full((rows, 4), 0.5, dtype=kind) for _ in range(2))
        native.add(X, ours)
        walked.add(X, theirs)
        assert ours.tolist() == theirs.tolist(), rows
    return native


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("depths", [[0], [0, 1, 2, 6, 0, 5, 7] * 3, [6] * 24, [3] * 11])
def test_a_block_ends_where_each_row_would(kind: Any, depths: list[int], width: int, missing: bool) -> None:
    rng = np.random.default_rng(len(depths) + width)
    trees = forest(rng, kind, depths, width=width)
    assert alike(rng, trees, missing=missing).shortened


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_trees_with_too_many_leaves_are_walked_beside_the_others(kind: Any) -> None:
    rng = np.random.default_rng(1)
    trees = forest(rng, kind, [5, 9, 4, 6, 5, 9, 4, 6, 3, 6])
    assert alike(rng, trees).shortened
    assert not alike(rng, forest(rng, kind, [9] * 4)).shortened


@pytest.mark.parametrize(("columns", "steps"), [(300, STEPS), (3, 4000)])
def test_columns_without_a_place_or_with_too_many_thresholds(columns: int, steps: int) -> None:
    rng = np.random.default_rng(2)
    trees = forest(rng, np.float32, [6] * 60, columns=columns, steps=steps)
    assert not alike(rng, trees, steps=steps).shortened
    # Of the last columns only a few trees ask, and of the last thresholds.
    trees = forest(rng, np.float32, [2] * 400, columns=columns, steps=steps)
    inner = trees["left"] >= 0
    few = inner & (np.arange(len(inner)) % 50 != 0)
    trees["feature"][few] %= 2
    trees["threshold"][few] %= 2
    assert alike(rng, trees, steps=steps).shortened


def test_a_threshold_that_is_no_number_sends_right_as_before() -> None:
    rng = np.random.default_rng(3)
    trees = forest(rng, np.float32, [4] * 40, columns=30)
    trees["threshold"][np.flatnonzero(trees["left"] >= 0)[5]] = np.nan
    assert alike(rng, trees).shortened


def test_a_place_fits_a_byte() -> None:
    rng = np.random.default_rng(4)
    for steps in (short.RANKED - 1, short.RANKED):
        trees = forest(rng, np.float64, [1] * steps, columns=1)
        trees["threshold"][: len(trees["roots"])] = rng.permutation(steps) / 8
        assert alike(rng, trees, steps=steps).shortened == (steps < short.RANKED)
