"""Pinned data files: verified against their pins; a missing one is rebuilt or fetched, and written as a whole."""

import hashlib
import logging
import os
import queue
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

from wineexp.core import paths
from wineexp.core.addresses import basic_authorization, keep_credentials
from wineexp.core.errors import UserError
from wineexp.data.pin import Pin, display_path, file_md5

# A source is given up when it stays below MIN_BYTES_PER_SECOND. All sources of a file together may do so for
# STALL_LIMIT_SECONDS, so that without a network a program fails within 15 seconds, the start of Python included.
STALL_LIMIT_SECONDS = 9.0
MIN_BYTES_PER_SECOND = 1024

CHUNK_BYTES = 1 << 16
# Chunks that wait to be written, where the disk is slower than the source.
MAX_WAITING_CHUNKS = 256

_T = TypeVar("_T")

log = logging.getLogger(__name__)


def load(pin: Pin, rebuild: Callable[[], bytes] | None = None) -> bytes:
    """The pinned file's bytes, verified.

    A missing file is written first, from the first of these sources that gives the pinned bytes: `rebuild`, which
    needs no network, the DVC remote that is configured, the pin's source URL.

    Parameters
    ----------
    pin : Pin
    rebuild : callable, optional
        Makes the bytes without a network.

    Raises
    ------
    UserError
        The file has other bytes than the pin says, no source has the pinned ones, or they cannot be written.
    """
    if pin.path.exists():
        try:
            content = pin.path.read_bytes()
        except OSError as error:
            raise UserError(f"{pin.name} cannot be read: {error.strerror}") from error
        if fault := _mismatch(pin, len(content), _md5(content)):
            raise UserError(_changed(pin, fault))
        return content
    failures = []
    rebuilt = [("rebuilding it", rebuild())] if rebuild else []
    for source, content_or_error in chain(rebuilt, _candidates(pin, b"".join)):
        if isinstance(content_or_error, Exception):
            failures.append(_failure(source, content_or_error))
        elif fault := _mismatch(pin, len(content_or_error), _md5(content_or_error)):
            failures.append(f"{source}: refused, it {fault}")
        else:
            write(pin.path, content_or_error)
            return content_or_error
    raise UserError(_unavailable(pin, failures))


def ensure(pin: Pin) -> None:
    """As `load`, of a file that need not fit into memory: it is in place and verified, and not read whole.

    Raises
    ------
    UserError
        As of `load`.
    """
    if pin.path.exists():
        if fault := _mismatch(pin, pin.path.stat().st_size, file_md5(pin.path)):
            raise UserError(_changed(pin, fault))
        return
    failures = []
    for source, part in _candidates(pin, partial(_write_part, pin.path)):
        if isinstance(part, Exception):
            failures.append(_failure(source, part))
        elif fault := _mismatch(pin, part.stat().st_size, file_md5(part)):
            _remove(part)
            failures.append(f"{source}: refused, it {fault}")
        else:
            part.replace(pin.path)
            return
    raise UserError(_unavailable(pin, failures))


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _changed(pin: Pin, fault: str) -> str:
    return f"{pin.name} {fault}; remove the file to have it fetched again, or pin it as it is with `dvc add {pin.name}`"


def _failure(source: str, error: Exception) -> str:
    return f"{source}: {' '.join(str(error).split()) or type(error).__name__}"


def _candidates(pin: Pin, gather: Callable[[Iterator[bytes]], _T]) -> Iterator[tuple[str, _T | Exception]]:
    """Name of each source in turn, with what is gathered of it, not yet verified, or the reason why it has nothing."""
    sources = [("DVC", _from_dvc), *([(pin.source_url, _from_url)] if pin.source_url else [])]
    seconds_left = STALL_LIMIT_SECONDS
    for n_sources_left, (name, source) in zip(range(len(sources), 0, -1), sources, strict=True):
        stall_limit = seconds_left / n_sources_left
        try:
            yield name, gather(_read_until_stall(partial(source, pin), stall_limit))
        except TimeoutError as error:
            seconds_left -= stall_limit
            yield name, error
        # DVC, its plugins and urllib have no common base class for a file that cannot be fetched.
        except Exception as error:
            yield name, error


def _unavailable(pin: Pin, failures: list[str]) -> str:
    return "\n".join(
        [
            f"{pin.name} is missing and could not be had:",
            *(f"  - {failure}" for failure in failures),
            "Three ways to get it:",
            "  1. from a DVC remote: dvc remote add --local -d NAME URL, then run again",
            f"  2. from its source: run again with network access to {pin.source_url or '(the pin names no source)'}",
            f"  3. by hand: put the file at {pin.path} (md5 {pin.md5}, {pin.size} bytes)",
        ]
    )


