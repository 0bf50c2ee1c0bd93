"""The Open Inference Protocol, version 2: what KServe, MLServer and Triton speak."""

from functools import partial
from typing import Any

import msgspec
import numpy as np
from litestar import Request, get, post
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler

import wineexp
from wineexp.data.schema import NumericFeature
from wineexp.serving.http import guards
from wineexp.serving.http.problems import Fault, keys, wrong
from wineexp.serving.metrics import Metrics
from wineexp.serving.model import strict_json
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.model.rows import Row
from wineexp.serving.model.strict_json import describe
from wineexp.serving.routes import predict

NUMBERS = {"FP16", "FP32", "FP64", *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))}
OUTPUTS = {"class": "BYTES", "probabilities": "FP64"}


class Live(msgspec.Struct, frozen=True):
    """The server runs."""

    live: bool


class ModelReady(msgspec.Struct, frozen=True):
    """The server, or the model, answers."""

    ready: bool


class ServerMetadata(msgspec.Struct, frozen=True):
    """What this server is."""

    name: str
    version: str
    extensions: list[str]


class Metadata(msgspec.Struct, frozen=True):
    """A tensor that is taken or given; -1 stands for the number of rows."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct, frozen=True):
    """What the model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Metadata]
    outputs: list[Metadata]


class Output(msgspec.Struct, frozen=True):
    """A tensor, row by row."""

    name: str
    datatype: str
    shape: list[int]
    data: list[str | float]


