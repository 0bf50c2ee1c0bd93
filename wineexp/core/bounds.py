"""Bounds of arguments that libraries do not check, or only once they train; scikit-learn declares its own.

XGBoost with a negative number of trees trains none, and answers every row alike.
"""

import math
from typing import Any, NamedTuple


class Bound(NamedTuple):
    """The values that a number may have: from `low` (or above it) to `high`, both included otherwise."""

    low: float
    high: float = math.inf
    excludes_low: bool = False

    def holds(self, value: float) -> bool:
        """Whether a value is within the bound."""
        return (value > self.low if self.excludes_low else value >= self.low) and value <= self.high

    def rule(self, name: str) -> str:
        """The bound as a rule about a name: `0 < subsample <= 1`."""
        return f"{self.low:g} {'<' if self.excludes_low else '<='} {name}" + (
            f" <= {self.high:g}" if self.high < math.inf else ""
        )


NOT_NEGATIVE, POSITIVE, AT_LEAST_1 = Bound(0), Bound(0, excludes_low=True), Bound(1)
SHARE = Bound(0, 1, excludes_low=True)

# By package and argument.
BOUNDS: dict[str, dict[str, Bound]] = {
    "xgboost": {
        **dict.fromkeys(["n_estimators", "num_parallel_tree"], AT_LEAST_1),
        **dict.fromkeys(["learning_rate", "scale_pos_weight"], POSITIVE),
        **dict.fromkeys(["subsample", "colsample_bytree", "colsample_bylevel", "colsample_bynode"], SHARE),
        **dict.fromkeys(["max_depth", "max_leaves", "min_child_weight", "max_delta_step"], NOT_NEGATIVE),
        **dict.fromkeys(["gamma", "reg_alpha", "reg_lambda"], NOT_NEGATIVE),
        "max_bin": Bound(2),
    },
    "lightgbm": {
        "n_estimators": AT_LEAST_1,
        "num_leaves": Bound(2),
        **dict.fromkeys(["learning_rate", "scale_pos_weight"], POSITIVE),
        **dict.fromkeys(["subsample", "colsample_bytree"], SHARE),
        **dict.fromkeys(["min_child_samples", "min_child_weight", "min_split_gain", "subsample_freq"], NOT_NEGATIVE),
        **dict.fromkeys(["reg_alpha", "reg_lambda"], NOT_NEGATIVE),
    },
    "catboost": {
        **dict.fromkeys(
            ["iterations", "n_estimators", "num_boost_round", "num_trees", "depth", "max_depth"], AT_LEAST_1
        ),
        **dict.fromkeys(["learning_rate", "eta", "scale_pos_weight"], POSITIVE),
        **dict.fromkeys(["subsample", "rsm", "colsample_bylevel"], SHARE),
        **dict.fromkeys(["l2_leaf_reg", "reg_lambda"], NOT_NEGATIVE),
    },
}


def bound_fault(target: Any, key: str, value: Any) -> str | None:
    """Why a value is out of the bounds of an argument of a class, or of one of its bases; None where it is not."""
    packages = {base.__module__.partition(".")[0] for base in getattr(target, "__mro__", ())}
    for package in packages & BOUNDS.keys():
        bound = BOUNDS[package].get(key)
        if bound is not None and isinstance(value, int | float) and not bound.holds(value):
            return f"{bound.rule(key)} must hold"
    return None
