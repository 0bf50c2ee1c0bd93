"""Data files that are named by an http(s) address: fetched into data/raw, and pinned beside it."""

import logging
import re
import threading
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

from wineexp.core import paths
from wineexp.core.addresses import keep_credentials, without_credentials
from wineexp.core.errors import UserError
from wineexp.data import pin, pinned_file
from wineexp.data.pin import Pin, display_path

log = logging.getLogger(__name__)

# DVC pins one file at a time.
_pinning = threading.Lock()


def is_address(file: str) -> bool:
    """Whether a data file is named by an address."""
    return file.startswith(("http://", "https://"))


def path_of(address: str) -> Path:
    """Where the file of an address lies once it was fetched.

    Raises
    ------
    UserError
        The address names no file.
    """
    name = Path(unquote(urlsplit(address).path)).name
    if name in ("", ".."):
        raise UserError(f"{address}: the address names no file, as https://example.org/table.csv does")
    return paths.ROOT / "data/raw" / name


def faults(address: str) -> list[str]:
    """Why a file that lies at `path_of` already is not taken for that of an address."""
    url, path = urldefrag(address).url, path_of(address)
    name, dvc_file = display_path(path), path.with_name(f"{path.name}.dvc")
    if not dvc_file.exists():
        unknown = f"{name} is there already, and nothing says that it is from this address; move it elsewhere"
        return [f"{url}: {unknown}, or say {name} where that file is meant"] if path.exists() else []
    pinned = pin.read(dvc_file)
    if pinned.source_url != without_credentials(url):
        known = f"is from {pinned.source_url}" if pinned.source_url else "is pinned, and not as a file of this address"
        return [f"{url}: {name} {known}; move {name} and its pin elsewhere, or say {name} where that file is meant"]
    md5 = _stated_md5(address)
    if md5 not in (None, pinned.md5):
        return [
            f"{url}: the md5 {md5} is wanted, and {pinned.dvc_name} pins {pinned.md5}; correct the one, or remove "
            f"{name} and its pin to have the file fetched anew"
        ]
    return []


def read(address: str) -> Pin:
    """The pin of the file of an address, which is fetched and pinned where it was not yet.

    Parameters
    ----------
    address : str
        It may end in `#md5=` and the md5 of the file.

    Raises
    ------
    UserError
        Another file is at its place, or has another md5 than the address says; nothing answers.
    """
    if found := faults(address):
        raise UserError(*found)
    path, md5 = path_of(address), _stated_md5(address)
    dvc_file = path.with_name(f"{path.name}.dvc")
    if not dvc_file.exists():
        url = keep_credentials(urldefrag(address).url)
        digest = pinned_file.fetch(url, path, md5)
        with _pinning:
            pin.write(path, url)
        log.info("%s is pinned as it was fetched, with the md5 %s, in %s", display_path(path), digest, dvc_file.name)
    return pin.read(dvc_file)


def _stated_md5(address: str) -> str | None:
    fragment = urldefrag(address).fragment
    md5 = re.fullmatch("md5=([0-9a-f]{32})", fragment)
    if fragment and not md5:
        raise UserError(f"{address}: #{fragment} is no md5; write #md5= and 32 hexadecimal digits, or leave it out")
    return md5[1] if md5 else None
