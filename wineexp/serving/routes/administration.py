"""What operators of the server use: metrics, and a refresh at once."""

from typing import Annotated

from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import HeaderParameter
from litestar.response import Response

from wineexp.core.config import Serve
from wineexp.serving.challenger.live_test import LiveTest
from wineexp.serving.metrics import Metrics
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.prediction_log import PredictionLog
from wineexp.serving.refresh.follower import AliasFollower
from wineexp.serving.routes import monitor
from wineexp.serving.routes.health import Ready, readiness

METRICS_TYPES = ["text/plain", "application/openmetrics-text"]


@get("/metrics", media_type="text/plain; version=0.0.4", opt={"media_types": METRICS_TYPES})
async def get_metrics(
    metrics: Metrics,
    predictor: Predictor,
    settings: Serve,
    accept: Annotated[str, HeaderParameter(name="accept")] = "",
) -> Response[bytes]:
    """Give the metrics in Prometheus' text format, or in OpenMetrics' to a client that accepts that one."""
    metrics.verdicts.said = await monitor.last_said(predictor, settings)
    content, media_type = metrics.text(accept)
    # In the header, since Litestar would add a second charset to the media type.
    return Response(content, headers={"content-type": media_type})


@post("/refresh", status_code=200)
async def refresh(
    follower: AliasFollower, settings: Serve, metrics: Metrics, log: PredictionLog | None, live_test: LiveTest
) -> Ready:
    """Ask the registry at once which version the alias names, and serve it."""
    await follower.refresh()
    return readiness(follower.predictor, follower, settings, metrics, log, live_test)


ADMINISTRATION_HANDLERS: list[HTTPRouteHandler] = [get_metrics, refresh]
