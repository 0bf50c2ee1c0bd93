"""Pinned data files: verified against their pins; a missing one is rebuilt or fetched, and written as a whole."""

import hashlib
import logging
import queue
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from wineexp.core import paths
from wineexp.core.addresses import basic_authorization, keep_credentials
from wineexp.core.errors import UserError
from wineexp.data.pin import Pin, display_path

# A source is given up when it stays below MIN_BYTES_PER_SECOND. All sources of a file together may do so for
# STALL_LIMIT_SECONDS, so that without a network a program fails within 15 seconds, the start of Python included.
STALL_LIMIT_SECONDS = 9.0
MIN_BYTES_PER_SECOND = 1024

CHUNK_BYTES = 1 << 16

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
        if fault := _mismatch(pin, content):
            raise UserError(
                f"{pin.name} {fault}; remove the file to have it fetched again, or pin it as it is with "
                f"`dvc add {pin.name}`"
            )
        return content
    failures = []
    for source, content_or_error in _candidates(pin, rebuild):
        if isinstance(content_or_error, Exception):
            failures.append(f"{source}: {' '.join(str(content_or_error).split()) or type(content_or_error).__name__}")
        elif fault := _mismatch(pin, content_or_error):
            failures.append(f"{source}: refused, it {fault}")
        else:
            write(pin.path, content_or_error)
            return content_or_error
    raise UserError(_unavailable(pin, failures))


def _candidates(pin: Pin, rebuild: Callable[[], bytes] | None) -> Iterator[tuple[str, bytes | Exception]]:
    """Name of each source in turn, with its bytes, not yet verified, or the reason why it has none."""
    if rebuild:
        yield "rebuilding it", rebuild()
    sources = [("DVC", _from_dvc), *([(pin.source_url, _from_url)] if pin.source_url else [])]
    seconds_left = STALL_LIMIT_SECONDS
    for n_sources_left, (name, source) in zip(range(len(sources), 0, -1), sources, strict=True):
        stall_limit = seconds_left / n_sources_left
        try:
            yield name, _read_until_stall(partial(source, pin), stall_limit)
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


def fetch(url: str, path: Path, md5: str | None = None) -> bytes:
    """Write what is at an http(s) address to a file that is not there yet, and give its bytes.

    Raises
    ------
    UserError
        Nothing answers, it has another md5 than is given, or the file cannot be written.
    """
    source = partial(_from_url, Pin(path, path, md5="", size=0, source_url=keep_credentials(url)))
    try:
        content = _read_until_stall(source, STALL_LIMIT_SECONDS)
    # urllib has no common base class for what cannot be fetched.
    except Exception as error:
        raise UserError(f"{url} cannot be fetched: {' '.join(str(error).split())}") from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if md5 not in (None, found):
        raise UserError(f"{url}: refused, since the md5 {md5} is wanted, and what lies there has {found}")
    write(path, content)
    return content


def _mismatch(pin: Pin, content: bytes) -> str | None:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if (len(content), md5) == (pin.size, pin.md5):
        return None
    return f"has {len(content)} bytes with md5 {md5}, but {pin.dvc_name} pins {pin.size} with {pin.md5}"


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


def _read_until_stall(source: Callable[[], Iterator[bytes]], seconds: float) -> bytes:
    """All bytes of a source, read in a thread, because name look-ups and DVC's remotes have no timeout of their own.

    Raises
    ------
    TimeoutError
        The source gave fewer than `MIN_BYTES_PER_SECOND` over so many seconds.
    """
    chunks: queue.Queue[bytes | Exception | None] = queue.Queue()

    def read_all() -> None:
        try:
            for chunk in source():
                chunks.put(chunk)
            chunks.put(None)
        except Exception as error:
            chunks.put(error)

    threading.Thread(target=read_all, daemon=True).start()
    content = b""
    size_at_last_check, deadline = 0, time.monotonic() + seconds
    while True:
        try:
            chunk = chunks.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            new_bytes = len(content) - size_at_last_check
            raise TimeoutError(
                f"gave up after {new_bytes} bytes in {seconds:g} s, {MIN_BYTES_PER_SECOND} a second are the least"
                if content
                else f"no answer within {seconds:g} s"
            ) from None
        if isinstance(chunk, Exception):
            raise chunk
        if chunk is None:
            return content
        content += chunk
        if len(content) - size_at_last_check >= MIN_BYTES_PER_SECOND * seconds:
            size_at_last_check, deadline = len(content), time.monotonic() + seconds


def write(path: Path, content: bytes) -> None:
    """Write a file through a temporary one beside it, so that it never exists in part."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
        ) as file:
            part = Path(file.name)
            try:
                file.write(content)
                file.flush()
                part.chmod(0o644)
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UserError(
            f"{display_path(path)} cannot be written: {error.strerror}; make room or give the rights"
        ) from error
