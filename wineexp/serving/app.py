"""The ASGI application: Litestar with the handlers, and middleware around it."""

from collections.abc import Callable
from itertools import chain
from typing import Any

from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, Scope

from wineexp.core.config import Serve
from wineexp.serving import tracing, workers
from wineexp.serving.answers import Answers
from wineexp.serving.challenger.live_test import ChallengerPaths, LiveTest
from wineexp.serving.http import guards, problems
from wineexp.serving.http.guards import ApiKey
from wineexp.serving.metrics import Metrics
from wineexp.serving.middleware.body import BodyMiddleware
from wineexp.serving.middleware.concurrency import ConcurrencyLimitMiddleware
from wineexp.serving.middleware.head import HeadMiddleware
from wineexp.serving.middleware.host import HostMiddleware
from wineexp.serving.middleware.predict_path import PredictPathMiddleware
from wineexp.serving.middleware.recording import RecordingMiddleware
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.prediction_log import PredictionLog
from wineexp.serving.refresh.follower import AliasFollower
from wineexp.serving.refresh.messages import RefreshPaths
from wineexp.serving.routes import (
    administration,
    docs,
    explain,
    feedback,
    health,
    kserve_v1,
    mlflow,
    model,
    monitor,
    open_inference,
    openapi,
    predict,
    ui,
)
from wineexp.serving.routes.fast_path import FastPathMiddleware


def build(settings: Serve, paths: RefreshPaths, challenger: ChallengerPaths | None = None) -> RecordingMiddleware:
    """Build the application of one process, and load the version that it serves.

    Parameters
    ----------
    settings : Serve
    paths : RefreshPaths
    challenger : ChallengerPaths, optional
        Where there is a challenger.

    Raises
    ------
    UserError
        There is nothing to serve, an environment variable that should hold an API key is not set, or the packages that
        export spans are not installed.
    """
    server = settings.serve
    prediction_key = ApiKey(server.keys.predictions, "serve.keys.predictions")
    administration_key = ApiKey(server.keys.administration, "serve.keys.administration")
    metrics = Metrics()
    answers = Answers(server.alias)
    log = PredictionLog(server.log, server, metrics) if server.log is not None else None
    # Without a log, it can be neither written nor not.
    metrics.log_up.set(float("nan"))
    if log is not None:
        answers.receivers.append(log.receive)
    tracer = tracing.connect(server.otlp_endpoint) if server.otlp_endpoint else None
    follower = AliasFollower(settings, metrics, paths)
    # It may wait for a version for long; what is wrong with the settings is found before.
    follower.start()
    if log is not None:
        log.check_left_out(follower.predictor.schema)
    live_test = LiveTest(settings, challenger, follower, metrics, answers)
    litestar = _litestar(settings, follower, metrics, answers, log, live_test, prediction_key, administration_key)
    # From the innermost to the outermost: a request takes them in the opposite order.
    app: ASGIApp = PredictPathMiddleware(HeadMiddleware(litestar))
    app = FastPathMiddleware(app, live_test.choose, metrics, answers, server, prediction_key)
    app = ConcurrencyLimitMiddleware(app, server.max_concurrent_requests)
    app = BodyMiddleware(app, server.max_body_bytes)
    app = HostMiddleware(app, server.allowed_hosts)
    return RecordingMiddleware(app, metrics, tracer)


def _litestar(
    settings: Serve,
    follower: AliasFollower,
    metrics: Metrics,
    answers: Answers,
    log: PredictionLog | None,
    live_test: LiveTest,
    prediction_key: ApiKey,
    administration_key: ApiKey,
) -> Litestar:
    predictions = chain.from_iterable(
        module.PREDICTION_HANDLERS for module in (predict, mlflow, open_inference, kserve_v1)
    )
    of_feedback = feedback.NO_FEEDBACK_HANDLERS if log is None else feedback.FEEDBACK_HANDLERS
    public = chain.from_iterable(
        module.PUBLIC_HANDLERS
        for module in (model, monitor, health, mlflow, open_inference, kserve_v1, openapi, docs, ui)
    )
    origins = settings.serve.allowed_origins

    # Not a method, whose object Litestar would copy.
    def chosen(scope: Scope) -> Predictor:
        return live_test.choose(scope)  # type: ignore[arg-type]

    return Litestar(
        [
            Router(
                "/",
                route_handlers=list(predictions),
                guards=[prediction_key],
                dependencies={"predictor": _provide(chosen)},
            ),
            Router("/", route_handlers=[*explain.PREDICTION_HANDLERS, *of_feedback], guards=[prediction_key]),
            Router("/", route_handlers=administration.ADMINISTRATION_HANDLERS, guards=[administration_key]),
            *public,
        ],
        dependencies={
            "predictor": _provide(lambda: follower.predictor),
            "follower": _provide(lambda: follower),
            "metrics": _provide(lambda: metrics),
            "answers": _provide(lambda: answers),
            "log": _provide(lambda: log),
            "live_test": _provide(lambda: live_test),
            "settings": _provide(lambda: settings),
        },
        guards=[guards.check_accept],
        exception_handlers={HTTPException: problems.handle, Exception: problems.handle},
        request_max_body_size=settings.serve.max_body_bytes,
        cors_config=CORSConfig(allow_origins=origins) if origins else None,
        lifespan=[
            follower.follow,
            workers.registered,
            *([log.written] if log is not None else []),
            *live_test.lifespans,
        ],
        logging_config=None,
        openapi_config=None,
    )


def _provide(dependency: Callable[..., Any]) -> Provide:
    return Provide(dependency, sync_to_thread=False, use_cache=False)
