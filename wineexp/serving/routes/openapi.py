"""The API described as OpenAPI 3.1, made from the routes and from the schema of the version that answers."""

import importlib.util
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
from litestar import Litestar, MediaType, Request, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response
from litestar.routes import HTTPRoute

import wineexp
from wineexp.core.config import Serve
from wineexp.serving.http.problems import MEDIA_TYPE, Problem
from wineexp.serving.model.predictor import Predictor

REFERENCE = "#/components/schemas/{name}"

# What any path may answer besides what it is for, and what one with a body may answer as well.
ALWAYS = {
    400: "Not for this host, or no HTTP",
    406: "Accept leaves the answer out",
    408: "The request did not arrive in time",
    431: "The request's line and headers are too long",
    500: "The server failed",
}
OVERLOAD = {503: "Too many requests at once; Retry-After says when to come again"}
BODY = {
    400: "No JSON in UTF-8, or not for this host",
    413: "The body is too large",
    415: "The content type is another",
    422: "Something in the body is wrong; all of it is listed",
}

# Swagger UI's files, in the package that carries them.
SWAGGER = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon.png": "image/png"}

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="docs/favicon.png"><link rel="stylesheet" href="docs/swagger-ui.css">
</head><body><div id="swagger-ui"></div><script src="docs/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({{url: "schema", dom_id: "#swagger-ui", validatorUrl: null}})</script></body></html>
"""


class Tensor(msgspec.Struct):
    """An input of the Open Inference Protocol: [rows], [rows, 1], or [rows, features] for all features in one."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


class Wanted(msgspec.Struct):
    """An output that is asked for."""

    name: str


class Inference(msgspec.Struct):
    """A request of the Open Inference Protocol."""

    inputs: list[Tensor]
    id: str = ""
    outputs: list[Wanted] | None = None


@get("/schema", include_in_schema=False)
async def schema(request: Request[Any, Any, Any], predictor: Predictor, settings: Serve) -> Response[bytes]:
    """The API in OpenAPI 3.1, for the version that answers."""
    return Response(msgspec.json.encode(openapi(request.app, predictor, settings)), media_type=MediaType.JSON)


@get("/docs", include_in_schema=False, media_type=MediaType.HTML)
async def docs(predictor: Predictor) -> str:
    """Swagger UI, from this server's own files."""
    return PAGE.format(title=predictor.lineage.name)


@get("/docs/{name:str}", include_in_schema=False, media_type="*/*")
async def asset(name: str) -> Response[bytes]:
    """One of Swagger UI's files."""
    if name not in SWAGGER:
        raise NotFoundException
    package = importlib.util.find_spec("fastapi_offline")
    assert package is not None  # noqa: S101  it is among the requirements
    assert package.origin is not None  # noqa: S101
    content = (Path(package.origin).parent / "static" / name).read_bytes()
    return Response(content, media_type=SWAGGER[name], headers={"cache-control": "public, max-age=86400"})


