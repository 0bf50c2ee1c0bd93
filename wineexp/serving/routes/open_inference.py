"""The Open Inference Protocol, version 2, which clients of KServe, MLServer and Triton use."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
import numpy as np
from litestar import Request, get, post
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

import wineexp
from wineexp.data.schema import NumericFeature, TextFeature
from wineexp.serving.answers import Answers
from wineexp.serving.http import guards
from wineexp.serving.http.problems import ProblemError
from wineexp.serving.metrics import Metrics
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.model.rows import Rows
from wineexp.serving.model.strict_json import describe
from wineexp.serving.routes import predict
from wineexp.serving.routes.tensors import (
    InferenceResponse,
    ParsedRequest,
    encode_response,
    output_datatypes,
    parse_request,
)

# The media type of a body in which bytes follow the JSON, and the header that says how long the JSON is.
BINARY = "application/octet-stream"
JSON_BYTES_HEADER = "Inference-Header-Content-Length"
# Far more digits than any body's length has, and fewer than Python converts.
MAX_LENGTH_DIGITS = 19


class Live(msgspec.Struct, frozen=True):
    """The process responds."""

    live: bool


class ServerReady(msgspec.Struct, frozen=True):
    """The server predicts."""

    ready: bool


class ModelReady(msgspec.Struct, frozen=True):
    """The model predicts."""

    name: str
    ready: bool


class Models(msgspec.Struct, frozen=True):
    """Names of the models that the server has."""

    models: list[str]


class ServerMetadata(msgspec.Struct, frozen=True):
    """Name and version of the server."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(msgspec.Struct, frozen=True):
    """An input or output of the model; -1 in its shape stands for the number of rows."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct, frozen=True):
    """Inputs and outputs of the model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class IndexedModel(msgspec.Struct, frozen=True):
    """A model that the server has."""

    name: str
    version: str
    state: str
    reason: str


@get("/v2/health/live")
async def server_live() -> Live:
    """Tell that the process responds."""
    return Live(live=True)


@get("/v2/health/ready")
async def server_ready() -> ServerReady:
    """Tell that the server predicts."""
    return ServerReady(ready=True)


@get("/v2")
async def server_metadata() -> ServerMetadata:
    """Give the server's name and version."""
    return ServerMetadata("wineexp", wineexp.__version__, ["binary_tensor_data"])


@get("/v2/models")
async def list_models(predictor: Predictor) -> Models:
    """List the one model that is served."""
    return Models([predictor.lineage.name])


@post("/v2/repository/index", status_code=200)
async def repository_index(predictor: Predictor) -> list[IndexedModel]:
    """List the version that is served; what the body asks for makes no difference, since it is always ready."""
    return [IndexedModel(predictor.lineage.name, str(predictor.lineage.version), "READY", "")]


@get(["/v2/models/{name:str}", "/v2/models/{name:str}/versions/{version:str}"])
async def model_metadata(predictor: Predictor, name: str, version: str | None = None) -> ModelMetadata:
    """Describe the model's inputs and outputs."""
    check_served(predictor, name, version)
    inputs = [TensorMetadata(feature.name, _datatype(feature), [-1, 1]) for feature in predictor.schema.features]
    widths = {"probabilities": len(predictor.schema.classes), "interval": 2}
    outputs = [
        TensorMetadata(output, datatype, [-1, widths.get(output, 1)])
        for output, datatype in output_datatypes(predictor.schema).items()
    ]
    return ModelMetadata(name, [str(predictor.lineage.version)], "wineexp", inputs, outputs)


@get(["/v2/models/{name:str}/ready", "/v2/models/{name:str}/versions/{version:str}/ready"])
async def model_ready(predictor: Predictor, name: str, version: str | None = None) -> ModelReady:
    """Tell that this model, in this version, is served."""
    check_served(predictor, name, version)
    return ModelReady(name, ready=True)


@post(
    ["/v2/models/{name:str}/infer", "/v2/models/{name:str}/versions/{version:str}/infer"],
    status_code=200,
    opt={"media_types": [predict.JSON, BINARY]},
)
async def infer(
    request: Request[Any, Any, Any],
    predictor: Predictor,
    metrics: Metrics,
    answers: Answers,
    name: str,
    version: str | None = None,
) -> InferenceResponse:
    """Predict the rows in a tensor for each feature, or in one tensor of all features."""
    check_served(predictor, name, version)
    json_bytes = _json_bytes(request)
    # Triton's client sends no Content-Type, KServe's this one where bytes follow the JSON.
    default = predict.JSON if json_bytes is None else BINARY
    body = await guards.read_body(request, predict.JSON, BINARY, default=default)
    inference = await guards.parse_body(partial(parse_request, predictor.parser, name, json_bytes), body)
    encode = partial(_encode_outputs, predictor, metrics, answers, request.scope["state"], inference)
    content, response_json_bytes = await predict.compute(predictor, inference.rows, encode)
    if response_json_bytes is None:
        return Response(content, media_type=predict.JSON)  # type: ignore[return-value]
    headers = {JSON_BYTES_HEADER: str(response_json_bytes)}
    return Response(content, media_type=BINARY, headers=headers)  # type: ignore[return-value]


def _json_bytes(request: Request[Any, Any, Any]) -> int | None:
    """The length of the JSON at the beginning of a body, from its header; None without that header.

    Raises
    ------
    ProblemError
        400: it is no number.
    """
    value = request.headers.get(JSON_BYTES_HEADER)
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal() and len(value) <= MAX_LENGTH_DIGITS):
        raise ProblemError(400, f"{JSON_BYTES_HEADER} must be a number of bytes, but is {describe(value)}")
    return int(value)


def _encode_outputs(
    predictor: Predictor,
    metrics: Metrics,
    answers: Answers,
    state: Mapping[str, Any],
    inference: ParsedRequest,
    rows: Rows,
) -> tuple[bytes, int | None]:
    """Predict rows, count the predictions and hand them on, and encode the response."""
    outputs = predictor.outputs(rows)
    decisions = predictor.answers(outputs)
    metrics.count_answers(predictor, decisions, predictor.parser.count_out_of_range(rows))
    answers.hand_on(state, predictor, rows, outputs)
    if predictor.schema.numbers:
        values = {"prediction": outputs}
        if intervals := predictor.schema.intervals:
            values["interval"] = np.array([intervals.interval(number) for number in decisions])
    else:
        labels = np.array([str(decision) for decision in decisions], dtype=object)
        values = {"class": labels[:, None], "probabilities": outputs}
    name, version = predictor.lineage.name, str(predictor.lineage.version)
    return encode_response(name, version, inference.id, inference.outputs, values)


def _datatype(feature: NumericFeature | TextFeature) -> str:
    return "FP64" if isinstance(feature, NumericFeature) else "BYTES"


def check_served(predictor: Predictor, name: str, version: str | None = None) -> None:
    """Check that a path names the model that is served, and, where it names a version, that one.

    Raises
    ------
    NotFoundException
    """
    if name != predictor.lineage.name or version not in (None, str(predictor.lineage.version)):
        raise NotFoundException


PREDICTION_HANDLERS: list[HTTPRouteHandler] = [infer]
PUBLIC_HANDLERS: list[HTTPRouteHandler] = [
    server_live,
    server_ready,
    server_metadata,
    list_models,
    model_metadata,
    model_ready,
    repository_index,
]
