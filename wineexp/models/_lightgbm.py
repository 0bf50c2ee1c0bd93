"""What explanations rely on of LightGBM's model dumps."""

from typing import Any

import numpy as np

from wineexp.models.compiled.arrays import Array
from wineexp.models.compiled.flat_trees import Tree


def lightgbm_trees(estimator: Any) -> tuple[list[Tree], Array, int] | None:
    """The trees of a fitted LGBMClassifier or LGBMRegressor, the output of each, and the number of outputs.

    None where it has another objective, averages its trees, or has splits on categories or on zero as missing.
    """
    dump = estimator.booster_.dump_model()
    # Of one class against all others the name is multiclassova, and the sigmoid may be another one.
    objective = dump.get("objective", "").split()
    is_known = objective[:1] == ["multiclass"] or objective in (["binary", "sigmoid:1"], ["regression"])
    if not is_known or dump["average_output"]:
        return None
    n_outputs = dump["num_tree_per_iteration"]
    trees = []
    for info in dump["tree_info"]:
        nodes = _nodes(info["tree_structure"])
        splits = [node for node in nodes if "split_feature" in node]
        if any(node["decision_type"] != "<=" or node["missing_type"] == "Zero" for node in splits):
            return None
        positions = {id(node): position for position, node in enumerate(nodes)}
        trees.append(
            Tree(
                left=np.array([positions.get(id(node.get("left_child")), -1) for node in nodes]),
                right=np.array([positions.get(id(node.get("right_child")), -1) for node in nodes]),
                feature=np.array([node.get("split_feature", 0) for node in nodes]),
                threshold=np.array([float(node.get("threshold", 0)) for node in nodes]),
                missing_left=np.array([_missing_goes_left(node) for node in nodes]),
                values=np.array([[float(node.get("leaf_value", 0))] for node in nodes]),
            )
        )
    return trees, (np.arange(len(trees)) % n_outputs).astype(np.int32), n_outputs


def _nodes(root: dict[str, Any]) -> list[dict[str, Any]]:
    nodes = [root]
    for node in nodes:
        if "split_feature" in node:
            nodes += [node["left_child"], node["right_child"]]
    return nodes


def _missing_goes_left(node: dict[str, Any]) -> bool:
    # Where training missed no value of the column, a missing one counts as 0.
    if node.get("missing_type") == "None":
        return bool(node["threshold"] >= 0)
    return bool(node.get("default_left", False))
