"""Liveness and readiness, for orchestrators and for people."""

import os

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler

from wineexp.core.config import Serve
from wineexp.serving import workers
from wineexp.serving.challenger.live_test import ChallengerStatus, LiveTest
from wineexp.serving.metrics import Metrics
from wineexp.serving.model.predictor import Lineage, Predictor
from wineexp.serving.prediction_log import PredictionLog
from wineexp.serving.refresh.follower import AliasFollower
from wineexp.serving.refresh.messages import Refusal


class Alive(msgspec.Struct, frozen=True):
    """The process responds."""

    alive: bool


class Ready(msgspec.Struct, frozen=True):
    """The server predicts: with which version, and what keeps it from serving another.

    Attributes
    ----------
    ready : bool
    model : Lineage
    loaded_at : str
        UTC, ISO 8601.
    form : str
        `compiled`, or why the pipeline predicts.
    stale : bool
        Whether the registry cannot be reached, so that the alias may name another version by now.
    registry : str
        `reachable`, or since when it is not, and why; `none` where an export is served.
    refused : Refusal or None
        The version that the alias names and that failed a check, with the reasons.
    log : str
        `off`, `written`, or since when predictions cannot be logged, and why.
    log_rows_dropped : int
        Rows of all workers that the prediction log could not take.
    workers : list of int
        Process ids of the worker processes that are running.
    workers_configured : int
    challenger : ChallengerStatus or None
        The version that is tested on live traffic; None where none is configured.
    """

    ready: bool
    model: Lineage
    loaded_at: str
    form: str
    stale: bool
    registry: str
    refused: Refusal | None
    log: str
    log_rows_dropped: int
    workers: list[int]
    workers_configured: int
    challenger: ChallengerStatus | None


@get("/livez")
async def livez() -> Alive:
    """Tell that the process responds."""
    return Alive(alive=True)


@get("/readyz")
async def readyz(
    predictor: Predictor,
    follower: AliasFollower,
    settings: Serve,
    metrics: Metrics,
    log: PredictionLog | None,
    live_test: LiveTest,
) -> Ready:
    """Tell which version predicts, and what is wrong with the registry or with a newer version."""
    return readiness(predictor, follower, settings, metrics, log, live_test)


def readiness(
    predictor: Predictor,
    follower: AliasFollower,
    settings: Serve,
    metrics: Metrics,
    log: PredictionLog | None,
    live_test: LiveTest,
) -> Ready:
    """The response of /readyz."""
    return Ready(
        ready=True,
        model=predictor.lineage,
        loaded_at=predictor.loaded_at,
        form=predictor.form,
        stale=follower.unreachable is not None,
        registry=follower.unreachable or ("none" if follower.exported else "reachable"),
        refused=follower.refusal,
        log="off" if log is None else log.failing or "written",
        log_rows_dropped=0 if log is None else metrics.count_dropped_rows(),
        workers=workers.running_pids() or [os.getpid()],
        workers_configured=settings.serve.workers,
        challenger=live_test.status,
    )


PUBLIC_HANDLERS: list[HTTPRouteHandler] = [livez, readyz]
