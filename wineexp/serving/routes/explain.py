"""Why an answer is what it is, and what would change it, over HTTP."""

import asyncio
from typing import Any

import msgspec
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler

from wineexp.serving.http import guards
from wineexp.serving.http.problems import Fault, Refused, wrong
from wineexp.serving.model.predictor import Lineage, Served
from wineexp.serving.refresh.follower import Watch
from wineexp.serving.refresh.messages import Question
from wineexp.serving.routes.predict import JSON

# Seconds in which an examiner, which explains, must have started, and have the version that answers.
PATIENCE = 60.0


class Attribution(msgspec.Struct, frozen=True):
    """How far each feature took the answer from the average one.

    Attributes
    ----------
    label : str
        The class that is answered.
    unit : str
        Of the figures: `log-odds`, `score` (before the softmax) or `probability`.
    base_value, output_value : float
        On average, and for this row; `base_value` and all `contributions` together make `output_value`.
    contributions : dict of str to float
        The largest first. What is derived from several features, a ratio or a product, has a name of its own.
    exact : bool
        Whether they are XGBoost's own, over all training rows; else they are estimated from `background_rows` of them.
    """

    label: str = msgspec.field(name="class")
    unit: str
    base_value: float
    output_value: float
    contributions: dict[str, float]
    exact: bool
    background_rows: int


class Counterfactual(msgspec.Struct, frozen=True):
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
    """Why, and what would change it; `counterfactual` is null where nothing within the training range does."""

    attribution: Attribution
    counterfactual: Counterfactual | None


class ExplainResponse(msgspec.Struct, frozen=True):
    """Why the model predicts a class; `counterfactual` is null where no change within the training range flips it."""

    request_id: str
    model: Lineage
    attribution: Attribution
    counterfactual: Counterfactual | None


@post("/explain", status_code=200)
async def explain(request: Request[Any, Any, Any], served: Served, watch: Watch) -> ExplainResponse:
    """Explain the answer to one row."""
    content, _ = await guards.body(request, JSON)
    rows = await guards.read(served.reader.json, content)
    if len(rows) != 1:
        raise wrong([Fault(f"{len(rows)} rows; one is explained at a time")], 1)
    # First as anybody would ask it: a row that the model cannot answer is refused as there.
    served.probabilities(rows)
    grounds = await _grounds(watch, Question("explain", rows[0], served.kept.identity))
    return ExplainResponse(
        request.scope["state"]["request_id"], served.lineage, grounds.attribution, grounds.counterfactual
    )


async def _grounds(watch: Watch, question: Question) -> Explanation:
    """The examiner's answer."""
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                told = await watch.told(question)
                if told is not None and told.status == 200:
                    return msgspec.json.decode(told.body, type=Explanation)
                if told is not None and told.status != 409:
                    headers = {"retry-after": "1"} if told.status == 503 else None
                    raise Refused(told.status, told.detail, [Fault(fault) for fault in told.faults], headers)
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        told_so = "what explains answers is not ready, or about to change to another version; come again"
        raise Refused(503, told_so, headers={"retry-after": "1"}) from error


ROUTES: list[HTTPRouteHandler] = [explain]
