"""Messages between servers, their refresh monitor and its refresh process, over Unix sockets.

The sockets are in a folder that no other user may enter. A message is one line of JSON; a connection has one request.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from wineexp.core.addresses import without_credentials
from wineexp.core.config import Serve
from wineexp.core.errors import UserError
from wineexp.serving.model.cache import CachedVersion

# The event of the log where a cache cannot be written: what is served is kept elsewhere, until the server ends.
CACHE_NOT_USABLE = "cache not usable, so that a restart needs the registry"

# Connections that may wait to be accepted.
BACKLOG = 128


class Refusal(msgspec.Struct, frozen=True):
    """A version that the alias names and that is not served.

    Attributes
    ----------
    version : int
        0 where the alias names none.
    why : tuple of str
    when : str
        UTC, ISO 8601.
    final : bool
        Whether it failed a check, so that another attempt is of no use.
    """

    version: int
    why: tuple[str, ...]
    when: str
    final: bool


class AliasState(msgspec.Struct, frozen=True):
    """What is known about the alias.

    Attributes
    ----------
    serial : int
        Increases with every change; 0 before the registry was asked for the first time.
    version : CachedVersion or None
        The version to serve.
    faults : list of str
        Why there is none.
    unreachable : str or None
        Since when, and why, the registry cannot be reached.
    refusal : Refusal or None
        Of the version that the alias names now.
    load_failures, refusals : int
        Counted since the server started.
    last_tried : tuple or None
        Identity of the version that was tried last.
    """

    serial: int = 0
    version: CachedVersion | None = None
    faults: list[str] = []
    unreachable: str | None = None
    refusal: Refusal | None = None
    load_failures: int = 0
    refusals: int = 0
    last_tried: tuple[int, str, str] | None = None


class RefreshRequest(msgspec.Struct, frozen=True):
    """A request to the refresh monitor or to its refresh process.

    Attributes
    ----------
    kind : str
        `follow`: send every new state of the alias; `check`: ask the registry now; `explain`: explain a prediction;
        `prepare`: be ready to do so.
    row : tuple
        The row to explain.
    identity : tuple
        Of the version whose predictions are to be explained.
    state : AliasState or None
        What the monitor knows, for a refresh process that has just started.
    """

    kind: str
    row: tuple[float | str | None, ...] = ()
    identity: tuple[int, str, str] | None = None
    state: AliasState | None = None


class ExplanationReply(msgspec.Struct, frozen=True):
    """The reply to a request for an explanation.

    Attributes
    ----------
    status : int
        200; 409 where another version is loaded; 422, 500 and 503 as over HTTP.
    body : Raw
        The JSON of an `Explanation`.
    detail : str
    faults : list of str
    """

    status: int
    body: msgspec.Raw = msgspec.Raw(b"null")
    detail: str = ""
    faults: list[str] = []


class Attribution(msgspec.Struct, frozen=True, kw_only=True):
    """How far each feature moved a prediction from its mean over background rows.

    Of classes it is the probability of the predicted one that was moved, of numbers the predicted number.

    These are interventional Shapley values, of every model: a feature that is not taken into account has the value of a
    background row.

    Attributes
    ----------
    label : str, optional
        The predicted class; left out where a number is predicted.
    unit : str
        Of the figures: `probability`, or the unit of the predicted number, where it is not known the target's column.
    base_value, output_value : float
        The mean prediction of the background rows, and that of this row; `base_value` and all `contributions` add up
        to `output_value`.
    contributions : dict of str to float
        By feature, the largest first.
    exact : bool
        Whether they are exact for this background; else they are estimated by sampling.
    standard_errors : dict of str to float, or None
        Of the contributions, where they are estimated.
    background_rows : int
        Training rows that stand for all of them.
    """

    label: str | msgspec.UnsetType = msgspec.field(name="class", default=msgspec.UNSET)
    unit: str
    base_value: float
    output_value: float
    contributions: dict[str, float]
    exact: bool
    standard_errors: dict[str, float] | None
    background_rows: int


class Counterfactual(msgspec.Struct, frozen=True):
    """The smallest change of a row that flips the class, verified by predicting the changed row.

    Attributes
    ----------
    values : dict of str to float or str
        Of the one or two features that change.
    distance : float
        Summed over them, each in units of its interquartile range in training.
    label : str
        The class that the changed row gets, with its probability.
    """

    values: dict[str, float | str]
    distance: float
    label: str = msgspec.field(name="class")
    probability: float


class Alternative(msgspec.Struct, frozen=True):
    """Another value of a feature, and the number that is predicted with it."""

    value: float | str
    prediction: float


class SingleChange(msgspec.Struct, frozen=True):
    """How far a feature alone moves a predicted number within its training range: `lowest` and `highest`."""

    feature: str
    lowest: Alternative
    highest: Alternative


class Explanation(msgspec.Struct, frozen=True):
    """An explanation.

    Attributes
    ----------
    attribution : Attribution
    counterfactual : Counterfactual or None
        None where nothing within the training range flips the class, and where a number is predicted.
    changes : list of SingleChange, optional
        Of a predicted number, for each feature that matters, the widest first; left out where a class is predicted.
    """

    attribution: Attribution
    counterfactual: Counterfactual | None
    changes: list[SingleChange] | msgspec.UnsetType = msgspec.UNSET


class WorkerStart(msgspec.Struct, frozen=True):
    """What the refresh process reads from standard input when it starts.

    Attributes
    ----------
    settings : Serve
    cache, fallback : str
        The folder of the cache, and the one to use instead where that cannot be written.
    listener : int
        File descriptor of the socket on which it accepts requests.
    """

    settings: Serve
    cache: str
    fallback: str
    listener: int


@dataclass(frozen=True)
class RefreshPaths:
    """What the processes of a server need to know of each other.

    Attributes
    ----------
    socket : Path
        Of the refresh monitor.
    cache : Path
        The folder of verified versions.
    fallback : Path
        The one to use instead where that cannot be written; it lasts as long as the server.
    """

    socket: Path
    cache: Path
    fallback: Path


def encode_line(message: Any) -> bytes:
    """A message as it is sent."""
    return msgspec.json.encode(message) + b"\n"


def listen(path: Path) -> socket.socket:
    """A socket that accepts connections at a path."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(BACKLOG)
    return listener


def serve_requests(
    listener: socket.socket, handle: Callable[[RefreshRequest, Callable[[Any], None]], None]
) -> NoReturn:
    """Accept connections for ever, each in a thread; `handle` gets the request and a function that sends a message."""

    def converse(connection: socket.socket) -> None:
        # The client may have left, or sent half a request.
        with suppress(OSError, msgspec.MsgspecError), connection, connection.makefile("rb") as stream:
            request = msgspec.json.decode(stream.readline(), type=RefreshRequest)
            handle(request, lambda message: connection.sendall(encode_line(message)))

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=converse, args=(connection,), daemon=True).start()


def describe_error(error: Exception) -> tuple[str, ...]:
    """Why something failed, in sentences for the operator of the server."""
    if isinstance(error, UserError):
        return error.faults
    return (without_credentials(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"),)


def utc_now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
