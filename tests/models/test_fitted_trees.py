"""The trees of libraries that need not be installed, read from stored model dumps."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from wineexp.models.fitted_trees import fitted_trees

# Models of two or three trees for each score, of LightGBM 4.7 and CatBoost 1.2, without what is not read of them; some
# rows, in which values are missing, and what the library predicts for them.
DUMPS = Path(__file__).parent / "dumps"


class LGBMClassifier:
    """A fitted model of LightGBM, of which there is the dump alone."""

    def __init__(self, model: dict[str, Any], n_classes: int) -> None:
        self.classes_ = np.arange(n_classes)
        self.booster_ = SimpleNamespace(dump_model=lambda: model)


class CatBoostClassifier:
    """A fitted model of CatBoost, of which there is the file alone."""

    def __init__(self, model: dict[str, Any], n_classes: int) -> None:
        self.classes_ = np.arange(n_classes)
        self._model = model

    def get_cat_feature_indices(self) -> list[int]:
        return []

    def save_model(self, path: str, **kind: str) -> None:
        assert kind == {"format": "json"}
        Path(path).write_text(json.dumps(self._model), encoding="utf-8")


KINDS = {"lightgbm": LGBMClassifier, "catboost": CatBoostClassifier}


def read(kind: str, changes: dict[str, Any], n_classes: str = "two") -> Any:
    """The trees of a dump with some changes."""
    dump = json.loads((DUMPS / f"{kind}_{n_classes}_classes.json").read_text(encoding="utf-8"))
    probabilities = np.array(dump["probabilities"])
    classes = np.arange(probabilities.shape[1])
    estimator = KINDS[kind](dump["model"] | changes, len(classes))
    model = SimpleNamespace(estimator_=estimator, present_=classes, classes_=classes)
    pipeline: Any = [model]
    return fitted_trees(pipeline, np.array(dump["rows"], dtype=np.float64), probabilities)


@pytest.mark.parametrize("n_classes", ["two", "three"])
@pytest.mark.parametrize("kind", KINDS)
def test_trees_of_a_dump_give_the_probabilities_of_the_library(kind: str, n_classes: str) -> None:
    """Trees with other probabilities are none."""
    assert read(kind, {}, n_classes) is not None


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("lightgbm", {"objective": "multiclassova num_class:2 sigmoid:1"}),
        ("lightgbm", {"objective": "binary sigmoid:1.5"}),
        ("lightgbm", {"average_output": True}),
        ("lightgbm", {"tree_info": []}),
        ("catboost", {"oblivious_trees": []}),
        ("catboost", {"scale_and_bias": [2, [0]]}),
        ("catboost", {"features_info": {"float_features": [], "categorical_features": []}}),
    ],
)
def test_other_dumps_have_no_trees_to_explain_by(kind: str, changes: dict[str, Any]) -> None:
    assert read(kind, changes) is None
