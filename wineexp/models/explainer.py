"""Explanations of a prediction: what each feature contributes, and what would change it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import is_regressor
from sklearn.pipeline import Pipeline

from wineexp.models import counterfactual, shapley, what_if
from wineexp.models.counterfactual import Change
from wineexp.models.leaf_boxes import Transform, make_leaf_boxes
from wineexp.models.training_values import NumericRange, TrainingValues, extreme_rows

Floats = npt.NDArray[np.float64]
# An array of n values for each feature.
Columns = Mapping[str, npt.NDArray[Any]]

# Fixes the feature orders from which Shapley values are estimated: the same row gets the same explanation.
SEED = 0


class ModelExplainer:
    """Explains predictions of one fitted model.

    Parameters
    ----------
    fitted : Pipeline
        Of `make_pipeline` in `wineexp.models.pipeline` or `wineexp.models.regression`.
    outputs : callable
        From rows, given as an array for each feature, to probabilities of shape (n, n_classes) or numbers of shape
        (n, 1), as the model is served.
    transform : callable
        From such rows to the columns that the model takes, of shape (n, n_columns).
    training_values : mapping of str to NumericRange or Categories
        In the order of the model's features.
    background : mapping of str to ndarray of shape (n_background,)
        Training rows.

    Attributes
    ----------
    boxes : LeafBoxes or None
        Of the trees of a model of classes; None for other models, and for trees whose thresholds are not on single
        features.
    """

    def __init__(
        self,
        fitted: Pipeline,
        outputs: Callable[[Columns], Floats],
        transform: Transform,
        training_values: TrainingValues,
        background: Columns,
    ) -> None:
        self._model = fitted[-1]
        self._outputs = outputs
        self._is_number = is_regressor(fitted)
        self._training_values = training_values
        ranges = {name: values for name, values in training_values.items() if isinstance(values, NumericRange)}
        extremes = zip(*extreme_rows(training_values), strict=True)
        probes = {
            name: np.concatenate([values, np.array(of_feature, dtype=values.dtype)])
            for (name, values), of_feature in zip(background.items(), extremes, strict=True)
        }
        sources = shapley.find_sources(transform, probes)
        self._shapley = shapley.ShapleyExplainer(fitted, outputs, transform, background, sources)
        self.boxes = None
        if self._shapley.trees is not None and not self._is_number:
            self.boxes = make_leaf_boxes(
                self._shapley.trees,
                shapley.only_sources(sources, list(background)),
                transform,
                {name: (range_.low, range_.high) for name, range_ in ranges.items()},
                probes,
            )

    def contributions(self, row: Mapping[str, Any]) -> shapley.Explanation:
        """What each feature of a row contributes to its class's probability, or its number; None or NaN is missing."""
        columns = {
            name: np.array([row[name]], dtype=np.float64 if isinstance(values, NumericRange) else object)
            for name, values in self._training_values.items()
        }
        return self._shapley.explain(columns, seed=SEED)

    def smallest_change(self, row: Mapping[str, Any]) -> Change | None:
        """The smallest change of a row with which the model decides on another class.

        None where there is none, or numbers are predicted.
        """
        if self._is_number:
            return None
        return counterfactual.smallest_change(
            self._outputs,
            self._model.decide,
            self._model.classes_.tolist(),
            row,
            self._training_values,
            self.boxes,
        )

    def single_changes(self, row: Mapping[str, Any]) -> list[what_if.SingleChange] | None:
        """How far each feature alone moves a row's predicted number; None where classes are predicted."""
        if not self._is_number:
            return None
        return what_if.single_changes(lambda columns: self._outputs(columns)[:, 0], row, self._training_values)
