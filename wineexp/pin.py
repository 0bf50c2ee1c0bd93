"""Data files named by DVC pins: found, verified against the pin, put in place whole or not at all."""

import hashlib
import logging
import queue
import tempfile
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from wineexp.errors import UserError

ROOT = Path(__file__).resolve().parent.parent

# Seconds without a byte after which a source counts as unreachable. Together with the start of Python they stay
# under 15 s, so that a machine without a network says so while its user still looks at the screen.
DVC_STALL = 5.0
URL_STALL = 7.0

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
    try:
        content = yaml.safe_load(path.read_text())
        (out,) = content["outs"]
        return Pin(
            dvc_file=path,
            path=path.parent / out["path"],
            md5=out["md5"],
            size=int(out["size"]),
            source_url=(content.get("meta") or {}).get("source_url"),
        )
    except FileNotFoundError:
        known = ", ".join(sorted(_short(found) for found in (ROOT / "data").rglob("*.dvc")))
        raise UserError(f"{dvc_file}: there is no such pin; pins under data/: {known or '(none)'}") from None
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"{dvc_file}: not a pin of one file ({error!r}); it needs outs: with one md5, size and path, "
            "as `dvc add` writes it"
        ) from error


def load(pin: Pin, rebuild: Callable[[], bytes] | None = None) -> bytes:
    """The pinned file's bytes, verified; a missing file is first fetched or rebuilt and put in place.

    A file is looked for in its place, then rebuilt where that is possible, then asked of the DVC remote that is
    configured, then of the pin's source URL.

    Parameters
    ----------
    pin : Pin
    rebuild : callable, optional
        Makes the bytes without any network.

    Raises
    ------
    UserError
        The file in place has other bytes than the pin says, or no source could give the pinned ones.
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
    sources: list[tuple[str, Callable[[], Iterator[bytes]], float]] = []
    if rebuild:
        sources.append(("rebuilding it", lambda: iter([rebuild()]), float("inf")))
    else:
        sources.append(("DVC", partial(_from_dvc, pin), DVC_STALL))
        if pin.source_url:
            sources.append((pin.source_url, partial(_from_url, pin), URL_STALL))
    failures = []
    for name, source, stall in sources:
        try:
            content = b"".join(_until_stall(source, stall))
        # DVC, its plugins and urllib share no base class for "could not be had".
        except Exception as error:
            failures.append(f"{name}: {' '.join(str(error).split()) or type(error).__name__}")
            continue
        if fault := _mismatch(pin, content):
            failures.append(f"{name}: refused, it {fault}")
            continue
        _put(pin.path, content)
        return content
    raise UserError(_unavailable(pin, failures))


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
    with filesystem.open(pin.path.relative_to(ROOT).as_posix(), "rb") as file:
        yield from iter(partial(file.read, 1 << 16), b"")


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
        urllib.request.urlopen(url, timeout=URL_STALL) as response,  # noqa: S310  the scheme was checked
    ):
        task = progress.add_task(pin.path.name, total=pin.size)
        while chunk := response.read1(1 << 16):
            progress.advance(task, len(chunk))
            yield chunk


def _until_stall(source: Callable[[], Iterator[bytes]], seconds: float) -> Iterator[bytes]:
    """Chunks of a source, read in a thread of its own: name look-ups and DVC's remotes know no time limit."""
    chunks: queue.Queue[bytes | Exception | None] = queue.Queue()

    def read_all() -> None:
        try:
            for chunk in source():
                chunks.put(chunk)
            chunks.put(None)
        except Exception as error:
            chunks.put(error)

    threading.Thread(target=read_all, daemon=True).start()
    while True:
        try:
            chunk = chunks.get(timeout=None if seconds == float("inf") else seconds)
        except queue.Empty:
            raise TimeoutError(f"no answer within {seconds:g} s") from None
        if isinstance(chunk, Exception):
            raise chunk
        if chunk is None:
            return
        yield chunk


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(content)
    part = Path(file.name)
    part.chmod(0o644)
    part.replace(path)


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