class Inferred(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to an inference request."""

    model_name: str
    model_version: str
    outputs: list[Output]
    id: str = ""


@get("/v2/health/live")
async def live() -> Live:
    """Whether the process answers."""
    return Live(live=True)


@get("/v2/health/ready")
async def ready() -> ModelReady:
    """Whether predictions are answered."""
    return ModelReady(ready=True)


@get("/v2")
async def server() -> ServerMetadata:
    """What this server is."""
    return ServerMetadata("wineexp", wineexp.__version__, [])


@get(["/v2/models/{name:str}", "/v2/models/{name:str}/versions/{version:str}"])
async def metadata(predictor: Predictor, name: str, version: str | None = None) -> ModelMetadata:
    """What the model takes and gives."""
    _known(predictor, name, version)
    inputs = [Metadata(each.name, _datatype(each), [-1, 1]) for each in predictor.schema.features]
    shapes = {"class": [-1, 1], "probabilities": [-1, len(predictor.schema.classes)]}
    outputs = [Metadata(each, datatype, shapes[each]) for each, datatype in OUTPUTS.items()]
    return ModelMetadata(name, [str(predictor.lineage.version)], "wineexp", inputs, outputs)


@get(["/v2/models/{name:str}/ready", "/v2/models/{name:str}/versions/{version:str}/ready"])
async def model_ready(predictor: Predictor, name: str, version: str | None = None) -> ModelReady:
    """Whether this model, in this version, is the one that answers."""
    _known(predictor, name, version)
    return ModelReady(ready=True)


@post(["/v2/models/{name:str}/infer", "/v2/models/{name:str}/versions/{version:str}/infer"], status_code=200)
async def infer(
    request: Request[Any, Any, Any], predictor: Predictor, metrics: Metrics, name: str, version: str | None = None
) -> Inferred:
    """Predict the rows that a tensor for each feature, or one for all of them, holds."""
    _known(predictor, name, version)
    # Triton's client says no type of its JSON.
    content, _ = await guards.body(request, predict.JSON, unsaid=predict.JSON)
    rows, wanted, asked = await guards.read(partial(tensors, predictor), content)
    answers = await predict.answer(predictor, rows, metrics)
    labels: list[str | float] = [each.label for each in answers]
    probabilities: list[str | float] = [share for each in answers for share in each.probabilities.values()]
    found = {
        "class": Output("class", "BYTES", [len(rows), 1], labels),
        "probabilities": Output("probabilities", "FP64", [len(rows), len(predictor.schema.classes)], probabilities),
    }
    return Inferred(name, str(predictor.lineage.version), [found[each] for each in wanted], asked)


def tensors(predictor: Predictor, content: bytes) -> tuple[list[Row], list[str], str]:
    """The rows in an inference request, the names of the outputs that it asks for, and its id.

    Raises
    ------
    Refused
        400: it is no JSON. 422, with all faults.
    """
    value = strict_json.decode(content)
    inputs = value.get("inputs") if isinstance(value, dict) else None
    if not isinstance(inputs, list) or not inputs:
        raise wrong([Fault("an object is wanted, with an array `inputs` of tensors", "/inputs")], 1)
    if len(inputs) > len(predictor.parser.features):
        raise wrong(
            [Fault(f"at most {len(predictor.parser.features)} tensors are wanted, got {len(inputs)}", "/inputs")], 1
        )
    faults, columns, whole = keys(value, "", ("id", "parameters", "inputs", "outputs")), {}, None
    if not isinstance(value.get("id", ""), str):
        faults.append(Fault(f"a text is wanted, got {describe(value['id'])}", "/id"))
    for place, tensor in enumerate(inputs):
        pointer = f"/inputs/{place}"
        if fault := _fault(tensor, len(predictor.parser.features), pointer):
            faults.append(fault)
        elif tensor["name"] in columns:
            faults.append(Fault(f"the tensor {describe(tensor['name'])} is given more than once", f"{pointer}/name"))
        else:
            columns[tensor["name"]] = _flat(tensor["data"])
            whole = tensor if _width(tensor) > 1 else whole
    wanted, more = _outputs(value.get("outputs"))
    faults += more
    lengths = {len(values) for values in columns.values()}
    if not faults and whole is not None and len(inputs) > 1:
        faults.append(Fault("one tensor of all features is wanted, or one for each", "/inputs"))
    if not faults and len(lengths) != 1:
        faults.append(Fault(f"tensors of one length are wanted, got {sorted(lengths)}", "/inputs"))
    if faults:
        raise wrong(faults, len(faults))
    names = list(predictor.parser.features)
    predictor.parser.check_row_count(lengths.pop() // (len(names) if whole is not None else 1))
    if whole is not None:
        (values,) = columns.values()
        table = [dict(zip(names, each, strict=True)) for each in _chunks(values, len(names))]
    else:
        table = [dict(zip(columns, each, strict=True)) for each in zip(*columns.values(), strict=True)]
    return predictor.parser.parse_objects(table), wanted, value.get("id", "")


def _fault(tensor: Any, width: int, pointer: str) -> Fault | None:
    """What is wrong with the form of an input."""
    if not isinstance(tensor, dict) or not all(key in tensor for key in ("name", "shape", "datatype", "data")):
        return Fault("a tensor is wanted, with name, shape, datatype and data", pointer)
    if faults := keys(tensor, pointer, ("name", "shape", "datatype", "parameters", "data")):
        return faults[0]
    if not isinstance(tensor["name"], str):
        return Fault(f"a text is wanted, got {describe(tensor['name'])}", f"{pointer}/name")
    if tensor["datatype"] not in (*NUMBERS, "BYTES"):
        return Fault(f"one of {', '.join(sorted(NUMBERS))} or BYTES is wanted", f"{pointer}/datatype")
    shape = tensor["shape"]
    sizes = isinstance(shape, list) and all(type(size) is float and size >= 0 and size % 1 == 0 for size in shape)
    if not sizes or len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] not in (1, width)):
        return Fault(f"a shape of [rows], [rows, 1] or [rows, {width}] is wanted", f"{pointer}/shape")
    if not isinstance(tensor["data"], list) or len(_flat(tensor["data"])) != np.prod(shape):
        return Fault("an array of as many values as the shape says is wanted", f"{pointer}/data")
    for value in _flat(tensor["data"]) if "INT" in tensor["datatype"] else ():
        if isinstance(value, float) and (value % 1 or (value < 0 and tensor["datatype"].startswith("U"))):
            return Fault(f"{describe(value)} is no {tensor['datatype']}", f"{pointer}/data")
    return None


def _outputs(asked: Any) -> tuple[list[str], list[Fault]]:
    if asked is None:
        return list(OUTPUTS), []
    entries = asked if isinstance(asked, list) else []
    names = [str(each.get("name")) for each in entries if isinstance(each, dict)]
    if not names or len(names) != len(entries) or not set(names) <= OUTPUTS.keys():
        return [], [Fault(f"an array of outputs is wanted, named {' or '.join(OUTPUTS)}", "/outputs")]
    return names, []


def _width(tensor: Any) -> int:
    return int(tensor["shape"][1]) if len(tensor["shape"]) == 2 else 1


def _flat(data: list[Any]) -> list[Any]:
    """A tensor's values, which may be nested by row."""
    return [value for each in data for value in (each if isinstance(each, list) else [each])]


def _chunks(values: list[Any], width: int) -> list[list[Any]]:
    return [values[start : start + width] for start in range(0, len(values), width)]


def _datatype(feature: Any) -> str:
    return "FP64" if isinstance(feature, NumericFeature) else "BYTES"


def _known(predictor: Predictor, name: str, version: str | None) -> None:
    if name != predictor.lineage.name or version not in (None, str(predictor.lineage.version)):
        raise NotFoundException


ROUTES: list[HTTPRouteHandler] = [infer]
OPEN: list[HTTPRouteHandler] = [live, ready, server, metadata, model_ready]
