"""Explains a prediction: the attribution to features, and what would change it.

This runs in the refresh process, since it needs the scikit-learn pipeline.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from wineexp.data.schema import NumericFeature, Schema, TextFeature
from wineexp.models import what_if
from wineexp.models.counterfactual import Change
from wineexp.models.explainer import ModelExplainer
from wineexp.models.training_values import Categories, NumericRange, TrainingValues
from wineexp.serving.model.pipeline import to_frame
from wineexp.serving.model.rows import Rows
from wineexp.serving.refresh.messages import (
    Alternative,
    Attribution,
    Counterfactual,
    Explanation,
    ExplanationReply,
    SingleChange,
)
from wineexp.serving.refresh.verifier import VerifiedVersion

# Quantiles of a feature, the quartiles among them.
N_QUANTILES = 41
MAX_CANDIDATE_TEXTS = 20


class Explainer:
    """Explains predictions of one version.

    Parameters
    ----------
    verified : VerifiedVersion
    """

    def __init__(self, verified: VerifiedVersion) -> None:
        self.verified = verified
        self._parser = verified.predictor.parser
        self._explainer = ModelExplainer(
            verified.pipeline,
            self._outputs,
            self._transform,
            training_values(verified.predictor.schema),
            self._columns(verified.background),
        )

    def explain(self, row: Any) -> ExplanationReply:
        """The explanation of the prediction for a row.

        The status is 422 where the row is so far beyond the training range that the model cannot compute it.
        """
        parser, predictor = self._parser, self.verified.predictor
        # JSON, in which the row came here, has no NaN.
        row = tuple(
            math.nan if value is None and name not in parser.text_features else value
            for name, value in zip(parser.features, row, strict=True)
        )
        values = dict(zip(parser.features, row, strict=True))
        try:
            with np.errstate(all="ignore"):
                shapley_values = self._explainer.contributions(values)
                change = self._explainer.smallest_change(values)
                changes = self._explainer.single_changes(values)
            numbers = [shapley_values.base_value, shapley_values.output_value, *shapley_values.contributions.values()]
            numbers += [of_end.prediction for each in changes or () for of_end in (each.lowest, each.highest)]
            if not np.isfinite([*numbers, change.distance if change else 0]).all():
                raise FloatingPointError("the explanation holds a value that is not finite")
        except (ValueError, ArithmeticError):
            outside = parser.features_out_of_range(row)
            if not outside:
                raise
            fault = f"the model cannot compute rows near it; far beyond the training range: {', '.join(outside)}"
            return ExplanationReply(422, detail="this prediction cannot be explained", faults=[fault])
        schema = predictor.schema
        attribution = Attribution(
            label=msgspec.UNSET if schema.numbers else schema.classes[shapley_values.code],
            unit=schema.unit or schema.column if schema.numbers else "probability",
            base_value=shapley_values.base_value,
            output_value=shapley_values.output_value,
            contributions=shapley_values.contributions,
            exact=shapley_values.standard_errors is None,
            standard_errors=shapley_values.standard_errors,
            background_rows=shapley_values.background_rows,
        )
        content = Explanation(
            attribution,
            _counterfactual(change),
            msgspec.UNSET if changes is None else list(map(_single_change, changes)),
        )
        return ExplanationReply(200, msgspec.Raw(msgspec.json.encode(content)))

    def _columns(self, rows: Sequence[Sequence[Any]]) -> dict[str, npt.NDArray[Any]]:
        """An array for each feature, in the model's order."""
        return {
            name: np.array(values, dtype=object if name in self._parser.text_features else np.float64)
            for name, values in zip(self._parser.features, zip(*rows, strict=True), strict=True)
        }

    def _outputs(self, columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        return self.verified.predictor.model.outputs(_rows(columns))

    def _transform(self, columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        frame = to_frame(_rows(columns), self._parser)
        return np.asarray(self.verified.pipeline[:-1].transform(frame), dtype=np.float64)


def _rows(columns: Mapping[str, npt.NDArray[Any]]) -> Rows:
    """Rows as a model takes them, from an array for each feature in the model's order."""
    if all(values.dtype == np.float64 for values in columns.values()):
        return np.column_stack(list(columns.values()))
    return list(zip(*(values.tolist() for values in columns.values()), strict=True))


def training_values(schema: Schema) -> TrainingValues:
    """The training values of each feature."""
    return {
        feature.name: _categories(feature) if isinstance(feature, TextFeature) else _numeric_range(feature)
        for feature in schema.features
    }


def _categories(feature: TextFeature) -> Categories:
    """The values of a text; of many, a change may lead to the most frequent ones: to try all would take minutes."""
    frequent = Counter(feature.values).most_common(MAX_CANDIDATE_TEXTS)
    return Categories(tuple(feature.values), tuple(value for value, _ in frequent))


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


def _single_change(change: what_if.SingleChange) -> SingleChange:
    return SingleChange(change.feature, Alternative(*change.lowest), Alternative(*change.highest))


def _counterfactual(change: Change | None) -> Counterfactual | None:
    if change is None:
        return None
    return Counterfactual(change.values, change.distance, str(change.label), change.probability)
