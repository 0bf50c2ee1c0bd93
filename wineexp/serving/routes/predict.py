"""Predictions over HTTP, and how any route computes them."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import msgspec
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

from wineexp.serving.answers import Answers
from wineexp.serving.http import guards
from wineexp.serving.metrics import Metrics
from wineexp.serving.model.predictor import Lineage, NumberPrediction, Prediction, Predictor
from wineexp.serving.model.rows import Rows

Result = TypeVar("Result")

JSON = "application/json"

# Up to these limits a request is computed on the event loop, where a thread would cost more than it gains.
MAX_INLINE_SECONDS = 0.02
MAX_INLINE_ROWS = 16

# Rows of a large request that are encoded at once.
CHUNK_ROWS = 500


class PredictResponse(msgspec.Struct, frozen=True):
    """The predictions for the rows of one request, and the version that made them."""

    request_id: str
    model: Lineage
    predictions: list[Prediction]


class PredictNumbersResponse(msgspec.Struct, frozen=True):
    """The predicted numbers for the rows of one request, and the version that made them."""

    request_id: str
    model: Lineage
    predictions: list[NumberPrediction]


async def compute(predictor: Predictor, rows: Rows, function: Callable[[Rows], Result]) -> Result:
    """Call a function of rows; in a thread where it may take long, so that other requests need not wait."""
    if predictor.row_seconds < MAX_INLINE_SECONDS and len(rows) <= MAX_INLINE_ROWS:
        return function(rows)
    return await asyncio.to_thread(function, rows)


async def respond(predictor: Predictor, rows: Rows, encode: Callable[[Rows], bytes]) -> Response[bytes]:
    """The response whose JSON `encode` makes of rows; see `compute`."""
    return Response(await compute(predictor, rows, encode), media_type=JSON)


@post("/predict", status_code=200)
async def predict(
    request: Request[Any, Any, Any], predictor: Predictor, metrics: Metrics, answers: Answers
) -> PredictResponse:
    """Predict one row, or many."""
    rows = await guards.parse_body(predictor.parser.parse_json, await guards.read_body(request, JSON))
    encode = partial(_encode_predictions, predictor, metrics, answers, request.scope["state"])
    return await respond(predictor, rows, encode)  # type: ignore[return-value]


def _encode_predictions(
    predictor: Predictor, metrics: Metrics, answers: Answers, state: Mapping[str, Any], rows: Rows
) -> bytes:
    """The encoded response, made in chunks: between two of them the event loop gets its turn."""
    outputs = predictor.outputs(rows)
    chunks = []
    for start in range(0, len(rows), CHUNK_ROWS):
        end = start + CHUNK_ROWS
        predictions = predictor.predictions(rows[start:end], outputs[start:end])
        metrics.count_predictions(predictions)
        chunks.append(msgspec.json.encode(predictions)[1:-1])
    answers.hand_on(state, predictor, rows, outputs)
    # Of either kind, since there are no predictions in it.
    head = msgspec.json.encode(PredictResponse(state["request_id"], predictor.lineage, [])).removesuffix(b"]}")
    return head + b",".join(chunks) + b"]}"


PREDICTION_HANDLERS: list[HTTPRouteHandler] = [predict]