def fetch(url: str, path: Path, md5: str | None = None) -> str:
    """Write what is at an http(s) address to a file that is not there yet, and give its md5.

    Raises
    ------
    UserError
        Nothing answers, it has another md5 than is given, or the file cannot be written.
    """
    source = partial(_from_url, Pin(path, path, md5="", size=0, source_url=keep_credentials(url)))
    try:
        part = _write_part(path, _read_until_stall(source, STALL_LIMIT_SECONDS))
    except UserError:
        raise
    # urllib has no common base class for what cannot be fetched.
    except Exception as error:
        raise UserError(f"{url} cannot be fetched: {' '.join(str(error).split())}") from error
    found = file_md5(part)
    if md5 not in (None, found):
        _remove(part)
        raise UserError(f"{url}: refused, since the md5 {md5} is wanted, and what lies there has {found}")
    part.replace(path)
    return found


def _mismatch(pin: Pin, size: int, md5: str) -> str | None:
    if (size, md5) == (pin.size, pin.md5):
        return None
    return f"has {size} bytes with md5 {md5}, but {pin.dvc_name} pins {pin.size} with {pin.md5}"


def _from_dvc(pin: Pin) -> Iterator[bytes]:
    # Importing DVC takes half a second, which only a missing file is worth.
    from dvc.api import DVCFileSystem

    filesystem = DVCFileSystem(str(paths.ROOT))
    # DVC itself adds this remote, which stands for the project's cache.
    remotes = ", ".join(name for name in filesystem.repo.config["remote"] if name != "auto-generated-upstream")
    try:
        with filesystem.open(pin.path.relative_to(paths.ROOT).as_posix(), "rb") as file:
            yield from iter(partial(file.read, CHUNK_BYTES), b"")
    except FileNotFoundError as error:
        # DVC raises the same error whether no remote is configured or the remote lacks the file.
        missing = f"md5 {pin.md5} is not in its remote ({remotes})" if remotes else "no remote is configured"
        raise FileNotFoundError(missing) from error


def _from_url(pin: Pin) -> Iterator[bytes]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    url = str(pin.source_url)
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ValueError("a source URL must start with http:// or https://")
    log.info("fetching %s from %s", pin.name, url)
    address, headers = basic_authorization(url)
    request = urllib.request.Request(address)  # noqa: S310  the scheme was checked
    for name, value in headers.items():
        # A redirect may lead to another host, which must not learn the password.
        request.add_unredirected_header(name, value)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with (
        Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress,
        urllib.request.urlopen(request, timeout=2 * STALL_LIMIT_SECONDS) as response,  # noqa: S310  the scheme was checked
    ):
        task = progress.add_task(pin.path.name, total=pin.size or None)
        while chunk := response.read1(CHUNK_BYTES):
            progress.advance(task, len(chunk))
            yield chunk


def _read_until_stall(source: Callable[[], Iterator[bytes]], seconds: float) -> Iterator[bytes]:
    """The bytes of a source, read in a thread, because name look-ups and DVC's remotes have no timeout of their own.

    Raises
    ------
    TimeoutError
        The source gave fewer than `MIN_BYTES_PER_SECOND` over so many seconds.
    """
    chunks: queue.Queue[bytes | Exception | None] = queue.Queue(MAX_WAITING_CHUNKS)

    def read_all() -> None:
        try:
            for chunk in source():
                chunks.put(chunk)
            chunks.put(None)
        except Exception as error:
            chunks.put(error)

    threading.Thread(target=read_all, daemon=True).start()
    size, size_at_last_check, deadline = 0, 0, time.monotonic() + seconds
    while True:
        try:
            chunk = chunks.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            new_bytes = size - size_at_last_check
            raise TimeoutError(
                f"gave up after {new_bytes} bytes in {seconds:g} s, {MIN_BYTES_PER_SECOND} a second are the least"
                if size
                else f"no answer within {seconds:g} s"
            ) from None
        if isinstance(chunk, Exception):
            raise chunk
        if chunk is None:
            return
        size += len(chunk)
        yield chunk
        if size - size_at_last_check >= MIN_BYTES_PER_SECOND * seconds:
            size_at_last_check, deadline = size, time.monotonic() + seconds


def write(path: Path, content: bytes) -> None:
    """Write a file through a temporary one beside it, so that it never exists in part."""
    part = _write_part(path, iter([content]))
    with _writing(path):
        part.replace(path)


def _write_part(path: Path, chunks: Iterator[bytes]) -> Path:
    """Write a temporary file beside a path, which is to become it; nothing is left where the chunks end in an error."""
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            # What a source raises is no error of writing, though both are OSErrors.
            for chunk in chunks:
                with _writing(path):
                    file.write(chunk)
            with _writing(path):
                file.flush()
                part.chmod(0o644)
    except BaseException:
        _remove(part)
        raise
    return part


def _remove(part: Path) -> None:
    """Remove a temporary file, and its folder where nothing else is in it."""
    part.unlink(missing_ok=True)
    with suppress(OSError):
        part.parent.rmdir()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Raise an error that says what cannot be written, and what to do, in place of the system's own."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{display_path(path)} cannot be written: {error.strerror}; make room or give the rights"
        ) from error
