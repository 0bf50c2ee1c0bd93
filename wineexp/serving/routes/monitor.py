"""What the monitor and the live test last said of the served version."""

import asyncio
from typing import Any

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler

from wineexp.core.config import Serve
from wineexp.monitoring import verdicts
from wineexp.serving.model.predictor import Lineage, Predictor


class LastSaid(msgspec.Struct, frozen=True):
    """What was last said of the served version.

    Attributes
    ----------
    model : Lineage
    drift : dict or None
        The `monitor.json` of the last `python -m wineexp.monitor`; None where there was none, or nothing is logged.
    live_test : dict or None
        The `abtest.json` of the last `python -m wineexp.abtest`, likewise.
    """

    model: Lineage
    drift: dict[str, Any] | None
    live_test: dict[str, Any] | None


@get("/monitor")
async def get_monitor(predictor: Predictor, settings: Serve) -> LastSaid:
    """Tell what the monitor and the live test last said of the served version."""
    said = await last_said(predictor, settings)
    return LastSaid(predictor.lineage, said.get(verdicts.DRIFT), said.get(verdicts.LIVE_TEST))


async def last_said(predictor: Predictor, settings: Serve) -> dict[str, Any]:
    """What was last said of the served version, by kind; empty where nothing is logged."""
    lineage, log = predictor.lineage, settings.serve.log
    if log is None:
        return {}
    return await asyncio.to_thread(verdicts.of_version, log, lineage.name, lineage.version)


PUBLIC_HANDLERS: list[HTTPRouteHandler] = [get_monitor]
