"""Errors as problem details (RFC 9457): one JSON object that says what is wrong, with every fault of the body."""

from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"

# A response lists so many faults. Of a long body that is wrong everywhere, the others are only counted.
MAX_FAULTS = 100

log = structlog.get_logger()

# Replace the messages of Litestar's own exceptions.
MESSAGES = {
    404: "no such path; GET /schema lists all paths",
    405: "this path does not support the method; the header Allow lists those it does",
    413: "the body is larger than this server accepts",
}


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong with a body.

    Attributes
    ----------
    detail : str
        The value, what is wrong with it, and the rule.
    pointer : str
        Where it is, as a JSON pointer (RFC 6901).
    row : int or None
        Counted from 0.
    field : str or None
        Name of the feature.
    """

    detail: str
    pointer: str = ""
    row: int | None = None
    field: str | None = None


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every error response.

    `error` is only filled for paths of KServe's protocols, whose clients read it.
    """

    title: str
    status: int
    detail: str
    request_id: str = ""
    errors: list[Fault] = []
    error: str = ""


class ProblemError(HTTPException):
    """A request is answered with a problem.

    Parameters
    ----------
    status : int
    detail : str
    faults : list of Fault, optional
    headers : dict of str to str, optional
    n_faults : int, optional
        The number of all faults, where more were found than are listed.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        faults: list[Fault] | None = None,
        headers: dict[str, str] | None = None,
        n_faults: int | None = None,
    ) -> None:
        super().__init__(detail=detail, status_code=status, headers=headers)
        self.faults = faults or []
        self.n_faults = len(self.faults) if n_faults is None else n_faults


def unprocessable(faults: list[Fault], total: int | None = None) -> ProblemError:
    """The error for a body that is well-formed but wrong (422).

    Parameters
    ----------
    faults : list of Fault
        The faults to list.
    total : int, optional
        The number of all faults, where more were found than are listed.
    """
    count = len(faults) if total is None else total
    listed = f", the first {len(faults)} of them listed" if count > len(faults) else ""
    return ProblemError(
        422, f"{count} {'fault' if count == 1 else 'faults'} in the body{listed}", faults, n_faults=count
    )


def key_faults(value: Mapping[str, Any], pointer: str, known: Collection[str] | None = None) -> list[Fault]:
    """The faults of a JSON object's keys: those that are repeated and, with `known`, those that are not in it."""
    repeated = [(name, "is given more than once") for name in getattr(value, "repeated", ())]
    unknown = [(name, f"is none of {', '.join(known)}") for name in value if name not in known] if known else []
    return [Fault(f"the key {name[:60]!a} {message}", pointer) for name, message in (repeated + unknown)[:MAX_FAULTS]]


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Turn any exception into a problem that reveals nothing of the code; Litestar's exception handler."""
    request_id = str(request.scope.get("state", {}).get("request_id", ""))
    status, detail, headers = 500, server_error(request_id), {}
    faults: list[Fault] = []
    if isinstance(error, HTTPException) and error.status_code < 500:
        status = error.status_code
        detail, headers = MESSAGES.get(status, error.detail), dict(error.headers or {})
    if isinstance(error, ProblemError):
        status, detail, faults = error.status_code, error.detail, error.faults
        headers = dict(error.headers or {})
    if status == 500:
        log.error("failed", request_id=request_id, exc_info=error)
    # Its frames hold the body and the error: such a circle stays in memory until the garbage collector runs.
    error.__traceback__ = None
    is_kserve = request.scope["path"].startswith(("/v1/", "/v2/"))
    message = "; ".join([detail, *(fault.detail for fault in faults)]) if is_kserve else ""
    content = encode(status, detail, request_id, faults, message)
    return Response(content, media_type=MEDIA_TYPE, status_code=status, headers=headers)


def server_error(request_id: str) -> str:
    """The detail of a problem with status 500."""
    return f"the server failed; its log has the cause under {request_id}"


def encode(status: int, detail: str, request_id: str, faults: list[Fault] | None = None, error: str = "") -> bytes:
    """Encode a problem as JSON."""
    return msgspec.json.encode(Problem(HTTPStatus(status).phrase, status, detail, request_id, faults or [], error))
