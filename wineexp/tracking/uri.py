"""The URI of the store that a config names."""

import os
from pathlib import Path

from wineexp.core.addresses import keep_credentials
from wineexp.core.paths import ROOT

# MLflow's own, which a user sets to record elsewhere than the config says.
URI_VARIABLE = "MLFLOW_TRACKING_URI"


def database_path(uri: str) -> Path | None:
    """The file of a SQLite database's URI, which may end with options (`?timeout=30`); None for another store."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def resolve_uri(uri: str) -> str:
    """The URI of a store; `MLFLOW_TRACKING_URI` wins, and a local store lies in the project's root.

    Credentials are cut from it: `with_credentials` gives them back.
    """
    stated = os.environ.get(URI_VARIABLE)
    uri = keep_credentials(stated or uri)
    if uri.startswith("sqlite:///"):
        # MLflow reads a relative path in its variable from the current folder. DVC runs a queued experiment in a copy
        # of the project that it deletes afterwards, and names the project's own folder in DVC_ROOT.
        root = os.environ.get("DVC_ROOT", ROOT)
        uri = f"sqlite:///{(Path.cwd() if stated else Path(root)) / uri.removeprefix('sqlite:///')}"
    return uri
