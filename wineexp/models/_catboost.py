"""What explanations rely on of CatBoost's JSON model files."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from wineexp.models.compiled.arrays import Array
from wineexp.models.compiled.flat_trees import Tree


def symmetric_trees(estimator: Any) -> tuple[list[Tree], Array] | None:
    """The trees of a fitted CatBoostClassifier and the scores before them, of shape (n_outputs,).

    None where it has no trees, or where they are not symmetric, which is its default, or have splits on categories.
    """
    if estimator.get_cat_feature_indices():
        # Its splits are on means of the target by category, which CatBoost writes only with the training rows at hand.
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        estimator.save_model(str(path), format="json")
        model = json.loads(path.read_text(encoding="utf-8"))
    features = model["features_info"].get("float_features", [])
    if not model.get("oblivious_trees") or len(model["features_info"]) > 1:
        return None
    columns = {feature["feature_index"]: feature["flat_feature_index"] for feature in features}
    missing_left = {feature["feature_index"]: feature["nan_value_treatment"] != "AsTrue" for feature in features}
    scale, bias = model["scale_and_bias"]
    base = np.array(bias, dtype=np.float64).reshape(-1)
    trees = []
    for tree in model["oblivious_trees"]:
        splits = tree["splits"] or []
        values = scale * np.array(tree["leaf_values"], dtype=np.float64).reshape(2 ** len(splits), -1)
        trees.append(_binary_tree(splits, values, columns, missing_left))
    n_outputs = trees[0].values.shape[1]
    return trees, np.broadcast_to(base, n_outputs).copy()


def _binary_tree(
    splits: list[dict[str, Any]], values: Array, columns: dict[int, int], missing_left: dict[int, bool]
) -> Tree:
    """A tree with one split a level, the last one first: the first split is the lowest bit of a leaf's number."""
    levels = splits[::-1]
    n_splits = 2 ** len(levels) - 1
    position = np.arange(n_splits + len(values))
    is_split = position < n_splits
    level = np.floor(np.log2(position[:n_splits] + 1)).astype(int)
    own_columns = np.array([columns[split["float_feature_index"]] for split in levels], dtype=int)
    borders = np.array([split["border"] for split in levels], dtype=np.float64)
    own_missing = np.array([missing_left[split["float_feature_index"]] for split in levels], dtype=bool)
    leaves = np.zeros(len(values))
    return Tree(
        left=np.where(is_split, 2 * position + 1, -1),
        right=np.where(is_split, 2 * position + 2, -1),
        feature=np.concatenate([own_columns[level], leaves]).astype(int),
        threshold=np.concatenate([borders[level], leaves]),
        missing_left=np.concatenate([own_missing[level], leaves > 0]),
        values=np.concatenate([np.zeros((n_splits, values.shape[1])), values]),
    )
