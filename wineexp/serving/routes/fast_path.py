"""The short way to the answer for one row: no framework in between, and nothing decided otherwise.

It is taken by a request that is plain in every respect; any other, and every one that is to be refused, goes the whole
way, so that there is one place where each rule is kept and each fault is told.
"""

import msgspec
from litestar.types import HTTPScope

from wineexp.core.config import Server
from wineexp.serving.http.guards import Key
from wineexp.serving.http.problems import Refused
from wineexp.serving.metrics import Metrics
from wineexp.serving.refresh.follower import AliasFollower
from wineexp.serving.routes import predict
from wineexp.serving.routes.predict import PredictResponse

PATH = "/predict"

# A row is far below.
LONGEST = 16384

CONTENT_TYPES = {b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"}
ACCEPTED = {b"", b"*/*", b"application/json"}

# With one of these a request is not plain.
SPECIAL = {b"content-encoding", b"transfer-encoding", b"origin", b"expect"}

_encoder = msgspec.json.Encoder()


class Shortcut:
    """Answers a plain request for one row.

    Parameters
    ----------
    watch : Watch
    metrics : Metrics
    settings : Server
    key : Key
        That predictions ask for.
    """

    def __init__(self, follower: AliasFollower, metrics: Metrics, settings: Server, key: Key) -> None:
        self.follower = follower
        self.metrics = metrics
        self.longest = min(LONGEST, settings.max_body_bytes)
        self.key = key

    def fits(self, scope: HTTPScope, headers: dict[bytes, bytes]) -> bool:
        """Whether a request's head is plain."""
        if scope["path"] != PATH or scope["method"] != "POST" or len(headers) != len(list(scope["headers"])):
            return False
        length = headers.get(b"content-length", b"")
        return (
            headers.get(b"content-type", b"").lower() in CONTENT_TYPES
            and headers.get(b"accept", b"") in ACCEPTED
            and length.isdigit()
            and int(length) <= self.longest
            and SPECIAL.isdisjoint(headers)
            and (not self.key.asks or self._opens(headers))
        )

    def _opens(self, headers: dict[bytes, bytes]) -> bool:
        given = (headers.get(name, b"").decode("latin-1") for name in (b"authorization", b"x-api-key"))
        return self.key.opens(*given)

    def answer(self, body: bytes, request_id: str) -> bytes | None:
        """The answer to one row; None where it is anything else, or there is something to be told."""
        predictor = self.follower.predictor
        if body[:1] != b"{" or predictor.row_seconds >= predict.INLINE_SECONDS:
            return None
        try:
            answers = predictor.predict(predictor.parser.parse_json(body))
        except (Refused, ValueError, ArithmeticError):
            return None
        self.metrics.count_predictions(answers)
        return _encoder.encode(PredictResponse(request_id, predictor.lineage, answers))
