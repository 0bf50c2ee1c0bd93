"""Block traversal of ranked trees gives the same bits as numpy's traversal, whatever the shape of the trees."""

from typing import Any

import numpy as np
import pytest

from wineexp.models.compiled import kernel
from wineexp.models.compiled.ranked_trees import MAX_RANKS
from wineexp.models.compiled.tree_ensemble import TreeEnsemble

pytestmark = pytest.mark.skipif(kernel.build() is None, reason="no C compiler")

# Fewer rows than block traversal is used for, exactly a block, and more, so that the last block is small or large.
ROW_COUNTS = (1, 15, 16, 17, 63, 64, 65, 127, 130, 200)

# Thresholds lie on a grid of so many values, and so do many of the rows' values.
GRID_SIZE = 20


def random_trees(
    rng: Any, dtype: Any, depths: list[int], *, n_columns: int = 7, width: int = 1, grid_size: int = GRID_SIZE
) -> Any:
    """The arguments of `TreeEnsemble` for random trees of these depths, whose nodes are mixed in the arrays."""
    feature, left, threshold, missing_left, values = [], [], [], [], []
    # For each node, how deep the tree may grow below it, and whether it has to be a split.
    nodes = [(depth, True) for depth in depths]
    for depth_below, must_split in nodes:
        is_split = depth_below > 0 and (must_split or rng.random() < 0.9)
        left.append(len(nodes) if is_split else -1)
        feature.append(int(rng.integers(n_columns)) if is_split else len(values))
        threshold.append(rng.integers(grid_size) / 8 if is_split else 0)
        missing_left.append(bool(rng.integers(2)))
        if is_split:
            nodes += [(depth_below - 1, False)] * 2
        else:
            values.append(rng.normal(size=width))
    return {
        "threshold": np.array(threshold, dtype=dtype),
        "feature": np.array(feature, dtype=np.int32),
        "left": np.array(left, dtype=np.int32),
        "missing_left": np.array(missing_left),
        "roots": np.arange(len(depths), dtype=np.int32),
        "groups": np.array(rng.integers(4 if width == 1 else 1, size=len(depths)), dtype=np.int32),
        "values": np.array(values, dtype=dtype),
        "n_columns": n_columns,
        "n_outputs": 4,
    }


def assert_same_bits(rng: Any, trees: Any, *, missing: bool = False, grid_size: int = GRID_SIZE) -> TreeEnsemble:
    """Compare kernel and numpy for values on thresholds, next to them and beyond; returns the kernel's trees."""
    with_kernel = TreeEnsemble(**trees)
    with kernel.numpy_only():
        with_numpy = TreeEnsemble(**trees)
    dtype = trees["threshold"].dtype
    for n_rows in ROW_COUNTS:
        on = (rng.integers(-2, grid_size + 2, size=(n_rows, trees["n_columns"])) / 8).astype(dtype)
        beside = np.nextafter(on, dtype.type(np.inf) * rng.choice([-1, 1], on.shape).astype(dtype))
        X = np.select([rng.random(on.shape) < 0.5], [on], beside).astype(np.float64)
        X[rng.random(on.shape) < 0.01] = np.inf
        X[rng.random(on.shape) < 0.01] = -0.0
        if missing:
            X[n_rows // 2, 0] = np.nan
        actual, expected = (np.full((n_rows, 4), 0.5, dtype=dtype) for _ in range(2))
        with_kernel.add_to(actual, X)
        with_numpy.add_to(expected, X)
        assert actual.tolist() == expected.tolist(), n_rows
    return with_kernel


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("depths", [[0], [0, 1, 2, 6, 0, 5, 7] * 3, [6] * 24, [3] * 11])
def test_each_row_of_a_block_reaches_its_leaf(dtype: Any, depths: list[int], width: int, missing: bool) -> None:
    rng = np.random.default_rng(len(depths) + width)
    trees = random_trees(rng, dtype, depths, width=width)
    assert assert_same_bits(rng, trees, missing=missing).has_ranked_trees


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_trees_with_too_many_leaves_are_traversed_row_by_row_beside_the_others(dtype: Any) -> None:
    rng = np.random.default_rng(1)
    some_large = random_trees(rng, dtype, [5, 9, 4, 6, 5, 9, 4, 6, 3, 6])
    assert assert_same_bits(rng, some_large).has_ranked_trees
    assert not assert_same_bits(rng, random_trees(rng, dtype, [9] * 4)).has_ranked_trees


@pytest.mark.parametrize(("n_columns", "grid_size"), [(300, GRID_SIZE), (3, 4000)])
def test_more_columns_or_thresholds_than_ranks(n_columns: int, grid_size: int) -> None:
    rng = np.random.default_rng(2)
    trees = random_trees(rng, np.float32, [6] * 60, n_columns=n_columns, grid_size=grid_size)
    assert not assert_same_bits(rng, trees, grid_size=grid_size).has_ranked_trees
    # Where only a few trees use columns or thresholds without a rank, the others are ranked.
    trees = random_trees(rng, np.float32, [2] * 400, n_columns=n_columns, grid_size=grid_size)
    is_split = trees["left"] >= 0
    most = is_split & (np.arange(len(is_split)) % 50 != 0)
    trees["feature"][most] %= 2
    trees["threshold"][most] %= 2
    assert assert_same_bits(rng, trees, grid_size=grid_size).has_ranked_trees


def test_a_threshold_of_nan_sends_every_value_right() -> None:
    rng = np.random.default_rng(3)
    trees = random_trees(rng, np.float32, [4] * 40, n_columns=30)
    trees["threshold"][np.flatnonzero(trees["left"] >= 0)[5]] = np.nan
    assert assert_same_bits(rng, trees).has_ranked_trees


def test_a_rank_fits_into_a_byte() -> None:
    rng = np.random.default_rng(4)
    for n_thresholds in (MAX_RANKS - 1, MAX_RANKS):
        trees = random_trees(rng, np.float64, [1] * n_thresholds, n_columns=1)
        trees["threshold"][: len(trees["roots"])] = rng.permutation(n_thresholds) / 8
        ensemble = assert_same_bits(rng, trees, grid_size=n_thresholds)
        assert ensemble.has_ranked_trees == (n_thresholds < MAX_RANKS)
