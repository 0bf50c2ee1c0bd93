"""Messages between serving processes and the challenger's: MessagePack, each with its length before it.

MessagePack keeps every number to the bit, also what is missing (NaN), which JSON cannot.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from wineexp.core.config import Serve

LENGTH_BYTES = 4

Message = TypeVar("Message")


class ShadowStart(msgspec.Struct, frozen=True):
    """What the challenger's process reads from standard input when it starts.

    Attributes
    ----------
    settings : Serve
        Whose alias is the challenger's.
    socket, cache, fallback : str
        See `RefreshPaths`.
    listener : int
        File descriptor of the socket on which it accepts connections.
    """

    settings: Serve
    socket: str
    cache: str
    fallback: str
    listener: int


class ShadowRequest(msgspec.Struct, frozen=True, array_like=True):
    """A request that the champion has answered.

    Attributes
    ----------
    time : float
        When it was answered, in seconds since 1970, UTC.
    request_id : str
    version : int
        Of the champion.
    features : list of str
        Names of the values of each row.
    rows : list of tuple
        As validated.
    """

    time: float
    request_id: str
    version: int
    features: list[str]
    rows: Sequence[tuple[float | str | None, ...]]


class ShadowReply(msgspec.Struct, frozen=True, array_like=True):
    """What became of the rows of some requests.

    Attributes
    ----------
    answered, failed, skipped : int
        Rows that the challenger answered, could not answer, and was not asked, as there is none or it is the champion.
    dropped : int
        Answered rows that the log could not take, of these requests or earlier ones, that no reply has counted yet.
    version : int or None
        Of the challenger.
    why : str or None
        Why it did not answer, or was not logged.
    """

    answered: int
    failed: int
    skipped: int
    dropped: int
    version: int | None
    why: str | None


def encode(message: Any) -> bytes:
    """A message as it is sent."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES) + body


async def read(reader: asyncio.StreamReader, kind: type[Message]) -> Message:
    """The next message of a stream.

    Raises
    ------
    asyncio.IncompleteReadError
        The stream has ended.
    """
    length = int.from_bytes(await reader.readexactly(LENGTH_BYTES))
    return msgspec.msgpack.decode(await reader.readexactly(length), type=kind)
