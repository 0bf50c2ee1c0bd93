"""A journal: rows of the log as lines of JSON, appended by one process, until `segments` makes a Parquet file of them.

A server needs neither pandas nor pyarrow for it. The system keeps what was written when the process is killed; a line
that was cut off is left out by who reads it. While a process writes a journal it holds a lock on it, which the system
takes away when the process ends, however it ends.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import msgspec

from wineexp.monitoring.format import Layout

# pandas and pyarrow leave out folders with such a name when they read the folder above.
FOLDER = "_open"
SUFFIX, NEW_SUFFIX = ".jsonl", ".new"

_encoder = msgspec.json.Encoder()


def encode(line: Layout | Sequence[Any]) -> bytes:
    """A layout, or a row with its values in the layout's order, as a line of a journal without its end."""
    return _encoder.encode(line)


class Journal:
    """A new journal in a log's folder.

    Parameters
    ----------
    folder : Path
        The log's.
    layout : Layout
        Of its rows.

    Attributes
    ----------
    path : Path
    size : int
        Bytes that are in it.
    opened_at : float
        Of `time.monotonic`.
    """

    def __init__(self, folder: Path, layout: Layout) -> None:
        where = folder / FOLDER
        where.mkdir(parents=True, exist_ok=True)
        # Sixteen digits of microseconds: names are in order of time until the year 2286.
        name = f"{time.time_ns() // 1000:016d}-{os.urandom(6).hex()}"
        new, self.path = where / f"{name}{NEW_SUFFIX}", where / f"{name}{SUFFIX}"
        self._file = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o666)
        self.size, self.opened_at = 0, time.monotonic()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._append(encode(layout) + b"\n")
            # From here on others see it, and that it is locked.
            new.rename(self.path)
        except OSError:
            with suppress(OSError):
                new.unlink()
            os.close(self._file)
            raise

    def append(self, rows: Sequence[bytes]) -> None:
        """Write encoded rows: all of them, or none.

        Raises
        ------
        OSError
            The disk is full, say.
        """
        self._append(b"\n".join([*rows, b""]))

    def close(self) -> None:
        """Leave it to be made a segment."""
        os.close(self._file)

    def _append(self, lines: bytes) -> None:
        written = 0
        try:
            while written < len(lines):
                written += os.write(self._file, lines[written:] if written else lines)
        except OSError:
            # A full disk takes a part.
            with suppress(OSError):
                os.ftruncate(self._file, self.size)
            raise
        self.size += len(lines)


class Closed:
    """A journal that no process writes any more, locked until it is released; see `closed`."""

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


def closed(folder: Path) -> Iterator[Closed]:
    """The journals of a log's folder that no process writes any more; each is locked for the caller alone."""
    for path in sorted((folder / FOLDER).glob("*")):
        try:
            file = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            continue
        if os.fstat(file).st_nlink == 0:
            # Another process has just made a segment of it.
            os.close(file)
        elif path.suffix == NEW_SUFFIX:
            # Its process was killed, or is about to lock it: a moment is enough for that.
            if time.time() - os.fstat(file).st_mtime > 60:
                path.unlink(missing_ok=True)
            os.close(file)
        else:
            yield Closed(path, file)


def names(folder: Path) -> list[Path]:
    """The journals of a log's folder, the oldest first."""
    return sorted((folder / FOLDER).glob(f"*{SUFFIX}"))


def read(path: Path) -> tuple[Layout, list[tuple[Any, ...]]]:
    """The layout and the rows of a journal, which may be written meanwhile.

    Raises
    ------
    FileNotFoundError
        It has become a segment.
    """
    head, _, body = path.read_bytes().partition(b"\n")
    layout = msgspec.json.decode(head, type=Layout)
    # The end of a line that is being written, or was cut off when its process was killed.
    body = body[: body.rfind(b"\n") + 1]
    kinds = {"time": int, "integer": int, "number": float | None, "text": str | None}
    decoder: msgspec.json.Decoder[tuple[Any, ...]] = msgspec.json.Decoder(
        tuple[tuple(kinds[kind] for _, kind in layout.columns)]  # type: ignore[misc]
    )
    try:
        return layout, decoder.decode_lines(body)
    except msgspec.MsgspecError:
        # A machine that lost its power may have left a damaged part.
        rows = []
        for line in body.splitlines():
            with suppress(msgspec.MsgspecError):
                rows.append(decoder.decode(line))
        return layout, rows
