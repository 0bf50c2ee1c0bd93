"""Errors as RFC 9457 has them: one JSON object that says what is wrong, with every fault of the body."""

from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"

# Faults that one answer lists; of a long body that is wrong everywhere the rest is only counted.
MOST_FAULTS = 100

log = structlog.get_logger()

# What Litestar's own exceptions mean here.
TOLD = {
    404: "no such path; GET /schema lists all of them",
    405: "this path takes other methods, the header Allow lists them",
    413: "the body is larger than this server takes",
}


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong with a body.

    Attributes
    ----------
    detail : str
        What is wrong, the value, the rule.
    pointer : str
        Where, as a JSON pointer (RFC 6901).
    row : int or None
        From 0.
    field : str or None
        The feature.
    """

    detail: str
    pointer: str = ""
    row: int | None = None
    field: str | None = None


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every error; those of the Open Inference Protocol have `error` too, which its clients read."""

    title: str
    status: int
    detail: str
    request_id: str = ""
    errors: list[Fault] = []
    error: str = ""


class Refused(HTTPException):
    """A request that is answered with a problem.

    Parameters
    ----------
    status : int
    detail : str
    faults : list of Fault, optional
    headers : dict of str to str, optional
    """

    def __init__(
        self, status: int, detail: str, faults: list[Fault] | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail=detail, status_code=status, headers=headers)
        self.faults = faults or []


def wrong(faults: list[Fault], total: int) -> Refused:
    """The refusal of a body that is well-formed and wrong, with the first of its faults."""
    more = f", the first {len(faults)} of them listed" if total > len(faults) else ""
    return Refused(422, f"{total} {'fault' if total == 1 else 'faults'} in the body{more}", faults)


def keys(value: Mapping[str, Any], pointer: str, known: Collection[str] | None = None) -> list[Fault]:
    """What is wrong with the keys of a parsed object: given more than once; or none of those that are known."""
    repeated = [(name, "is given more than once") for name in getattr(value, "repeated", ())]
    others = [name for name in value if name not in known] if known is not None else []
    unknown = [(name, f"is none of {', '.join(known or ())}") for name in others]
    return [Fault(f"the key {name[:60]!a} {told}", pointer) for name, told in (repeated + unknown)[:MOST_FAULTS]]


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exception handler: any exception becomes a problem, without a trace of the code."""
    request_id = str(request.scope.get("state", {}).get("request_id", ""))
    status, detail, faults, headers = 500, f"the server failed; its log tells more under {request_id}", [], {}
    if isinstance(error, HTTPException) and error.status_code < 500:
        status = error.status_code
        detail, headers = TOLD.get(status, error.detail), dict(error.headers or {})
    if isinstance(error, Refused):
        status, detail, faults = error.status_code, error.detail, error.faults
        headers = dict(error.headers or {})
    if status == 500:
        log.error("failed", request_id=request_id, exc_info=error)
    told = "; ".join([detail, *(fault.detail for fault in faults)]) if request.scope["path"].startswith("/v2/") else ""
    content = encode(status, detail, request_id, faults, told)
    return Response(content, media_type=MEDIA_TYPE, status_code=status, headers=headers)


def encode(status: int, detail: str, request_id: str, faults: list[Fault] | None = None, error: str = "") -> bytes:
    """A problem as JSON."""
    return msgspec.json.encode(Problem(HTTPStatus(status).phrase, status, detail, request_id, faults or [], error))
