"""Where a store is that a config names."""

import os
from pathlib import Path

from wineexp.pin import ROOT


def resolved(uri: str) -> str:
    """The URI of a store; `MLFLOW_TRACKING_URI` wins, and a local one is in the project's root."""
    stated = os.environ.get("MLFLOW_TRACKING_URI")
    uri = stated or uri
    if uri.startswith("sqlite:///"):
        # What stands in the environment, MLflow itself would read from the current folder.
        uri = f"sqlite:///{(Path.cwd() if stated else ROOT) / uri.removeprefix('sqlite:///')}"
    return uri
