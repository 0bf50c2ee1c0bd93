"""What operators of the server use: metrics, and a refresh at once."""

from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

from wineexp.core.config import Serve
from wineexp.serving.metrics import Metrics
from wineexp.serving.refresh.follower import AliasFollower
from wineexp.serving.routes.health import Ready, readiness

PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"


@get("/metrics", media_type=PROMETHEUS_TEXT)
async def get_metrics(metrics: Metrics) -> Response[bytes]:
    """Give the metrics in Prometheus' text format."""
    return Response(metrics.text(), media_type=PROMETHEUS_TEXT)


@post("/refresh", status_code=200)
async def refresh(follower: AliasFollower, settings: Serve) -> Ready:
    """Ask the registry at once which version the alias names, and serve it."""
    await follower.refresh()
    return readiness(follower.predictor, follower, settings)


ADMINISTRATION_HANDLERS: list[HTTPRouteHandler] = [get_metrics, refresh]
