"""The server's own routes: predictions, the model, health."""

import asyncio
import os
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

from wineexp.core.config import Serve
from wineexp.data.schema import Schema
from wineexp.serving import workers
from wineexp.serving.http import guards
from wineexp.serving.metrics import Metrics
from wineexp.serving.model.predictor import Lineage, Prediction, Predictor
from wineexp.serving.model.rows import Rows
from wineexp.serving.refresh.follower import AliasFollower
from wineexp.serving.refresh.messages import Refusal

Told = TypeVar("Told")

JSON = "application/json"

# A request that takes less is answered on the event loop, where a thread would cost more than it gains.
INLINE_SECONDS = 0.02

# Rows of a large request that are written at once.
PIECE = 500


class PredictResponse(msgspec.Struct, frozen=True):
    """The answers to one request, and where they come from."""

    request_id: str
    model: Lineage
    predictions: list[Prediction]


class Source(msgspec.Struct, frozen=True):
    """Where the version was taken from.

    Attributes
    ----------
    kind : str
        `registry`, whose alias is followed, or `export`, which is served until the server stops.
    exported_at : str or None
        When; UTC, ISO 8601.
    note : str or None
        What whoever exported it wanted to be said.
    """

    kind: str
    exported_at: str | None = None
    note: str | None = None


class Model(msgspec.Struct, frozen=True):
    """Everything that is known of the version that answers."""

    model: Lineage
    aliases: list[str]
    loaded_at: str
    stale: bool
    golden_max_difference: float
    source: Source
    form: str
    run_name: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    model_schema: Schema = msgspec.field(name="schema")
    card: str | None = None


class Alive(msgspec.Struct, frozen=True):
    """The process answers."""

    alive: bool


class Ready(msgspec.Struct, frozen=True):
    """Predictions are answered, by which version, and what is in the way of another.

    Attributes
    ----------
    ready : bool
    model : Lineage
    loaded_at : str
    form : str
        `compiled`, or why the plain pipeline answers.
    stale : bool
        Whether the registry cannot be asked, so that the alias may name another version by now.
    registry : str
        `reachable`, or since when it is not and why; `none` where an export is served.
    refused : Refusal or None
        The version that the alias names and that failed a check, with the reasons.
    workers : list of int
        Process ids of those that answer.
    workers_configured : int
    """

    ready: bool
    model: Lineage
    loaded_at: str
    form: str
    stale: bool
    registry: str
    refused: Refusal | None
    workers: list[int]
    workers_configured: int


async def asked(predictor: Predictor, rows: Rows, ask: Callable[[Rows], Told]) -> Told:
    """What a version says of rows; what takes long is computed beside the event loop."""
    if predictor.row_seconds < INLINE_SECONDS and len(rows) <= 16:
        return ask(rows)
    return await asyncio.to_thread(ask, rows)


async def answer(predictor: Predictor, rows: Rows, metrics: Metrics) -> list[Prediction]:
    """The answers of a version, counted."""
    found = await asked(predictor, rows, predictor.predict)
    metrics.count_predictions(found)
    return found


@post("/predict", status_code=200)
async def predict(request: Request[Any, Any, Any], predictor: Predictor, metrics: Metrics) -> PredictResponse:
    """Predict one row, or many."""
    content, _ = await guards.body(request, JSON)
    request_id = request.scope["state"]["request_id"]
    if len(content) > guards.INLINE_BYTES:
        told = await asyncio.to_thread(_told, predictor, content, metrics, request_id)
        return Response(told, media_type=JSON)  # type: ignore[return-value]
    return PredictResponse(
        request_id, predictor.lineage, await answer(predictor, predictor.parser.parse_json(content), metrics)
    )


def _told(predictor: Predictor, content: bytes, metrics: Metrics, request_id: str) -> bytes:
    """The answers to many rows as JSON: all of it beside the event loop, and in pieces, which take turns with it."""
    rows = predictor.parser.parse_json(content)
    found = predictor.probabilities(rows)
    pieces = []
    for start in range(0, len(rows), PIECE):
        answers = predictor.predictions(rows[start : start + PIECE], found[start : start + PIECE])
        metrics.count_predictions(answers)
        pieces.append(msgspec.json.encode(answers)[1:-1])
    head = msgspec.json.encode(PredictResponse(request_id, predictor.lineage, [])).removesuffix(b"]}")
    return head + b",".join(pieces) + b"]}"


@get("/model")
async def model(predictor: Predictor, follower: AliasFollower) -> Model:
    """The version that answers: lineage, metrics, schema with training ranges, model card."""
    version = predictor.version
    return Model(
        model=predictor.lineage,
        aliases=version.aliases,
        loaded_at=predictor.loaded_at,
        stale=follower.unreachable is not None,
        golden_max_difference=predictor.golden_gap,
        source=_source(follower),
        form=predictor.form,
        run_name=version.run_name,
        params=version.params,
        metrics={name: value for name, value in version.metrics.items() if not name.startswith("fold/")},
        tags={name: value for name, value in version.tags.items() if not name.startswith("mlflow.")},
        model_schema=predictor.schema,
        card=predictor.card,
    )


def _source(follower: AliasFollower) -> Source:
    exported = follower.exported
    return Source("export", exported.when, exported.note) if exported else Source("registry")


@get("/livez")
async def livez() -> Alive:
    """Whether the process answers."""
    return Alive(alive=True)


@get("/readyz")
async def readyz(predictor: Predictor, follower: AliasFollower, settings: Serve) -> Ready:
    """Whether predictions are answered, and what is not as it should be."""
    return _ready(predictor, follower, settings)


def _ready(predictor: Predictor, follower: AliasFollower, settings: Serve) -> Ready:
    return Ready(
        ready=True,
        model=predictor.lineage,
        loaded_at=predictor.loaded_at,
        form=predictor.form,
        stale=follower.unreachable is not None,
        registry=follower.unreachable or ("none" if follower.exported else "reachable"),
        refused=follower.refusal,
        workers=workers.running_pids() or [os.getpid()],
        workers_configured=settings.serve.workers,
    )


@get("/metrics", media_type="text/plain; version=0.0.4; charset=utf-8")
async def figures(metrics: Metrics) -> Response[bytes]:
    """Figures for Prometheus."""
    return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@post("/refresh", status_code=200)
async def refresh(follower: AliasFollower, settings: Serve) -> Ready:
    """Ask the registry at once what the alias names, and swap where it names another version."""
    await follower.refresh()
    return _ready(follower.predictor, follower, settings)


ROUTES: list[HTTPRouteHandler] = [predict]
ADMINISTRATION: list[HTTPRouteHandler] = [figures, refresh]
OPEN: list[HTTPRouteHandler] = [model, livez, readyz]
