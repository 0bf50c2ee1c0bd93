"""Explains a prediction: the attribution to features, and the smallest change that flips the class.

This runs in the refresh process, since it needs the scikit-learn pipeline.
"""

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from wineexp.data.schema import NumericFeature, Schema, TextFeature
from wineexp.models import counterfactual, shapley
from wineexp.models.counterfactual import Categories, Change, NumericRange, TrainingValues
from wineexp.models.fitted_trees import fitted_trees
from wineexp.models.leaf_boxes import LeafBoxes, make_leaf_boxes
from wineexp.serving.model.pipeline import to_frame
from wineexp.serving.model.rows import Rows
from wineexp.serving.refresh.messages import Attribution, Counterfactual, Explanation, ExplanationReply
from wineexp.serving.refresh.verifier import VerifiedVersion

# Fixes the feature orders from which Shapley values are estimated: the same row gets the same explanation.
SEED = 0

# Quantiles of a feature, the quartiles among them.
N_QUANTILES = 41


class Explainer:
    """Explains predictions of one version.

    Parameters
    ----------
    verified : VerifiedVersion
    """

    def __init__(self, verified: VerifiedVersion) -> None:
        self.verified = verified
        self._training_values = training_values(verified.predictor.schema)
        self._boxes = self._make_boxes()

    def explain(self, row: Any) -> ExplanationReply:
        """The explanation of the prediction for a row.

        The status is 422 where the row is so far beyond the training range that the model cannot compute it.
        """
        verified = self.verified
        parser, schema = verified.predictor.parser, verified.predictor.schema
        # JSON, in which the row came here, has no NaN.
        row = tuple(
            math.nan if value is None and name not in parser.text_features else value
            for name, value in zip(parser.features, row, strict=True)
        )
        values = dict(zip(parser.features, row, strict=True))
        try:
            with np.errstate(all="ignore"):
                shapley_values = shapley.explain(
                    verified.pipeline, to_frame([row], parser), verified.golden_rows, seed=SEED
                )
                classifier = verified.predictor.classifier
                change = counterfactual.smallest_change(
                    lambda columns: classifier.predict_proba(_rows(columns)),
                    classifier.decide,
                    schema.classes,
                    values,
                    self._training_values,
                    self._boxes,
                )
            numbers = [shapley_values.base_value, shapley_values.output_value, *shapley_values.contributions.values()]
            if not np.isfinite([*numbers, change.distance if change else 0]).all():
                raise FloatingPointError("the explanation holds a value that is not finite")
        except (ValueError, ArithmeticError):
            outside = parser.features_out_of_range(row)
            if not outside:
                raise
            fault = f"the model cannot compute rows near it; far beyond the training range: {', '.join(outside)}"
            return ExplanationReply(422, detail="this prediction cannot be explained", faults=[fault])
        content = Explanation(_attribution(shapley_values, len(verified.golden_rows)), _counterfactual(change))
        return ExplanationReply(200, msgspec.Raw(msgspec.json.encode(content)))

    def _make_boxes(self) -> LeafBoxes | None:
        """The leaves of the model's trees; None for a model of another kind."""
        pipeline, rows = self.verified.pipeline, self.verified.golden_rows
        trees = fitted_trees(pipeline)
        if trees is None:
            return None
        feature, parser = pipeline[:-1], self.verified.predictor.parser
        numeric = {name: values for name, values in self._training_values.items() if isinstance(values, NumericRange)}
        return make_leaf_boxes(
            trees,
            shapley.source_features(feature, rows),
            lambda columns: np.asarray(feature.transform(to_frame(_rows(columns), parser)), dtype=np.float64),
            {name: (range_.low, range_.high) for name, range_ in numeric.items()},
            {name: rows[name].to_numpy(dtype=np.float64 if name in numeric else object) for name in parser.features},
        )


def _rows(columns: Mapping[str, npt.NDArray[Any]]) -> Rows:
    """Rows as a model takes them, from an array for each feature in the model's order."""
    if all(values.dtype == np.float64 for values in columns.values()):
        return np.column_stack(list(columns.values()))
    return list(zip(*(values.tolist() for values in columns.values()), strict=True))


def training_values(schema: Schema) -> TrainingValues:
    """The training values of each feature."""
    return {
        feature.name: Categories(tuple(feature.values)) if isinstance(feature, TextFeature) else _numeric_range(feature)
        for feature in schema.features
    }


def _numeric_range(feature: NumericFeature) -> NumericRange:
    """The range of a numeric feature; its quantiles are interpolated between the edges of the histogram."""
    edges, counts = feature.histogram.edges, feature.histogram.counts
    shares = np.linspace(0, 1, N_QUANTILES)
    quantiles = np.interp(shares, np.cumsum([0, *counts]) / sum(counts), edges).tolist()
    first, third = np.interp([0.25, 0.75], shares, quantiles).tolist()
    return NumericRange(
        low=feature.minimum,
        high=feature.maximum,
        median=feature.median,
        spread=(third - first) or (feature.maximum - feature.minimum) or 1.0,
        whole=feature.dtype.startswith("int"),
        quantiles=tuple(quantiles),
    )


def _attribution(explained: shapley.Explanation, background_rows: int) -> Attribution:
    return Attribution(
        str(explained.label),
        explained.unit,
        explained.base_value,
        explained.output_value,
        explained.contributions,
        exact=explained.unit != "probability",
        background_rows=background_rows,
    )


def _counterfactual(change: Change | None) -> Counterfactual | None:
    if change is None:
        return None
    return Counterfactual(change.values, change.distance, str(change.label), change.probability)
