"""Why an answer is what it is, and what would change it, over HTTP."""

import asyncio
from typing import Any

import msgspec
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler

from wineexp.serving.http import guards
from wineexp.serving.http.problems import Fault, Refused, wrong
from wineexp.serving.model.predictor import Lineage, Predictor
from wineexp.serving.refresh.follower import AliasFollower
from wineexp.serving.refresh.messages import Attribution, Counterfactual, Explanation, RefreshRequest
from wineexp.serving.routes.predict import JSON

# In which the refresh process, which explains, must have started and loaded the served version.
EXPLANATION_TIMEOUT_SECONDS = 60.0


class ExplainResponse(msgspec.Struct, frozen=True):
    """Why the model predicts a class; `counterfactual` is null where no change within the training range flips it."""

    request_id: str
    model: Lineage
    attribution: Attribution
    counterfactual: Counterfactual | None


@post("/explain", status_code=200)
async def explain(request: Request[Any, Any, Any], predictor: Predictor, follower: AliasFollower) -> ExplainResponse:
    """Explain the answer to one row."""
    content, _ = await guards.body(request, JSON)
    rows = await guards.read(predictor.parser.parse_json, content)
    if len(rows) != 1:
        raise wrong([Fault(f"{len(rows)} rows; one is explained at a time")], 1)
    # A row that the model cannot predict is refused as /predict refuses it.
    predictor.probabilities(rows)
    explanation = await _request_explanation(follower, RefreshRequest("explain", rows[0], predictor.version.identity))
    return ExplainResponse(
        request.scope["state"]["request_id"], predictor.lineage, explanation.attribution, explanation.counterfactual
    )


async def _request_explanation(follower: AliasFollower, explain_request: RefreshRequest) -> Explanation:
    """The reply of the refresh process, which is asked again while it starts or loads another version."""
    try:
        async with asyncio.timeout(EXPLANATION_TIMEOUT_SECONDS):
            while True:
                reply = await follower.explain(explain_request)
                if reply is not None and reply.status == 200:
                    return msgspec.json.decode(reply.body, type=Explanation)
                if reply is not None and reply.status != 409:
                    headers = {"retry-after": "1"} if reply.status == 503 else None
                    raise Refused(reply.status, reply.detail, [Fault(fault) for fault in reply.faults], headers)
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        detail = "what explains answers is not ready, or about to change to another version; come again"
        raise Refused(503, detail, headers={"retry-after": "1"}) from error


ROUTES: list[HTTPRouteHandler] = [explain]
