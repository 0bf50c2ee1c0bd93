"""The API as an OpenAPI 3.1 document, made from the routes and from the schema of the served version."""

import itertools
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from litestar import Litestar, MediaType, Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response
from litestar.routes import HTTPRoute

import wineexp
from wineexp.core.config import Serve
from wineexp.data.schema import TextFeature
from wineexp.serving.http.problems import MEDIA_TYPE, Problem
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.routes.feedback import Feedback
from wineexp.serving.routes.predict import JSON, PredictNumbersResponse, PredictResponse
from wineexp.serving.routes.tensors import output_datatypes

REFERENCE = "#/components/schemas/{name}"

# Errors of every path.
COMMON_ERRORS = {
    400: "The host is not allowed, or the request is no HTTP",
    406: "Accept excludes the response's media type",
    408: "The request did not arrive in time",
    431: "The request's line and headers are too long",
    500: "The server failed",
    503: "Too many requests at one time; Retry-After says when to try again",
}
# Errors of paths with a request body.
BODY_ERRORS = {
    400: "The body is no JSON in UTF-8, or the host is not allowed",
    413: "The body is too large",
    415: "The path does not accept the content type",
    422: "Something in the body is wrong; all faults are listed",
}


class Tag(NamedTuple):
    """A group of the API's documentation; code generators make a module of each, so that its name is a word."""

    name: str
    description: str


# In their order, by the module of a handler.
TAGS = {
    "predict": Tag("predictions", "Predictions of the served model, and explanations"),
    "explain": Tag("predictions", "Predictions of the served model, and explanations"),
    "feedback": Tag("feedback", "What was really the case, for predictions that were logged"),
    "model": Tag("model", "The served version"),
    "monitor": Tag("model", "The served version"),
    "mlflow": Tag("mlflow", "MLflow's protocol"),
    "open_inference": Tag("open_inference", "The Open Inference Protocol"),
    "kserve_v1": Tag("kserve_v1", "KServe's first protocol"),
    "health": Tag("health", "Health"),
    "administration": Tag("administration", "Administration"),
}

# A number written as a text.
NUMBER_PATTERN = r"^[+-]?[0-9]{1,15}(\.[0-9]{1,15})?([eE][+-]?[0-9]{1,2})?$"
NULL = {"type": "null"}

TensorValue = float | bool | str | None


class InputTensor(msgspec.Struct):
    """An input of the Open Inference Protocol: [rows], [rows, 1], or [rows, features] for all features in one."""

    name: str
    datatype: str
    shape: list[int]
    data: list[TensorValue | list[TensorValue]] | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class RequestedOutput(msgspec.Struct):
    """An output that a request names."""

    name: Literal["class", "probabilities", "prediction", "interval"]
    parameters: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class InferenceRequest(msgspec.Struct):
    """A request of the Open Inference Protocol."""

    inputs: Annotated[list[InputTensor], msgspec.Meta(min_length=1)]
    id: str = ""
    model_name: str | msgspec.UnsetType = msgspec.UNSET
    outputs: Annotated[list[RequestedOutput], msgspec.Meta(min_length=1)] | None = None
    parameters: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


@get("/schema", include_in_schema=False)
async def schema(request: Request[Any, Any, Any], predictor: Predictor, settings: Serve) -> Response[bytes]:
    """Give the API as an OpenAPI document."""
    document = openapi_document(request.app, predictor, settings)
    return Response(msgspec.json.encode(document), media_type=MediaType.JSON)


