"""A light look at a registry: it tells that something may have changed, never what, and needs no MLflow for that."""

import base64
import hashlib
import os
import ssl
import time
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit

from wineexp.core.config import Serve
from wineexp.serving.model import export
from wineexp.tracking.uri import resolve_uri

# MLflow's public REST API.
ALIAS = "/api/2.0/mlflow/registered-models/alias"

# Seconds that a registry may take to answer, and bytes that its answer may have.
PATIENCE = 5.0
LONGEST = 2**24

# Nanoseconds in which a file can change again without a new date.
COARSE = 2_000_000_000

# What MLflow's own client may have been told of, and a plain request cannot do.
BEYOND = ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_CLIENT_CERT_PATH")

# Where MLflow's client looks for those that it trusts, the first that is set.
TRUSTED = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class Hint(NamedTuple):
    """How a registry looks from afar: as long as that is the same, nothing has changed.

    Attributes
    ----------
    reached : bool
    told : str
    """

    reached: bool
    told: str = ""


class Hints:
    """Gives hints on one alias.

    Parameters
    ----------
    settings : Serve
    """

    def __init__(self, settings: Serve) -> None:
        self._fixed = export.chosen(settings) is not None
        self._uri = resolve_uri(settings.tracking.uri or "")
        self._wanted = {"name": settings.registry.name, "alias": settings.serve.alias}
        self._opener: urllib.request.OpenerDirector | None = None

    def now(self) -> Hint | None:
        """The hint of this moment; None where a registry must be asked properly to know anything."""
        if self._fixed:
            return Hint(True)
        if self._uri.startswith("sqlite:///"):
            return _dates(Path(self._uri.removeprefix("sqlite:///")))
        if urlsplit(self._uri).scheme in ("http", "https") and not any(map(os.environ.get, BEYOND)):
            return self._asked()
        return None

    def _asked(self) -> Hint | None:
        parts = urlsplit(self._uri)
        path = f"{parts.path.rstrip('/')}{ALIAS}"
        bare = urlunsplit(
            (parts.scheme, parts.netloc.rpartition("@")[2], path, urlencode(self._wanted, quote_via=quote), "")
        )
        request = urllib.request.Request(bare, headers=_key(parts.username, parts.password))  # noqa: S310  http or https
        try:
            if self._opener is None:
                trust = urllib.request.HTTPSHandler(context=_trust() if parts.scheme == "https" else None)
                self._opener = urllib.request.build_opener(trust, _Straight)
            with self._opener.open(request, timeout=PATIENCE) as response:
                return _read(200, response.read(LONGEST))
        except HTTPError as error:
            with error:
                return _read(error.code, error.read(LONGEST))
        except (OSError, HTTPException, ValueError):
            return Hint(False)


class _Straight(urllib.request.HTTPRedirectHandler):
    """Takes a key nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        """Follow nothing."""


def _read(status: int, told: bytes) -> Hint | None:
    """What an answer of MLflow's tells; None of anybody else's, to whom MLflow's own client may know a way around."""
    if status >= 500:
        return Hint(False)
    # In case of an error, that there is no such alias, say.
    if (b'"model_version"' if status == 200 else b'"error_code"') not in told or status in (401, 403):
        return None
    return Hint(True, hashlib.sha256(told).hexdigest())


def _key(username: str | None, password: str | None) -> dict[str, str]:
    """The header that opens the registry, from where MLflow's client takes it."""
    given = os.environ.get
    if (name := given("MLFLOW_TRACKING_USERNAME")) and (secret := given("MLFLOW_TRACKING_PASSWORD")):
        pair = f"{name}:{secret}"
    elif token := given("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    elif username:
        pair = f"{unquote(username)}:{unquote(password or '')}"
    else:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _trust() -> ssl.SSLContext:
    """Whom to trust; of what does not fit, the examiner tells."""
    context = ssl.create_default_context()
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif place := next(filter(None, map(os.environ.get, TRUSTED)), None):
        context.load_verify_locations(**{"capath" if Path(place).is_dir() else "cafile": place})
    return context


def _dates(database: Path) -> Hint | None:
    """Dates and sizes of a database and of its log of what is yet to be written into it."""
    try:
        seen = [database.stat()]
        with_log = Path(f"{database}-wal")
        # One without content is made by whoever reads.
        if with_log.exists() and (log := with_log.stat()).st_size:
            seen.append(log)
    except OSError:
        return None
    told = [(each.st_ino, each.st_size, each.st_mtime_ns) for each in seen]
    now = time.time_ns()
    # A change right after the last one would have its date.
    fresh = now - max(each.st_mtime_ns for each in seen) < COARSE
    return Hint(True, f"{told}{now if fresh else ''}")
