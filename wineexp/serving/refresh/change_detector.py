"""Detects, cheaply and without MLflow, that a registry may have changed."""

import hashlib
import os
import ssl
import time
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import SplitResult, quote, urlencode, urlsplit, urlunsplit

from wineexp.core.addresses import authorization, basic_authorization
from wineexp.core.config import Serve
from wineexp.serving.model import export
from wineexp.tracking.uri import database_path, read_error, reader_address, resolve_uri

# Of MLflow's public REST API.
ALIAS_PATH = "/api/2.0/mlflow/registered-models/alias"

REGISTRY_TIMEOUT_SECONDS = 5.0
MAX_RESPONSE_BYTES = 2**24

# A file that changed within this time may change again without a new modification time.
MTIME_RESOLUTION_NANOSECONDS = 2_000_000_000

# Settings of MLflow's client that a plain HTTP request cannot honour.
UNSUPPORTED_VARIABLES = ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_CLIENT_CERT_PATH")

# Where MLflow's client looks for certificate authorities; the first that is set counts.
CA_VARIABLES = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class Fingerprint(NamedTuple):
    """How a registry looks from outside: while its fingerprint stays the same, nothing has changed.

    Attributes
    ----------
    reachable : bool
    content : str
        Compared, and not interpreted.
    """

    reachable: bool
    content: str = ""


class ChangeDetector:
    """Takes fingerprints of what a registry says about one alias.

    Parameters
    ----------
    settings : Serve
    """

    def __init__(self, settings: Serve) -> None:
        self._serves_export = export.configured_folder(settings) is not None
        self._uri = resolve_uri(settings.tracking.uri or "")
        self._query = {"name": settings.registry.name, "alias": settings.serve.alias}
        self._opener: urllib.request.OpenerDirector | None = None

    def fingerprint(self) -> Fingerprint | None:
        """The registry's fingerprint now; None where only MLflow's client can find out whether it has changed."""
        if self._serves_export:
            return Fingerprint(reachable=True)
        if (database := database_path(self._uri)) is not None:
            return _of_database(database)
        parts = urlsplit(self._uri)
        if parts.scheme in ("http", "https") and not any(map(os.environ.get, UNSUPPORTED_VARIABLES)):
            return self._of_server(parts)
        return None

    def _of_server(self, parts: SplitResult) -> Fingerprint | None:
        path = f"{parts.path.rstrip('/')}{ALIAS_PATH}"
        url = urlunsplit((parts.scheme, parts.netloc, path, urlencode(self._query, quote_via=quote), ""))
        request = urllib.request.Request(url, headers=_authorization(self._uri))  # noqa: S310  http or https
        try:
            if self._opener is None:
                https = urllib.request.HTTPSHandler(context=_ssl_context() if parts.scheme == "https" else None)
                self._opener = urllib.request.build_opener(https, _NoRedirects)
            with self._opener.open(request, timeout=REGISTRY_TIMEOUT_SECONDS) as response:
                return _of_response(200, response.read(MAX_RESPONSE_BYTES))
        except HTTPError as error:
            with error:
                return _of_response(error.code, error.read(MAX_RESPONSE_BYTES))
        except (OSError, HTTPException, ValueError):
            return Fingerprint(reachable=False)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, which could lead a password to another host."""

    def redirect_request(self, *_: Any) -> None:
        """Follow nothing."""


def _of_response(status: int, body: bytes) -> Fingerprint | None:
    """The fingerprint of MLflow's response.

    None of any other response, a login page's say: MLflow's own client may know how to get past it.
    """
    if status >= 500:
        return Fingerprint(reachable=False)
    # An alias that does not exist is an error of MLflow's, and a fingerprint, too.
    expected = b'"model_version"' if status == 200 else b'"error_code"'
    if expected not in body or status in (401, 403):
        return None
    return Fingerprint(reachable=True, content=hashlib.sha256(body).hexdigest())


def _authorization(uri: str) -> dict[str, str]:
    """The Authorization header, with the credentials that MLflow's client would send."""
    variables = os.environ.get
    if (name := variables("MLFLOW_TRACKING_USERNAME")) and (secret := variables("MLFLOW_TRACKING_PASSWORD")):
        return authorization(name, secret)
    if token := variables("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    return basic_authorization(uri)[1]


def _ssl_context() -> ssl.SSLContext:
    """A context that trusts what MLflow's client trusts."""
    context = ssl.create_default_context()
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif authorities := next(filter(None, map(os.environ.get, CA_VARIABLES)), None):
        context.load_verify_locations(**{"capath" if Path(authorities).is_dir() else "cafile": authorities})
    return context


def _of_database(database: Path) -> Fingerprint | None:
    """Modification times and sizes of an SQLite database and of its write-ahead log; None where there is none."""
    try:
        stats = [database.stat()]
        # A reader makes an empty log, which is no change, and removes it at any moment.
        with suppress(FileNotFoundError):
            if (log_stat := Path(f"{database}-wal").stat()).st_size:
                stats.append(log_stat)
    except OSError:
        return None
    if not _can_be_read(database):
        return Fingerprint(reachable=False)
    content = [(stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats]
    now = time.time_ns()
    # The time itself makes the fingerprint of a database that has just changed differ from the next one.
    is_fresh = now - max(stat.st_mtime_ns for stat in stats) < MTIME_RESOLUTION_NANOSECONDS
    return Fingerprint(reachable=True, content=f"{content}{now if is_fresh else ''}")


def _can_be_read(database: Path) -> bool:
    """Whether a database is one, and no other process keeps it locked for `REGISTRY_TIMEOUT_SECONDS`."""
    try:
        return read_error(reader_address(database), REGISTRY_TIMEOUT_SECONDS) is None
    except OSError:
        return False
