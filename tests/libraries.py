"""Imports the libraries that commands use; the fork server of tests/preloaded.py imports this before its first fork.

Imports only: a process that has computed with OpenMP must not be forked, since its children may wait for ever.
"""

import gc
import importlib

LIBRARIES = (
    # It looks through all modules that are there when it is imported.
    "skops.io",
    *("alembic.command", "git", "hydra._internal.hydra", "hydra._internal.logging_config", "jinja2", "joblib"),
    *("matplotlib.backends.backend_agg", "matplotlib.figure", "mlflow.data.pandas_dataset", "mlflow.pyfunc"),
    *("mlflow.sklearn", "mlflow.store.model_registry.sqlalchemy_store", "mlflow.store.tracking.sqlalchemy_store"),
    *("optuna", "pyarrow.compute", "rich.progress", "skrub", "sklearn.calibration", "sklearn.dummy"),
    *("sklearn.ensemble", "sklearn.inspection", "sklearn.neural_network", "xgboost"),
)

for library in LIBRARIES:
    importlib.import_module(library)
# The garbage collector of a child would otherwise look through all of it, and thereby copy its memory.
gc.collect()
gc.freeze()