def openapi_document(app: Litestar, predictor: Predictor, settings: Serve) -> dict[str, Any]:
    """The document of all handlers that are included in the schema."""
    handlers = [
        (route, handler)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if handler.resolve_include_in_schema()
    ]
    response_types = {handler: _response_type(handler, predictor) for _, handler in handlers}
    types = [type_ for type_ in response_types.values() if _is_encoded(type_)]
    _, components = msgspec.json.schema_components(
        [predictor.parser.row_type, Problem, InferenceRequest, Feedback, *types], ref_template=REFERENCE
    )
    components["RequestedOutput"]["properties"]["name"]["enum"] = sorted(output_datatypes(predictor.schema))
    bodies = _request_bodies(predictor, settings.serve.max_rows)
    paths: dict[str, Any] = {}
    for route, handler in handlers:
        operation = _operation(handler, response_types[handler], route, predictor, bodies.get(handler.fn.__name__))
        if any(getattr(guard, "required", False) for guard in handler.resolve_guards()):
            operation["security"] = [{"bearer": []}, {"header": []}]
            operation["responses"]["401"] = _problem_response("An API key is required")
        # Where Litestar's router cannot have the path that clients use, the handler says it.
        path = handler.opt.get("path", route.path_format)
        paths.setdefault(path, {})[_method(handler).lower()] = operation
    used = {name for operations in paths.values() for operation in operations.values() for name in operation["tags"]}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": predictor.lineage.name,
            "version": f"{wineexp.__version__}+model.{predictor.lineage.version}",
            "description": f"Served is version {predictor.lineage.version}, run {predictor.lineage.run_id}: "
            f"{predictor.schema.target} from {predictor.schema.data}. At most {settings.serve.max_rows} rows and "
            f"{settings.serve.max_body_bytes} bytes in a request.",
        },
        "tags": [tag._asdict() for tag in dict.fromkeys(TAGS.values()) if tag.name in used],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": components | _table_components(predictor, settings.serve.max_rows),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _response_type(handler: HTTPRouteHandler, predictor: Predictor) -> Any:
    declared = get_type_hints(handler.fn)["return"]
    return PredictNumbersResponse if declared is PredictResponse and predictor.schema.numbers else declared


def _operation(
    handler: HTTPRouteHandler,
    response_type: Any,
    route: HTTPRoute,
    predictor: Predictor,
    body: dict[str, Any] | None,
) -> dict[str, Any]:
    errors = COMMON_ERRORS | (BODY_ERRORS if body else {}) | ({404: "No such model"} if route.path_parameters else {})
    operation = {
        "operationId": _operation_id(handler, route),
        "summary": (handler.fn.__doc__ or "").splitlines()[0],
        "tags": [TAGS[handler.fn.__module__.rpartition(".")[2]].name],
        "responses": {"200": {"description": "The response", "content": _content(handler, response_type)}}
        | {str(status): _problem_response(description) for status, description in sorted(errors.items())},
    }
    if route.path_parameters:
        served = {"name": predictor.lineage.name, "version": str(predictor.lineage.version)}
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"enum": [served[name]]}}
            for name in route.path_parameters
        ]
    if body:
        operation["requestBody"] = {"required": True, "content": body}
    return operation


def _operation_id(handler: HTTPRouteHandler, route: HTTPRoute) -> str:
    """The name of an operation, from which code generators make that of a function."""
    name = handler.fn.__name__
    if "version" in route.path_parameters:
        return f"{name}_of_version"
    return name if route.path_parameters or len(handler.paths) == 1 else route.path.rpartition("/")[2]


def _content(handler: HTTPRouteHandler, response_type: Any) -> dict[str, Any]:
    """Media type and schema of a handler's response."""
    if _is_encoded(response_type):
        return {JSON: {"schema": msgspec.json.schema_components([response_type], ref_template=REFERENCE)[0][0]}}
    media_type = handler.media_type.split(";")[0] if isinstance(handler.media_type, str) else JSON
    return {media_type: {"schema": {"type": "string"}}}


def _request_bodies(predictor: Predictor, max_rows: int) -> dict[str, dict[str, Any]]:
    """What the handlers with a request body accept, by the name of their function."""
    row = _reference("Row")
    samples = [sample.row for sample in predictor.schema.samples]
    label = predictor.schema.samples[0].label
    truth = float(label) if predictor.schema.numbers else label
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": max_rows}
    return {
        "predict": {JSON: {"schema": {"anyOf": [row, rows]}, "example": samples[0]}},
        "explain": {JSON: {"schema": row, "example": samples[0]}},
        "invocations": {
            JSON: {"schema": _invocations(max_rows), "example": {"dataframe_records": samples[:2]}},
            "text/csv": {"schema": {"type": "string"}, "example": _csv(samples[:2])},
        },
        "infer": {
            JSON: {"schema": _reference("InferenceRequest"), "example": {"inputs": _tensors(predictor, samples[0])}}
        },
        "feedback": {JSON: {"schema": _feedback(max_rows), "example": {"request_id": "7f3a", "truth": truth}}},
        "v1_predict": {
            JSON: {"schema": _one_of({"instances": _instances(max_rows)}), "example": {"instances": samples[:2]}},
        },
    }


