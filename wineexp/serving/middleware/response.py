"""Responses that middleware sends without the application."""

from litestar.types import Scope, Send

from wineexp.serving.http import problems

RETRY_AFTER_SECONDS = 1


async def send_problem(scope: Scope, send: Send, status: int, detail: str) -> None:
    """Send a problem; one with status 503 says when to retry."""
    body = problems.encode(status, detail, scope["state"]["request_id"])
    headers = [(b"content-type", problems.MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body))]
    if status == 503:
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_SECONDS))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
