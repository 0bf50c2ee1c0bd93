"""The API as an OpenAPI 3.1 document, made from the routes and from the schema of the served version."""

from typing import Any, get_type_hints

import msgspec
from litestar import Litestar, MediaType, Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response
from litestar.routes import HTTPRoute

import wineexp
from wineexp.core.config import Serve
from wineexp.serving.http.problems import MEDIA_TYPE, Problem
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.routes.predict import JSON

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


# The groups of the API's documentation, in their order, by the module of a handler.
TAGS = {
    "predict": "Predictions",
    "explain": "Predictions",
    "model": "Served version",
    "mlflow": "MLflow's protocol",
    "open_inference": "Open Inference Protocol",
    "kserve_v1": "KServe's first protocol",
    "health": "Health",
    "administration": "Administration",
}


class InputTensor(msgspec.Struct):
    """An input of the Open Inference Protocol: [rows], [rows, 1], or [rows, features] for all features in one."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


class RequestedOutput(msgspec.Struct):
    """An output that a request names."""

    name: str


class InferenceRequest(msgspec.Struct):
    """A request of the Open Inference Protocol."""

    inputs: list[InputTensor]
    id: str = ""
    outputs: list[RequestedOutput] | None = None


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
    response_types = {handler: get_type_hints(handler.fn)["return"] for _, handler in handlers}
    structs = {type_ for type_ in response_types.values() if _is_struct(type_)}
    _, components = msgspec.json.schema_components(
        [predictor.parser.row_type, Problem, InferenceRequest, *structs], ref_template=REFERENCE
    )
    paths: dict[str, Any] = {}
    for route, handler in handlers:
        operation = _operation(handler, response_types[handler], route, predictor)
        if any(getattr(guard, "required", False) for guard in handler.resolve_guards()):
            operation["security"] = [{"bearer": []}, {"header": []}]
            operation["responses"]["401"] = _problem_response("An API key is required")
        path = route.path_format + handler.opt.get("path_suffix", "")
        paths.setdefault(path, {})[_method(handler).lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": predictor.lineage.name,
            "version": f"{wineexp.__version__}+model.{predictor.lineage.version}",
            "description": f"Served is version {predictor.lineage.version}, run {predictor.lineage.run_id}: "
            f"{predictor.schema.target} from {predictor.schema.data}. At most {settings.serve.max_rows} rows and "
            f"{settings.serve.max_body_bytes} bytes in a request.",
        },
        "tags": [{"name": name} for name in dict.fromkeys(TAGS.values())],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _operation(handler: HTTPRouteHandler, response_type: Any, route: HTTPRoute, predictor: Predictor) -> dict[str, Any]:
    body = _request_bodies(predictor).get(handler.fn.__name__)
    errors = COMMON_ERRORS | (BODY_ERRORS if body else {}) | ({404: "No such model"} if route.path_parameters else {})
    operation = {
        "operationId": f"{handler.fn.__name__}{len(route.path_components)}",
        "summary": (handler.fn.__doc__ or "").splitlines()[0],
        "tags": [TAGS[handler.fn.__module__.rpartition(".")[2]]],
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


def _content(handler: HTTPRouteHandler, response_type: Any) -> dict[str, Any]:
    """Media type and schema of a handler's response."""
    if _is_struct(response_type):
        return {JSON: {"schema": _reference(response_type.__name__)}}
    media_type = handler.media_type.split(";")[0] if isinstance(handler.media_type, str) else JSON
    return {media_type: {"schema": {"type": "string"}}}


def _request_bodies(predictor: Predictor) -> dict[str, dict[str, Any]]:
    """What the handlers with a request body accept, by the name of their function."""
    row, names = _reference("Row"), list(predictor.parser.features)
    samples = [sample.row for sample in predictor.schema.samples]
    rows = {"type": "array", "items": row, "minItems": 1}
    return {
        "predict": {JSON: {"schema": {"anyOf": [row, rows]}, "example": samples[0]}},
        "explain": {JSON: {"schema": row, "example": samples[0]}},
        "invocations": {
            JSON: {
                "schema": _invocations(names, predictor.parser.row_type),
                "example": {"dataframe_records": samples[:2]},
            },
            "text/csv": {"schema": {"type": "string"}, "example": _csv(samples[:2])},
        },
        "infer": {
            JSON: {"schema": _reference("InferenceRequest"), "example": {"inputs": _tensors(predictor, samples[0])}}
        },
    }


def _invocations(names: list[str], row_type: Any) -> dict[str, Any]:
    """The schema of MLflow's formats, in which columns that are no features may stand beside those that are."""
    _, components = msgspec.json.schema_components([row_type])
    row = {key: value for key, value in components["Row"].items() if key != "additionalProperties"}
    rows = {"type": "array", "items": row, "minItems": 1}
    table = {"type": "array", "items": {"type": "array", "minItems": len(names), "maxItems": len(names)}}
    formats = {
        "dataframe_split": {
            "type": "object",
            "properties": {
                "columns": {"type": "array", "items": {"type": "string"}, "minItems": len(names)},
                "data": {"type": "array", "items": {"type": "array", "minItems": len(names)}},
            },
            "required": ["columns", "data"],
        },
        "dataframe_records": rows,
        "instances": {"anyOf": [rows, table]},
        "inputs": {"anyOf": [rows, table, {"type": "object"}]},
    }
    return {
        "oneOf": [
            {"type": "object", "properties": {name: schema}, "required": [name], "additionalProperties": False}
            for name, schema in formats.items()
        ]
    }


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


def _is_struct(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, msgspec.Struct)


def _method(handler: HTTPRouteHandler) -> str:
    return str(sorted(handler.http_methods)[0])


PUBLIC_HANDLERS: list[HTTPRouteHandler] = [schema]
