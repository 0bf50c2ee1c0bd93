"""Fitted models with what explanations need of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

from wineexp import compose
from wineexp.models.compiled.compiled_model import CompiledModel
from wineexp.models.compiled.flatten import CannotCompileError, flatten
from wineexp.models.fitted_trees import fitted_trees
from wineexp.models.leaf_boxes import LeafBoxes, Transform, make_leaf_boxes
from wineexp.models.shapley import ShapleyExplainer, find_sources, only_sources
from wineexp.models.training_values import Categories, NumericRange, TrainingValues, extreme_rows
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
    y : Series of shape (n_samples,)
    classes : list
    training_values : mapping of str to NumericRange or Categories
    compiled : CompiledModel or None
    boxes : LeafBoxes or None
    transform : callable
    sources : ndarray of bool of shape (n_columns, n_features)
    """

    pipeline: Pipeline
    X: pd.DataFrame
    y: pd.Series
    classes: list[Any]
    training_values: TrainingValues
    compiled: CompiledModel | None
    boxes: LeafBoxes | None
    transform: Transform
    sources: npt.NDArray[np.bool_]

    def predict_proba(self, columns: Columns) -> npt.NDArray[np.float64]:
        """As a server predicts."""
        if self.compiled is None:
            return np.asarray(self.pipeline.predict_proba(frame(columns)))
        if all(values.dtype == np.float64 for values in columns.values()):
            return self.compiled.predict_proba(np.column_stack(list(columns.values())))
        return self.compiled.predict_proba(list(zip(*(values.tolist() for values in columns.values()), strict=True)))

    def columns(self, rows: pd.DataFrame) -> dict[str, npt.NDArray[Any]]:
        """Rows as an array for each feature."""
        return {name: rows[name].to_numpy(dtype=_dtype(values)) for name, values in self.training_values.items()}

    def explainer(self, background: pd.DataFrame) -> ShapleyExplainer:
        """What explains predictions by some background rows."""
        return ShapleyExplainer(
            self.pipeline, self.predict_proba, self.transform, self.columns(background), self.sources
        )

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
    names = [feature.name for feature in schema.features]
    ends = [list(row) for row in zip(*extreme_rows(values), strict=True)]
    probes = {
        name: np.array([*X[name].iloc[:: max(1, len(X) // 100)], *of_feature], dtype=_dtype(values[name]))
        for name, of_feature in zip(names, ends, strict=True)
    }

    def transform(columns: Columns) -> npt.NDArray[np.float64]:
        return np.asarray(pipeline[:-1].transform(frame(columns)), dtype=np.float64)

    sources = find_sources(transform, probes)
    fitted = FittedModel(
        pipeline, X, experiment.task.y, experiment.task.classes.tolist(), values, compiled, None, transform, sources
    )
    trees = fitted_trees(pipeline, transform(probes), fitted.predict_proba(probes))
    boxes = None
    if trees is not None:
        ranges = {
            name: (range_.low, range_.high) for name, range_ in values.items() if isinstance(range_, NumericRange)
        }
        boxes = make_leaf_boxes(trees, only_sources(sources, names), transform, ranges, probes)
    return replace(fitted, boxes=boxes)


def _dtype(values: NumericRange | Categories) -> type:
    return np.float64 if isinstance(values, NumericRange) else object


def frame(columns: Columns) -> pd.DataFrame:
    """A table of one array for each feature."""
    return pd.DataFrame(
        {
            name: pd.Series(values, dtype="str" if values.dtype == object else "float64")
            for name, values in columns.items()
        }
    )