def _feedback(max_rows: int) -> dict[str, Any]:
    """The schema of one truth, or of many."""
    one = _reference("Feedback")
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": max_rows}]}


def _text_schema(levels: list[str]) -> dict[str, Any]:
    """The schema of a text that may have these values alone; where there are none, any."""
    return {"enum": levels} if levels else {"type": "string"}


def _table_components(predictor: Predictor, max_rows: int) -> dict[str, Any]:
    """Rows in MLflow's formats, in which columns that are no features may stand beside those that are."""
    number = {"anyOf": [{"type": ["number", "boolean"]}, {"type": "string", "pattern": NUMBER_PATTERN}]}
    row_properties = {
        feature.name: {"anyOf": [_text_schema(feature.levels) if isinstance(feature, TextFeature) else number, NULL]}
        for feature in predictor.schema.features
    }
    names = list(predictor.parser.features)
    of_all = {"minItems": len(names), "maxItems": len(names)}
    levels = [feature.levels for feature in predictor.schema.features if isinstance(feature, TextFeature)]
    values: list[dict[str, Any]] = [number] if len(predictor.parser.text_features) < len(names) else []
    values += [_text_schema(sorted({*itertools.chain(*levels)}) if all(levels) else [])] if levels else []
    row = {"type": "array", "items": {"anyOf": [*values, NULL]}, **of_all}
    return {
        "RowWithOtherColumns": {
            "title": "RowWithOtherColumns",
            "type": "object",
            "properties": row_properties,
            "required": names,
        },
        "Values": {"title": "Values"} | row,
        "Table": {
            "title": "Table",
            "type": "object",
            "properties": {
                "columns": {"type": "array", "items": {"type": "string", "enum": names}, "uniqueItems": True, **of_all},
                "data": {"type": "array", "items": _reference("Values"), "minItems": 1, "maxItems": max_rows},
            },
            "required": ["columns", "data"],
            "additionalProperties": False,
        },
    }


def _instances(max_rows: int) -> dict[str, Any]:
    """The schema of rows as objects, or as arrays in the order of the features."""
    kinds = [_reference(name) for name in ("RowWithOtherColumns", "Values")]
    return {"anyOf": [{"type": "array", "items": kind, "minItems": 1, "maxItems": max_rows} for kind in kinds]}


def _invocations(max_rows: int) -> dict[str, Any]:
    rows = {"type": "array", "items": _reference("RowWithOtherColumns"), "minItems": 1, "maxItems": max_rows}
    formats = {"dataframe_split": _reference("Table"), "dataframe_records": rows, "instances": rows, "inputs": rows}
    return _one_of(formats)


def _one_of(formats: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object with one of these keys."""
    objects = [
        {
            "title": name.title().replace("_", ""),
            "type": "object",
            "properties": {name: schema},
            "required": [name],
            "additionalProperties": False,
        }
        for name, schema in formats.items()
    ]
    return {"oneOf": objects} if len(objects) > 1 else objects[0]


def _tensors(predictor: Predictor, row: dict[str, float | str | None]) -> list[dict[str, Any]]:
    """A row as input tensors."""
    texts = predictor.parser.text_features
    return [
        {"name": name, "datatype": "BYTES" if name in texts else "FP64", "shape": [1], "data": [value]}
        for name, value in row.items()
    ]


def _csv(rows: list[dict[str, float | str | None]]) -> str:
    return "\n".join(
        [",".join(rows[0]), *(",".join("" if value is None else str(value) for value in row.values()) for row in rows)]
    )


def _problem_response(description: str) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": _reference("Problem")}}}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": REFERENCE.format(name=name)}


def _is_encoded(type_: Any) -> bool:
    """Whether the type of a response is encoded as JSON: a struct, or a list of them."""
    (inner,) = get_args(type_) if get_origin(type_) is list else (type_,)
    return isinstance(inner, type) and issubclass(inner, msgspec.Struct)


def _method(handler: HTTPRouteHandler) -> str:
    return str(sorted(handler.http_methods)[0])


PUBLIC_HANDLERS: list[HTTPRouteHandler] = [schema]
