"""Fitted models with what explanations need of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

from wineexp import compose
from wineexp.data.schema import NumericFeature
from wineexp.models.compiled.compiled_model import CompiledModel
from wineexp.models.compiled.flatten import CannotCompileError, flatten
from wineexp.models.counterfactual import NumericRange, TrainingValues
from wineexp.models.fitted_trees import fitted_trees
from wineexp.models.leaf_boxes import LeafBoxes, make_leaf_boxes
from wineexp.models.shapley import source_features
from wineexp.serving.refresh.explanations import training_values
from wineexp.workflows.experiment import assemble

Columns = Mapping[str, npt.NDArray[Any]]

TREE = [
    "model=forest",
    "model._target_=sklearn.tree.DecisionTreeClassifier",
    "~model.n_estimators",
    "~model.n_jobs",
    "model.max_features=null",
]


@dataclass(frozen=True)
class FittedModel:
    """A pipeline that is fitted on all rows of a data set.

    Attributes
    ----------
    pipeline : Pipeline
    X : DataFrame of shape (n_samples, n_features)
    classes : list
    training_values : mapping of str to NumericRange or Categories
    compiled : CompiledModel or None
    boxes : LeafBoxes or None
    """

    pipeline: Pipeline
    X: pd.DataFrame
    classes: list[Any]
    training_values: TrainingValues
    compiled: CompiledModel | None
    boxes: LeafBoxes | None

    def predict_proba(self, columns: Columns) -> npt.NDArray[np.float64]:
        """As a server predicts."""
        if self.compiled is None:
            return np.asarray(self.pipeline.predict_proba(frame(columns)))
        if all(values.dtype == np.float64 for values in columns.values()):
            return self.compiled.predict_proba(np.column_stack(list(columns.values())))
        return self.compiled.predict_proba(list(zip(*(values.tolist() for values in columns.values()), strict=True)))

    def row(self, position: int) -> dict[str, Any]:
        """The values of a row."""
        return {str(name): value for name, value in self.X.iloc[position].to_dict().items()}


def fit(*overrides: str) -> FittedModel:
    """The model of a training with these overrides."""
    experiment = assemble(compose(*overrides))
    pipeline, X = experiment.fit(), experiment.task.X
    schema = experiment.task.schema("", "")
    values = training_values(schema)
    try:
        compiled = CompiledModel(*flatten(pipeline, X))
    except CannotCompileError:
        compiled = None
    trees = fitted_trees(pipeline)
    rows = X.iloc[np.unique(np.linspace(0, len(X) - 1, 100).astype(int))]
    boxes = None
    if trees is not None:
        boxes = make_leaf_boxes(
            trees,
            source_features(pipeline[:-1], rows),
            lambda columns: np.asarray(pipeline[:-1].transform(frame(columns)), dtype=np.float64),
            {name: (range_.low, range_.high) for name, range_ in values.items() if isinstance(range_, NumericRange)},
            {
                feature.name: rows[feature.name].to_numpy(
                    dtype=np.float64 if isinstance(feature, NumericFeature) else object
                )
                for feature in schema.features
            },
        )
    return FittedModel(pipeline, X, experiment.task.classes.tolist(), values, compiled, boxes)


def frame(columns: Columns) -> pd.DataFrame:
    """A table of one array for each feature."""
    return pd.DataFrame(
        {
            name: pd.Series(values, dtype="str" if values.dtype == object else "float64")
            for name, values in columns.items()
        }
    )
