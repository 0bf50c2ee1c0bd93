"""The application, put together."""

from typing import Any

from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp

from wineexp.core.config import Serve
from wineexp.serving import workers
from wineexp.serving.http import guards, problems
from wineexp.serving.http.guards import Key
from wineexp.serving.metrics import Metrics
from wineexp.serving.middleware import Edge
from wineexp.serving.refresh.follower import AliasFollower
from wineexp.serving.refresh.messages import RefreshPaths
from wineexp.serving.routes import explain, mlflow, open_inference, openapi, predict, ui
from wineexp.serving.routes.fast_path import Shortcut


def build(settings: Serve, paths: RefreshPaths) -> ASGIApp:
    """The application of one process, with a version loaded.

    Raises
    ------
    UserError
        There is nothing to serve, or a key is named that is not set.
    """
    metrics = Metrics()
    follower = AliasFollower(settings, metrics, paths)
    server = settings.serve
    predictions = Key(server.keys.predictions, "serve.keys.predictions")
    administration = Key(server.keys.administration, "serve.keys.administration")
    follower.start()
    asked = [*predict.ROUTES, *explain.ROUTES, *mlflow.ROUTES, *open_inference.ROUTES]
    app = Litestar(
        [
            Router("/", route_handlers=asked, guards=[predictions]),
            Router("/", route_handlers=predict.ADMINISTRATION, guards=[administration]),
            *predict.OPEN,
            *mlflow.OPEN,
            *open_inference.OPEN,
            *openapi.OPEN,
            *ui.OPEN,
        ],
        dependencies={
            "predictor": _given(lambda: follower.predictor),
            "follower": _given(lambda: follower),
            "metrics": _given(lambda: metrics),
            "settings": _given(lambda: settings),
        },
        guards=[guards.acceptable],
        exception_handlers={HTTPException: problems.handle, Exception: problems.handle},
        request_max_body_size=server.max_body_bytes,
        cors_config=CORSConfig(allow_origins=server.allowed_origins) if server.allowed_origins else None,
        lifespan=[follower.follow, workers.registered],
        logging_config=None,
        openapi_config=None,
    )
    return Edge(app, server, metrics, Shortcut(follower, metrics, server, predictions))


def _given(what: Any) -> Provide:
    return Provide(what, sync_to_thread=False, use_cache=False)
