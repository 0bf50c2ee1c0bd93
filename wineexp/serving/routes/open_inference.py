"""The Open Inference Protocol, version 2, which clients of KServe, MLServer and Triton use."""

from functools import partial
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler

import wineexp
from wineexp.data.schema import NumericFeature, TextFeature
from wineexp.serving.http import guards
from wineexp.serving.metrics import Metrics
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.routes import predict
from wineexp.serving.routes.tensors import OUTPUT_DATATYPES, parse_request


class Live(msgspec.Struct, frozen=True):
    """The process responds."""

    live: bool


class ModelReady(msgspec.Struct, frozen=True):
    """The server, or the model, predicts."""

    ready: bool


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


class OutputTensor(msgspec.Struct, frozen=True):
    """Values in row-major order."""

    name: str
    datatype: str
    shape: list[int]
    data: list[str | float]


class InferenceResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The response to an inference request, with its id."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str = ""


@get("/v2/health/live")
async def live() -> Live:
    """Tell that the process responds."""
    return Live(live=True)


@get("/v2/health/ready")
async def ready() -> ModelReady:
    """Tell that the server predicts."""
    return ModelReady(ready=True)


@get("/v2")
async def server() -> ServerMetadata:
    """Give the server's name and version."""
    return ServerMetadata("wineexp", wineexp.__version__, [])


@get(["/v2/models/{name:str}", "/v2/models/{name:str}/versions/{version:str}"])
async def metadata(predictor: Predictor, name: str, version: str | None = None) -> ModelMetadata:
    """Describe the model's inputs and outputs."""
    _check_served(predictor, name, version)
    inputs = [TensorMetadata(feature.name, _datatype(feature), [-1, 1]) for feature in predictor.schema.features]
    shapes = {"class": [-1, 1], "probabilities": [-1, len(predictor.schema.classes)]}
    outputs = [TensorMetadata(output, datatype, shapes[output]) for output, datatype in OUTPUT_DATATYPES.items()]
    return ModelMetadata(name, [str(predictor.lineage.version)], "wineexp", inputs, outputs)


@get(["/v2/models/{name:str}/ready", "/v2/models/{name:str}/versions/{version:str}/ready"])
async def model_ready(predictor: Predictor, name: str, version: str | None = None) -> ModelReady:
    """Tell that this model, in this version, is served."""
    _check_served(predictor, name, version)
    return ModelReady(ready=True)


@post(["/v2/models/{name:str}/infer", "/v2/models/{name:str}/versions/{version:str}/infer"], status_code=200)
async def infer(
    request: Request[Any, Any, Any], predictor: Predictor, metrics: Metrics, name: str, version: str | None = None
) -> InferenceResponse:
    """Predict the rows in a tensor for each feature, or in one tensor of all features."""
    _check_served(predictor, name, version)
    # Triton's client sends JSON without a Content-Type.
    body, _ = await guards.read_body(request, predict.JSON, default=predict.JSON)
    inference = await guards.parse_body(partial(parse_request, predictor.parser), body)
    predictions = await predict.predict_rows(predictor, inference.rows, metrics)
    labels: list[str | float] = [prediction.label for prediction in predictions]
    probabilities: list[str | float] = [
        probability for prediction in predictions for probability in prediction.probabilities.values()
    ]
    n_rows, n_classes = len(inference.rows), len(predictor.schema.classes)
    outputs = {
        "class": OutputTensor("class", OUTPUT_DATATYPES["class"], [n_rows, 1], labels),
        "probabilities": OutputTensor(
            "probabilities", OUTPUT_DATATYPES["probabilities"], [n_rows, n_classes], probabilities
        ),
    }
    requested = [outputs[output] for output in inference.outputs]
    return InferenceResponse(name, str(predictor.lineage.version), requested, inference.id)


def _datatype(feature: NumericFeature | TextFeature) -> str:
    return "FP64" if isinstance(feature, NumericFeature) else "BYTES"


def _check_served(predictor: Predictor, name: str, version: str | None) -> None:
    if name != predictor.lineage.name or version not in (None, str(predictor.lineage.version)):
        raise NotFoundException


PREDICTION_HANDLERS: list[HTTPRouteHandler] = [infer]
PUBLIC_HANDLERS: list[HTTPRouteHandler] = [live, ready, server, metadata, model_ready]