def openapi(app: Litestar, predictor: Predictor, settings: Serve) -> dict[str, Any]:
    """The document of all routes that are in the schema."""
    routes = [
        (route, handler)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if handler.resolve_include_in_schema()
    ]
    row = predictor.parser.row_type
    answers = {handler: get_type_hints(handler.fn)["return"] for _, handler in routes}
    structs = {kind for kind in answers.values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)}
    _, components = msgspec.json.schema_components([row, Problem, Inference, *structs], ref_template=REFERENCE)
    paths: dict[str, Any] = {}
    for route, handler in routes:
        operation = _operation(handler, answers[handler], route, predictor)
        if any(getattr(guard, "asks", False) for guard in handler.resolve_guards()):
            operation["security"] = [{"bearer": []}, {"header": []}]
            operation["responses"]["401"] = _problem("A key is wanted")
        paths.setdefault(route.path_format, {})[_method(handler).lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": predictor.lineage.name,
            "version": f"{wineexp.__version__}+model.{predictor.lineage.version}",
            "description": f"Answered by version {predictor.lineage.version}, run {predictor.lineage.run_id}: "
            f"{predictor.schema.target} from {predictor.schema.data}. At most {settings.serve.max_rows} rows and "
            f"{settings.serve.max_body_bytes} bytes in a request.",
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _operation(handler: HTTPRouteHandler, kind: Any, route: HTTPRoute, predictor: Predictor) -> dict[str, Any]:
    body = _bodies(predictor).get(handler.fn.__name__)
    known = {"name": predictor.lineage.name, "version": str(predictor.lineage.version)}
    media_type = handler.media_type.split(";")[0] if isinstance(handler.media_type, str) else "application/json"
    structured = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    content = {"$ref": REFERENCE.format(name=kind.__name__)} if structured else {"type": "string"}
    if structured:
        media_type = "application/json"
    refusals = ALWAYS | OVERLOAD | (BODY if body else {}) | ({404: "No such model"} if route.path_parameters else {})
    operation = {
        "operationId": f"{handler.fn.__name__}{len(route.path_components)}",
        "summary": (handler.fn.__doc__ or "").splitlines()[0],
        "responses": {"200": {"description": "The answer", "content": {media_type: {"schema": content}}}}
        | {str(status): _problem(told) for status, told in sorted(refusals.items())},
    }
    if route.path_parameters:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"enum": [known[name]]}}
            for name in route.path_parameters
        ]
    if body:
        operation["requestBody"] = {"required": True, "content": body}
    return operation


def _bodies(predictor: Predictor) -> dict[str, dict[str, Any]]:
    """What the routes with a body take, by the name of their function."""
    row, names = {"$ref": REFERENCE.format(name="Row")}, list(predictor.parser.features)
    samples = [sample.row for sample in predictor.schema.samples]
    rows = {"type": "array", "items": row, "minItems": 1}
    table = {"type": "array", "items": {"type": "array", "minItems": len(names), "maxItems": len(names)}}
    forms = {
        "dataframe_split": {
            "type": "object",
            "properties": {"columns": {"type": "array", "items": {"enum": names}}, "data": table},
            "required": ["columns", "data"],
        },
        "dataframe_records": rows,
        "instances": {"anyOf": [rows, table]},
        "inputs": {"anyOf": [rows, table, {"type": "object"}]},
    }
    invocations = [
        {"type": "object", "properties": {form: schema}, "required": [form], "additionalProperties": False}
        for form, schema in forms.items()
    ]
    tensors = [
        {
            "name": name,
            "datatype": "FP64" if name not in predictor.parser.text_features else "BYTES",
            "shape": [1],
            "data": [value],
        }
        for name, value in samples[0].items()
    ]
    return {
        "predict": {"application/json": {"schema": {"anyOf": [row, rows]}, "example": samples[0]}},
        "explain": {"application/json": {"schema": row, "example": samples[0]}},
        "invocations": {
            "application/json": {"schema": {"oneOf": invocations}, "example": {"dataframe_records": samples[:2]}},
            "text/csv": {"schema": {"type": "string"}, "example": _csv(samples[:2])},
        },
        "infer": {
            "application/json": {
                "schema": {"$ref": REFERENCE.format(name="Inference")},
                "example": {"inputs": tensors},
            }
        },
    }


def _csv(samples: list[dict[str, float | str]]) -> str:
    return "\n".join([",".join(samples[0]), *(",".join(map(str, each.values())) for each in samples)])


def _problem(told: str) -> dict[str, Any]:
    return {
        "description": told,
        "content": {MEDIA_TYPE: {"schema": {"$ref": REFERENCE.format(name="Problem")}}},
    }


def _method(handler: HTTPRouteHandler) -> str:
    return str(sorted(handler.http_methods)[0])


OPEN: list[HTTPRouteHandler] = [schema, docs, asset]
