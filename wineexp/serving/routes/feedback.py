"""Feedback over HTTP: what was really the case with a row that was predicted before."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import msgspec
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler

from wineexp.monitoring.format import truth_text
from wineexp.serving.http import guards
from wineexp.serving.http.problems import MAX_FAULTS, Fault, ProblemError, key_faults, unprocessable
from wineexp.serving.middleware.recording import REQUEST_ID
from wineexp.serving.model import strict_json
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.model.strict_json import UnrepresentableNumber, describe
from wineexp.serving.prediction_log import PredictionLog
from wineexp.serving.routes.predict import JSON

# Where there is no log, a truth would have nothing to join.
NO_LOG = "this server logs no predictions, so that it takes no feedback; it does with serve.log=FOLDER"

KEYS = ("request_id", "truth", "row")

# More rows than any request may have.
MAX_ROW = 2**31 - 1


class Feedback(msgspec.Struct, frozen=True):
    """The true value of a row that was predicted: of which request, and which of its rows, from 0."""

    request_id: str
    truth: str | float | bool
    row: int = 0


class FeedbackStored(msgspec.Struct, frozen=True):
    """How many truths were stored."""

    stored: int


@post("/feedback", status_code=200)
async def feedback(request: Request[Any, Any, Any], predictor: Predictor, log: PredictionLog) -> FeedbackStored:
    """Store the truth of one row that was predicted, or of many."""
    body = await guards.read_body(request, JSON)
    max_rows, of_numbers = predictor.parser.max_rows, predictor.schema.numbers is not None
    truths = await guards.parse_body(lambda content: parse(content, max_rows, of_numbers=of_numbers), body)
    received = time.time_ns() // 1000
    try:
        await asyncio.to_thread(log.write_truths, [(received, *truth) for truth in truths])
    except OSError as error:
        detail = "the truths cannot be stored at the moment; send them again"
        raise ProblemError(503, detail, headers={"retry-after": "5"}) from error
    return FeedbackStored(len(truths))


@post("/feedback", status_code=200, include_in_schema=False)
async def no_feedback() -> FeedbackStored:
    """Refuse feedback where predictions are not logged."""
    raise ProblemError(404, NO_LOG)


def parse(body: bytes, max_rows: int, *, of_numbers: bool) -> list[tuple[str, int, str]]:
    """Request id, row and true value of each object in a JSON text: one, or an array of them.

    Parameters
    ----------
    body : bytes
    max_rows : int
        How many may be in it.
    of_numbers : bool
        Whether truths are numbers.

    Raises
    ------
    ProblemError
        400: it is no JSON. 422: something in it is wrong; with all faults.
    """
    value = strict_json.read(body)
    truths: list[tuple[str, int, str]] = []
    faults: list[Fault] = []
    n_faults = 0
    objects = value.elements() if value.is_array else iter([value])
    for number, element in enumerate(objects):
        if number >= max_rows:
            raise unprocessable([Fault(f"more than {max_rows} truths; at most so many may be in one request")])
        decoded, pointer = element.decode(), f"/{number}" if value.is_array else ""
        found = [*_faults(decoded, pointer, number, of_numbers=of_numbers)]
        n_faults += len(found)
        faults += found[: MAX_FAULTS - len(faults)]
        if not n_faults:
            truths.append((decoded["request_id"], int(decoded.get("row", 0)), truth_text(decoded["truth"])))
    if faults:
        raise unprocessable(faults, n_faults)
    if not truths:
        raise unprocessable([Fault("no truths; at least one is wanted")])
    return truths


def _faults(value: Any, pointer: str, number: int, *, of_numbers: bool) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield Fault(f"an object with request_id and truth is wanted, got {describe(value)}", pointer, number)
        return
    yield from key_faults(value, pointer, KEYS)
    request_id, truth, row = value.get("request_id"), value.get("truth"), value.get("row", 0.0)
    if not (isinstance(request_id, str) and request_id.isascii() and REQUEST_ID.fullmatch(request_id.encode())):
        message = "the X-Request-ID of a prediction's response is wanted"
        yield Fault(f"request_id: {message}, got {describe(request_id)}", f"{pointer}/request_id", number)
    if not (type(row) is float and 0 <= row <= MAX_ROW and row.is_integer()):
        yield Fault(f"row: which row of the request, from 0, is wanted, got {describe(row)}", f"{pointer}/row", number)
    if message := truth_fault(truth, of_numbers=of_numbers):
        yield Fault(f"truth: {message}, got {describe(truth)}", f"{pointer}/truth", number)


def truth_fault(value: Any, *, of_numbers: bool) -> str:
    """What is wanted instead of a value as a truth; empty where it can be one."""
    if isinstance(value, UnrepresentableNumber) or (isinstance(value, float) and value != value):
        return "a finite number is wanted"
    if of_numbers:
        return "" if isinstance(value, float) else "a number is wanted"
    return "" if isinstance(value, float | bool) or (isinstance(value, str) and value.strip()) else "a class is wanted"


FEEDBACK_HANDLERS: list[HTTPRouteHandler] = [feedback]
NO_FEEDBACK_HANDLERS: list[HTTPRouteHandler] = [no_feedback]
