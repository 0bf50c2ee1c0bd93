"""Why an answer is what it is, and what would change it: computed by an examiner, with the plain pipeline."""

from typing import Any

import msgspec
import numpy as np

from wineexp.data.schema import NumericFeature, Schema, TextFeature
from wineexp.models import counterfactual, shapley
from wineexp.models.counterfactual import Change, Numbers, Seen, Words
from wineexp.models.shapley import Why
from wineexp.serving.model.pipeline import frame
from wineexp.serving.refresh.messages import Told
from wineexp.serving.refresh.verifier import Verified
from wineexp.serving.routes.explain import Attribution, Counterfactual, Explanation

# Of the orders that Shapley values are estimated from: the same row gets the same explanation.
SEED = 0


def explained(verified: Verified, row: Any) -> Told:
    """The explanation of a version's answer to a row, or why there is none."""
    served, model = verified.served, verified.model
    values = dict(zip(served.reader.features, row, strict=True))
    try:
        with np.errstate(all="ignore"):
            why = shapley.why(model, frame([row], served.reader), verified.golden, seed=SEED)
            change = counterfactual.smallest_change(
                model.predict_proba, served.decide, served.schema.classes, values, seen(served.schema)
            )
        if not np.isfinite([why.base, why.output, *why.parts.values(), change.distance if change else 0]).all():
            raise FloatingPointError("the explanation holds what is no number")
    except (ValueError, ArithmeticError):
        outside = served.reader.outside(tuple(row))
        if not outside:
            raise
        told = f"the model cannot compute beside it; far beyond the training range: {', '.join(outside)}"
        return Told(422, detail="this answer cannot be explained", faults=[told])
    grounds = Explanation(_reasons(why, len(verified.golden)), _alternative(change))
    return Told(200, msgspec.Raw(msgspec.json.encode(grounds)))


def seen(schema: Schema) -> Seen:
    """What training saw of each feature; quartiles are read off the histogram, straight between its edges."""
    return {
        feature.name: _words(feature) if isinstance(feature, TextFeature) else _numbers(feature)
        for feature in schema.features
    }


def _words(feature: TextFeature) -> Words:
    return Words(tuple(feature.values))


def _numbers(feature: NumericFeature) -> Numbers:
    edges, counts = feature.histogram.edges, feature.histogram.counts
    first, third = np.interp([0.25, 0.75], np.cumsum([0, *counts]) / sum(counts), edges).tolist()
    return Numbers(
        low=feature.minimum,
        high=feature.maximum,
        median=feature.median,
        spread=(third - first) or (feature.maximum - feature.minimum) or 1.0,
        whole=feature.dtype.startswith("int"),
    )


def _reasons(why: Why, compared: int) -> Attribution:
    exact = why.unit != "probability"
    return Attribution(str(why.label), why.unit, why.base, why.output, why.parts, exact, compared)


def _alternative(change: Change | None) -> Counterfactual | None:
    if change is None:
        return None
    return Counterfactual(change.values, change.distance, str(change.label), change.probability)
