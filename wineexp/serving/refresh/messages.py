"""What servers, their sentry and its examiner say to each other: by sockets in a folder that nobody else may enter."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from wineexp.core.errors import UserError
from wineexp.serving.model.cache import Kept


class Refusal(msgspec.Struct, frozen=True):
    """A version that the alias names and that is not served.

    Attributes
    ----------
    version : int
    why : tuple of str
    when : str
        UTC, ISO 8601.
    final : bool
        Whether it failed a check, so that asking again is of no use.
    """

    version: int
    why: tuple[str, ...]
    when: str
    final: bool


class State(msgspec.Struct, frozen=True):
    """What is known of the alias.

    Attributes
    ----------
    serial : int
        Rises with every change.
    kept : Kept or None
        The version to serve.
    faults : list of str
        Why there is none.
    unreachable : str or None
        Since when, and why, the registry cannot be asked.
    refusal : Refusal or None
        Of the version that the alias names now.
    load_failures, refusals : int
        So far.
    seen : tuple or None
        Identity of the version that was tried last.
    """

    serial: int = 0
    kept: Kept | None = None
    faults: list[str] = []
    unreachable: str | None = None
    refusal: Refusal | None = None
    load_failures: int = 0
    refusals: int = 0
    seen: tuple[int, str, str] | None = None


class Question(msgspec.Struct, frozen=True):
    """What a server asks: to follow the state, to look at the alias now, to explain the answer to a row.

    Attributes
    ----------
    kind : str
        `follow`, `look` or `explain`.
    row : list
        To be explained.
    identity : tuple
        Of the version that is to explain it.
    state : State or None
        What the sentry knows: an examiner that has just started knows nothing.
    """

    kind: str
    row: tuple[float | str, ...] = ()
    identity: tuple[int, str, str] | None = None
    state: State | None = None


class Told(msgspec.Struct, frozen=True):
    """The examiner's answer to what was to be explained.

    Attributes
    ----------
    status : int
        200; 409 where it knows another version; 422, 500 and 503 as over HTTP.
    body : Raw
        Why, and what would change it.
    detail : str
    faults : list of str
    """

    status: int
    body: msgspec.Raw = msgspec.Raw(b"null")
    detail: str = ""
    faults: list[str] = []


@dataclass(frozen=True)
class Link:
    """Where the sentry and the cache are.

    Attributes
    ----------
    socket, cache : Path
    """

    socket: Path
    cache: Path


def line(message: Any) -> bytes:
    """A message as it is sent."""
    return msgspec.json.encode(message) + b"\n"


def answer(listener: socket.socket, reply: Callable[[Question, Callable[[Any], None]], None]) -> NoReturn:
    """Reply to the one question of each connection in a thread; `reply` gets it, and what sends a message."""

    def converse(connection: socket.socket) -> None:
        # Whoever asked may have left, or sent half a question.
        with suppress(OSError, msgspec.MsgspecError), connection, connection.makefile("rb") as asked:
            reply(msgspec.json.decode(asked.readline(), type=Question), lambda told: connection.sendall(line(told)))

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=converse, args=(connection,), daemon=True).start()


def reason(error: Exception) -> tuple[str, ...]:
    """Why something failed, in words for whoever runs the server."""
    if isinstance(error, UserError):
        return error.faults
    return (f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}",)


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
