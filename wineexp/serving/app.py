"""The application, put together."""

from typing import Any

from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp

from wineexp.config import Serve
from wineexp.serving import api, document, doors, explain, invocations, open_inference, problems, site, workers
from wineexp.serving.doors import Key
from wineexp.serving.edge import Edge
from wineexp.serving.link import Link
from wineexp.serving.metrics import Metrics
from wineexp.serving.shortcut import Shortcut
from wineexp.serving.watch import Watch


def build(settings: Serve, link: Link) -> ASGIApp:
    """The application of one process, with a version loaded.

    Raises
    ------
    UserError
        There is nothing to serve, or a key is named that is not set.
    """
    metrics = Metrics()
    watch = Watch(settings, metrics, link)
    server = settings.serve
    predictions = Key(server.keys.predictions, "serve.keys.predictions")
    administration = Key(server.keys.administration, "serve.keys.administration")
    watch.start()
    asked = [*api.ROUTES, *explain.ROUTES, *invocations.ROUTES, *open_inference.ROUTES]
    app = Litestar(
        [
            Router("/", route_handlers=asked, guards=[predictions]),
            Router("/", route_handlers=api.ADMINISTRATION, guards=[administration]),
            *api.OPEN,
            *invocations.OPEN,
            *open_inference.OPEN,
            *document.OPEN,
            *site.OPEN,
        ],
        dependencies={
            "served": _given(lambda: watch.served),
            "watch": _given(lambda: watch),
            "metrics": _given(lambda: metrics),
            "settings": _given(lambda: settings),
        },
        guards=[doors.acceptable],
        exception_handlers={HTTPException: problems.handle, Exception: problems.handle},
        request_max_body_size=server.body_bytes,
        cors_config=CORSConfig(allow_origins=server.origins) if server.origins else None,
        lifespan=[watch.polling, workers.noted],
        logging_config=None,
        openapi_config=None,
    )
    return Edge(app, server, metrics, Shortcut(watch, metrics, server, predictions))


def _given(what: Any) -> Provide:
    return Provide(what, sync_to_thread=False, use_cache=False)
