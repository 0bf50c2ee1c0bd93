"""Data files named by DVC pins: found, verified against the pin, put in place whole or not at all."""

import hashlib
import logging
import queue
import re
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from wineexp.core.errors import UserError
from wineexp.core.paths import PINS, ROOT

# Seconds for all of a file's sources together, in which they may stay below SLOWEST bytes a second. With the start of
# Python they stay under 15 s, so that a machine without a network says so while its user still looks at the screen.
PATIENCE = 9.0
SLOWEST = 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pin:
    """What a `.dvc` file says of one data file: where it belongs, its exact bytes, where they come from."""

    dvc_file: Path
    path: Path
    md5: str
    size: int
    source_url: str | None

    @property
    def name(self) -> str:
        """The data file's path as a user would type it, relative to the project where it is inside."""
        return _short(self.path)

    @property
    def dvc_name(self) -> str:
        """The pin's own path, likewise."""
        return _short(self.dvc_file)


def read(dvc_file: str | Path) -> Pin:
    """Read a pin.

    Parameters
    ----------
    dvc_file : str or Path
        A `.dvc` file with one output, its md5 and size; a relative path starts at the project's root.

    Raises
    ------
    UserError
        The file is missing or is not a pin of one file.
    """
    path = ROOT / dvc_file
    folder = path.parent
    if not path.exists() and (PINS / path.name).is_file():
        # Of an installed wineexp; the data file belongs into the user's own project all the same.
        path = PINS / path.name
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        known = ", ".join(sorted(_short(found) for found in (ROOT / "data").rglob("*.dvc")))
        raise UserError(f"{dvc_file}: there is no such pin; pins under data/: {known or '(none)'}") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{dvc_file}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    match content:
        case {"outs": [{"md5": str(md5), "size": int(size), "path": str(name)}]} if re.fullmatch("[0-9a-f]{32}", md5):
            match content.get("meta"):
                case {"source_url": str(source_url)}:
                    return Pin(path, folder / name, md5, size, source_url)
            return Pin(path, folder / name, md5, size, source_url=None)
    raise UserError(
        f"{dvc_file}: not a pin of one file: it holds {content!r}, but must hold outs: with one md5 of 32 hexadecimal "
        "digits, one size in bytes and one path, as `dvc add` writes it"
    )


def load(pin: Pin, rebuild: Callable[[], bytes] | None = None) -> bytes:
    """The pinned file's bytes, verified; a missing file is first fetched or rebuilt and put in place.

    A file is looked for in its place, then rebuilt where that is possible, since that needs no network, then asked of
    the DVC remote that is configured, then of the pin's source URL.

    Parameters
    ----------
    pin : Pin
    rebuild : callable, optional
        Makes the bytes without any network.

    Raises
    ------
    UserError
        The file in place has other bytes than the pin says, or no source could give the pinned ones, or they cannot be
        written.
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
    for source, offer in _offers(pin, rebuild):
        if isinstance(offer, Exception):
            failures.append(f"{source}: {' '.join(str(offer).split()) or type(offer).__name__}")
        elif fault := _mismatch(pin, offer):
            failures.append(f"{source}: refused, it {fault}")
        else:
            _put(pin.path, offer)
            return offer
    raise UserError(_unavailable(pin, failures))


def _offers(pin: Pin, rebuild: Callable[[], bytes] | None) -> Iterator[tuple[str, bytes | Exception]]:
    """What each source gives, one after the other: bytes that nobody has verified yet, or why there are none."""
    if rebuild:
        yield "rebuilding it", rebuild()
    sources = [("DVC", _from_dvc), *([(pin.source_url, _from_url)] if pin.source_url else [])]
    patience = PATIENCE
    for waiting, (name, source) in zip(range(len(sources), 0, -1), sources, strict=True):
        share = patience / waiting
        try:
            yield name, _until_stall(partial(source, pin), share)
        except TimeoutError as error:
            patience -= share
            yield name, error
        # DVC, its plugins and urllib share no base class for "could not be had".
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


def _mismatch(pin: Pin, content: bytes) -> str | None:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if (len(content), md5) == (pin.size, pin.md5):
        return None
    return f"has {len(content)} bytes with md5 {md5}, but {_short(pin.dvc_file)} pins {pin.size} with {pin.md5}"


def _from_dvc(pin: Pin) -> Iterator[bytes]:
    # Half a second to import, so only when there is something to pull.
    from dvc.api import DVCFileSystem

    filesystem = DVCFileSystem(str(ROOT))
    # DVC adds one of its own making, the project's cache.
    remotes = ", ".join(name for name in filesystem.repo.config["remote"] if name != "auto-generated-upstream")
    try:
        with filesystem.open(pin.path.relative_to(ROOT).as_posix(), "rb") as file:
            yield from iter(partial(file.read, 1 << 16), b"")
    except FileNotFoundError as error:
        # DVC says the same whether there is nowhere to look or nothing to find.
        missing = f"md5 {pin.md5} is not in its remote ({remotes})" if remotes else "no remote is configured"
        raise FileNotFoundError(missing) from error


def _from_url(pin: Pin) -> Iterator[bytes]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    url = str(pin.source_url)
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ValueError("a source URL must start with http:// or https://")
    log.info("fetching %s from %s", pin.name, url)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with (
        Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress,
        urllib.request.urlopen(url, timeout=2 * PATIENCE) as response,  # noqa: S310  the scheme was checked
    ):
        task = progress.add_task(pin.path.name, total=pin.size)
        while chunk := response.read1(1 << 16):
            progress.advance(task, len(chunk))
            yield chunk


def _until_stall(source: Callable[[], Iterator[bytes]], seconds: float) -> bytes:
    """All bytes of a source, read in a thread of its own: name look-ups and DVC's remotes know no time limit."""
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
    counted, deadline = 0, time.monotonic() + seconds
    while True:
        try:
            chunk = chunks.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            raise TimeoutError(
                f"gave up after {len(content) - counted} bytes in {seconds:g} s, {SLOWEST} a second are the least"
                if content
                else f"no answer within {seconds:g} s"
            ) from None
        if isinstance(chunk, Exception):
            raise chunk
        if chunk is None:
            return content
        content += chunk
        if len(content) - counted >= SLOWEST * seconds:
            counted, deadline = len(content), time.monotonic() + seconds


def _put(path: Path, content: bytes) -> None:
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
        raise UserError(f"{_short(path)} cannot be written: {error.strerror}; make room or give the rights") from error


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
