"""Experiments from data to served model: one composed config is one run.

`compose` and each program can be used without a command line:

>>> from wineexp import compose, train
>>> result = train(compose("model=xgb", "data=cultivar"))  # doctest: +SKIP
>>> result.scores["accuracy"]  # doctest: +SKIP
(0.9722, 0.0289)
"""

import importlib
import os
from typing import Any

__version__ = "0.2.0"

# MLflow and DVC read these when they are imported: no usage is reported, and MLflow logs only what a user can act on.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("DVC_NO_ANALYTICS", "true")

# The Python interface. Imported at first use, since a command line should not wait for what it does not need.
_EXPORTS = {
    "compose": "wineexp.core.in_process",
    "UserError": "wineexp.core.errors",
    "load": "wineexp.tracking.registry",
}

__all__ = ["UserError", "compose", "load"]


def __getattr__(name: str) -> Any:
    """A name of the Python interface (PEP 562)."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'wineexp' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
