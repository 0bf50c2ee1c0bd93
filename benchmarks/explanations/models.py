"""Fitted models with what explanations need of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

from wineexp import compose
from wineexp.models.compiled.compiled_model import CompiledModel
from wineexp.models.compiled.flatten import flatten
from wineexp.models.compiled.refusal import CannotCompileError
from wineexp.models.explainer import ModelExplainer
from wineexp.models.training_values import Categories, NumericRange, TrainingValues
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
    training_values : mapping of str to NumericRange or Categories
    compiled : CompiledModel or None
    """

    pipeline: Pipeline
    X: pd.DataFrame
    y: pd.Series
    training_values: TrainingValues
    compiled: CompiledModel | None

    def predict_proba(self, columns: Columns) -> npt.NDArray[np.float64]:
        """As a server predicts."""
        if self.compiled is None:
            return np.asarray(self.pipeline.predict_proba(frame(columns)))
        if all(values.dtype == np.float64 for values in columns.values()):
            return self.compiled.outputs(np.column_stack(list(columns.values())))
        return self.compiled.outputs(list(zip(*(values.tolist() for values in columns.values()), strict=True)))

    def columns(self, rows: pd.DataFrame) -> dict[str, npt.NDArray[Any]]:
        """Rows as an array for each feature."""
        return {name: rows[name].to_numpy(dtype=_dtype(values)) for name, values in self.training_values.items()}

    @cached_property
    def explainer(self) -> ModelExplainer:
        """What explains predictions by a hundred rows of X."""
        return self.explainer_by(self.X.iloc[:: max(1, len(self.X) // 100)])

    def explainer_by(self, background: pd.DataFrame) -> ModelExplainer:
        """What explains predictions by some background rows."""
        return ModelExplainer(
            self.pipeline, self.predict_proba, self.transform, self.training_values, self.columns(background)
        )

    def transform(self, columns: Columns) -> npt.NDArray[np.float64]:
        """The columns that the classifier takes."""
        return np.asarray(self.pipeline[:-1].transform(frame(columns)), dtype=np.float64)

    def row(self, position: int) -> dict[str, Any]:
        """The values of a row."""
        return {str(name): value for name, value in self.X.iloc[position].to_dict().items()}


def fit(*overrides: str) -> FittedModel:
    """The model of a training with these overrides."""
    experiment = assemble(compose(*overrides))
    pipeline, X = experiment.fit(), experiment.task.X
    values = training_values(experiment.task.schema("", ""))
    try:
        compiled = CompiledModel(*flatten(pipeline, X))
    except CannotCompileError:
        compiled = None
    return FittedModel(pipeline, X, experiment.task.y, values, compiled)


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
