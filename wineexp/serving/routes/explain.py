"""Explanations over HTTP: what each feature contributed to a prediction, and what would change it."""

import asyncio
from typing import Any

import msgspec
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler

from wineexp.serving.http import guards
from wineexp.serving.http.problems import Fault, ProblemError, unprocessable
from wineexp.serving.model.predictor import Lineage, Predictor
from wineexp.serving.refresh.follower import AliasFollower
from wineexp.serving.refresh.messages import (
    Attribution,
    Counterfactual,
    Explanation,
    ExplanationReply,
    RefreshRequest,
    SingleChange,
)
from wineexp.serving.routes.predict import JSON

# The refresh process, which explains, must have started and loaded the served version within this time.
EXPLANATION_TIMEOUT_SECONDS = 60.0

RETRY_SECONDS = 0.1


class ExplainResponse(msgspec.Struct, frozen=True):
    """Why the model predicts a class or a number, and what would change that; see `Explanation`."""

    request_id: str
    model: Lineage
    attribution: Attribution
    counterfactual: Counterfactual | None
    changes: list[SingleChange] | msgspec.UnsetType = msgspec.UNSET


@post("/explain", status_code=200)
async def explain(request: Request[Any, Any, Any], predictor: Predictor, follower: AliasFollower) -> ExplainResponse:
    """Explain the prediction for one row."""
    body = await guards.read_body(request, JSON)
    rows = await guards.parse_body(predictor.parser.parse_json, body)
    if len(rows) != 1:
        raise unprocessable([Fault(f"{len(rows)} rows; one is explained at a time")])
    # A row that the model cannot predict is refused as /predict refuses it.
    predictor.outputs(rows)
    explain_request = RefreshRequest("explain", rows[0], predictor.version.identity)
    explanation = await _request_explanation(follower, explain_request)
    request_id = request.scope["state"]["request_id"]
    return ExplainResponse(request_id, predictor.lineage, *msgspec.structs.astuple(explanation))


@post("/explain/prepare", status_code=202, include_in_schema=False)
async def prepare(predictor: Predictor, follower: AliasFollower) -> dict[str, str]:
    """Start what explains, or keep it from ending while idle: the page asks for this as long as it is open."""
    # However often it is asked for, one at a time is enough.
    if not _preparations:
        task = asyncio.create_task(follower.explain(RefreshRequest("prepare", identity=predictor.version.identity)))
        # The event loop itself keeps no reference to a task.
        _preparations.add(task)
        task.add_done_callback(_preparations.discard)
    return {"status": "preparing"}


_preparations: set[asyncio.Task[ExplanationReply | None]] = set()


async def _request_explanation(follower: AliasFollower, explain_request: RefreshRequest) -> Explanation:
    """The explanation by the refresh process, which is asked again while it starts or loads another version."""
    try:
        async with asyncio.timeout(EXPLANATION_TIMEOUT_SECONDS):
            while True:
                reply = await follower.explain(explain_request)
                if reply is not None and reply.status == 200:
                    return msgspec.json.decode(reply.body, type=Explanation)
                if reply is not None and reply.status != 409:
                    headers = {"retry-after": "1"} if reply.status == 503 else None
                    raise ProblemError(reply.status, reply.detail, [Fault(fault) for fault in reply.faults], headers)
                if reply is not None and follower.predictor.version.identity != explain_request.identity:
                    detail = "another version has taken over, so that this one is not explained any more; try again"
                    raise ProblemError(503, detail, headers={"retry-after": "1"})
                await asyncio.sleep(RETRY_SECONDS)
    except TimeoutError as error:
        detail = "the process that explains is starting or loading another version; try again in a second"
        raise ProblemError(503, detail, headers={"retry-after": "1"}) from error


PREDICTION_HANDLERS: list[HTTPRouteHandler] = [explain, prepare]
