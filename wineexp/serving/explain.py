"""Why an answer is what it is, and what would change it, over HTTP."""

import asyncio
from typing import Any

import msgspec
import numpy as np
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler

from wineexp import alternative, explanation
from wineexp.alternative import Change, Numbers, Seen, Words
from wineexp.explanation import Why
from wineexp.schema import Number, Schema, Text
from wineexp.serving import doors
from wineexp.serving.api import JSON
from wineexp.serving.problems import Fault, Refused, wrong
from wineexp.serving.rows import Row
from wineexp.serving.served import Lineage, Served

# Of the orders that Shapley values are estimated from: the same row gets the same explanation.
SEED = 0

# An explanation asks the model thousands of rows: one at a time in a process, so that predictions come first.
_turn = asyncio.Semaphore(1)


class Reasons(msgspec.Struct, frozen=True):
    """How far each feature took the answer from the average one.

    Attributes
    ----------
    label : str
        The likeliest class.
    unit : str
        Of the figures: `log-odds`, `score` (before the softmax) or `probability`.
    base, output : float
        On average, and for this row; `base` and all `parts` together make `output`.
    parts : dict of str to float
        The largest first. What is derived from several features, a ratio or a product, has a name of its own.
    exact : bool
        Whether they are XGBoost's own, over all training rows; else they are estimated from `compared` of them.
    """

    label: str = msgspec.field(name="class")
    unit: str
    base: float
    output: float
    parts: dict[str, float]
    exact: bool
    compared: int


class Alternative(msgspec.Struct, frozen=True):
    """The smallest change that flips the class, verified by predicting it.

    Attributes
    ----------
    values : dict of str to float or str
        Of the one or two features that change.
    distance : float
        Summed over them, each in units of its interquartile range in training.
    label : str
        The class that the changed row gets, with its probability.
    """

    values: dict[str, float | str]
    distance: float
    label: str = msgspec.field(name="class")
    probability: float


class Explanation(msgspec.Struct, frozen=True):
    """Why, and what would change it; `change` is null where nothing within the training range does."""

    request_id: str
    model: Lineage
    why: Reasons
    change: Alternative | None


@post("/explain", status_code=200)
async def explain(request: Request[Any, Any, Any], served: Served) -> Explanation:
    """Explain the answer to one row."""
    content, _ = await doors.body(request, JSON)
    rows = served.reader.json(content)
    if len(rows) != 1:
        raise wrong([Fault(f"{len(rows)} rows; one is explained at a time")], 1)
    async with _turn:
        why, change = await asyncio.to_thread(_explained, served, rows[0])
    return Explanation(request.scope["state"]["request_id"], served.lineage, why, change)


def _explained(served: Served, row: Row) -> tuple[Reasons, Alternative | None]:
    # First as anybody would ask it: a row that the model cannot answer is refused as there.
    served.probabilities([row])
    values = dict(zip(served.reader.features, row, strict=True))
    try:
        with np.errstate(all="ignore"):
            why = explanation.why(served.model, served.frame([row]), served.golden, seed=SEED)
            change = alternative.smallest_change(
                served.model.predict_proba, served.schema.classes, values, seen(served.schema)
            )
        if not np.isfinite([why.base, why.output, *why.parts.values(), change.distance if change else 0]).all():
            raise FloatingPointError("the explanation holds what is no number")
    except (ValueError, ArithmeticError) as error:
        outside = served.reader.outside(row)
        if not outside:
            raise
        told = f"the model cannot compute beside it; far beyond the training range: {', '.join(outside)}"
        raise Refused(422, "this answer cannot be explained", [Fault(told)]) from error
    return _reasons(why, len(served.golden)), _alternative(change)


def seen(schema: Schema) -> Seen:
    """What training saw of each feature; quartiles are read off the histogram, straight between its edges."""
    return {
        feature.name: _words(feature) if isinstance(feature, Text) else _numbers(feature) for feature in schema.features
    }


def _words(feature: Text) -> Words:
    return Words(tuple(feature.values))


def _numbers(feature: Number) -> Numbers:
    edges, counts = feature.histogram.edges, feature.histogram.counts
    first, third = np.interp([0.25, 0.75], np.cumsum([0, *counts]) / sum(counts), edges).tolist()
    return Numbers(
        low=feature.minimum,
        high=feature.maximum,
        median=feature.median,
        spread=(third - first) or (feature.maximum - feature.minimum) or 1.0,
        whole=feature.dtype.startswith("int"),
    )


def _reasons(why: Why, compared: int) -> Reasons:
    exact = why.unit != "probability"
    return Reasons(str(why.label), why.unit, why.base, why.output, why.parts, exact, compared)


def _alternative(change: Change | None) -> Alternative | None:
    if change is None:
        return None
    return Alternative(change.values, change.distance, str(change.label), change.probability)


ROUTES: list[HTTPRouteHandler] = [explain]
