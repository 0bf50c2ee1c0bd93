"""Answers the most frequent request, one row for /predict, without the framework; see http/README.md."""

from collections.abc import Callable
from typing import Any

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from wineexp.core.config import Server
from wineexp.serving.answers import Answers
from wineexp.serving.http.guards import ApiKey
from wineexp.serving.http.problems import ProblemError
from wineexp.serving.metrics import Metrics
from wineexp.serving.middleware.body import replay
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.routes.predict import MAX_INLINE_SECONDS, PredictNumbersResponse, PredictResponse

PATH = "/predict"

# A row is far smaller.
MAX_ROW_BYTES = 16_384

CONTENT_TYPES = {b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"}
ACCEPTED_TYPES = {b"", b"*/*", b"application/json"}

# Requests with one of these headers are left to the framework.
EXCLUDED_HEADERS = {b"content-encoding", b"transfer-encoding", b"origin", b"expect"}

JSON_HEADER = (b"content-type", b"application/json")

_encoder = msgspec.json.Encoder()


class FastPathMiddleware:
    """Answers a request for one row itself, and leaves every other to the application.

    It never refuses: a request that is not allowed, or a row that is wrong, goes to the application, too, so that each
    rule and each error message is in one place.

    Parameters
    ----------
    app : ASGI application
    choose : callable
        Gives the version that answers a request, from its scope.
    metrics : Metrics
    answers : Answers
    settings : Server
    key : ApiKey
        Of predictions.
    """

    def __init__(
        self,
        app: ASGIApp,
        choose: Callable[[HTTPScope], Predictor],
        metrics: Metrics,
        answers: Answers,
        settings: Server,
        key: ApiKey,
    ) -> None:
        self.app = app
        self.choose = choose
        self.metrics = metrics
        self.answers = answers
        self.max_bytes = min(MAX_ROW_BYTES, settings.max_body_bytes)
        self.key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == ScopeType.HTTP and self._accepts(scope):
            message = await receive()
            if message["type"] == "http.request" and not message["more_body"]:
                response = self._predict(message["body"], scope)
                if response is not None:
                    scope["path_template"] = PATH
                    headers = [JSON_HEADER, (b"content-length", b"%d" % len(response))]
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                    await send({"type": "http.response.body", "body": response, "more_body": False})
                    return
            receive = replay(message, receive)
        await self.app(scope, receive, send)

    def _accepts(self, scope: HTTPScope) -> bool:
        """Whether the head of a request has nothing that needs the framework, and a key that is right."""
        if scope["path"] != PATH or scope["method"] != "POST":
            return False
        headers = scope["state"]["headers"]
        content_length = headers.get(b"content-length", b"")
        return (
            # A dict holds each header once: with fewer than were sent, one is repeated.
            len(headers) == len(list(scope["headers"]))
            and headers.get(b"content-type", b"").lower() in CONTENT_TYPES
            and headers.get(b"accept", b"") in ACCEPTED_TYPES
            and content_length.isdigit()
            and int(content_length) <= self.max_bytes
            and EXCLUDED_HEADERS.isdisjoint(headers)
            and (not self.key.required or self._has_key(headers))
        )

    def _has_key(self, headers: dict[bytes, bytes]) -> bool:
        names = (b"authorization", b"x-api-key")
        return self.key.matches(*(headers.get(name, b"").decode("latin-1") for name in names))

    def _predict(self, body: bytes, scope: HTTPScope) -> bytes | None:
        """The encoded response for one row; None where the body is anything else, or wrong, or takes long."""
        predictor, state = self.choose(scope), scope["state"]
        if body[:1] != b"{" or predictor.row_seconds >= MAX_INLINE_SECONDS:
            return None
        try:
            rows = predictor.parser.parse_json(body)
            outputs = predictor.outputs(rows)
            predictions = predictor.predictions(rows, outputs)
        except (ProblemError, ValueError, ArithmeticError):
            return None
        self.metrics.count_predictions(predictions)
        self.answers.hand_on(state, predictor, rows, outputs, predictions)
        response: Any = PredictNumbersResponse if predictor.schema.numbers else PredictResponse
        return _encoder.encode(response(state["request_id"], predictor.lineage, predictions))
