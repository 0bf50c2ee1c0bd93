"""Experiments on wine, from data to served model: one composed config is one run."""

import os

__version__ = "0.2.0"

# Here, because MLflow and DVC read them when they are imported, by whomever: nothing is reported to anyone, and MLflow
# says only what a user can act on.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("DVC_NO_ANALYTICS", "true")
