"""Explains a prediction: the attribution to features, and the smallest change that flips the class.

This runs in the refresh process, since it needs the scikit-learn pipeline.
"""

import math
from typing import Any

import msgspec
import numpy as np

from wineexp.data.schema import NumericFeature, Schema, TextFeature
from wineexp.models import counterfactual, shapley
from wineexp.models.counterfactual import Categories, Change, NumericRange, TrainingValues
from wineexp.serving.model.pipeline import to_frame
from wineexp.serving.refresh.messages import Attribution, Counterfactual, Explanation, ExplanationReply
from wineexp.serving.refresh.verifier import VerifiedVersion

# Fixes the feature orders from which Shapley values are estimated: the same row gets the same explanation.
SEED = 0


def explain(verified: VerifiedVersion, row: Any) -> ExplanationReply:
    """The explanation of a version's prediction for a row.

    The status is 422 where the row is so far beyond the training range that the model cannot compute it.
    """
    predictor, pipeline = verified.predictor, verified.pipeline
    parser, schema = predictor.parser, predictor.schema
    # JSON, in which the row came here, has no NaN.
    row = tuple(
        math.nan if value is None and name not in parser.text_features else value
        for name, value in zip(parser.features, row, strict=True)
    )
    values = dict(zip(parser.features, row, strict=True))
    try:
        with np.errstate(all="ignore"):
            shapley_values = shapley.explain(pipeline, to_frame([row], parser), verified.golden_rows, seed=SEED)
            change = counterfactual.smallest_change(
                pipeline.predict_proba, predictor.classifier.decide, schema.classes, values, training_values(schema)
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


def training_values(schema: Schema) -> TrainingValues:
    """The training values of each feature."""
    return {
        feature.name: Categories(tuple(feature.values)) if isinstance(feature, TextFeature) else _numeric_range(feature)
        for feature in schema.features
    }


def _numeric_range(feature: NumericFeature) -> NumericRange:
    """The range of a numeric feature; its quartiles are interpolated between the edges of the histogram."""
    edges, counts = feature.histogram.edges, feature.histogram.counts
    first, third = np.interp([0.25, 0.75], np.cumsum([0, *counts]) / sum(counts), edges).tolist()
    return NumericRange(
        low=feature.minimum,
        high=feature.maximum,
        median=feature.median,
        spread=(third - first) or (feature.maximum - feature.minimum) or 1.0,
        whole=feature.dtype.startswith("int"),
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
