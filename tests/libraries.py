"""Imports the libraries that commands use; the fork server of tests/preloaded.py imports this before its first fork.

Imports only: a process that has computed with OpenMP must not be forked, since its children may wait for ever.
"""

import importlib

from tests.preloaded import spare_garbage_collector

LIBRARIES = (
    # It looks through all modules that are there when it is imported.
    "skops.io",
    *("alembic.command", "antlr4.LL1Analyzer", "git", "jinja2", "joblib", "msgspec", "narwhals._pandas_like.dataframe"),
    *("hydra._internal.core_plugins.basic_launcher", "hydra._internal.core_plugins.basic_sweeper"),
    *("hydra._internal.core_plugins.file_config_source", "hydra._internal.core_plugins.structured_config_source"),
    *("hydra._internal.core_plugins.importlib_resources_config_source", "hydra._internal.hydra"),
    *("hydra._internal.logging_config", "hydra.experimental.callback"),
    *("hydra_plugins.hydra_joblib_launcher.joblib_launcher", "matplotlib.backends.backend_agg"),
    *("matplotlib.backends.backend_svg", "matplotlib.figure", "mlflow.data.pandas_dataset"),
    *("mlflow.models.display_utils", "mlflow.pyfunc", "mlflow.sklearn"),
    *("mlflow.store.model_registry.sqlalchemy_workspace_store", "mlflow.store.tracking.sqlalchemy_workspace_store"),
    *("mlflow.tracing.processor.otel", "opentelemetry.sdk.metrics", "optuna", "pandas.core.methods.to_dict"),
    *("pandas.io.formats.csvs", "PIL.BmpImagePlugin", "PIL.GifImagePlugin", "PIL.JpegImagePlugin"),
    *("PIL.PpmImagePlugin", "pyarrow.compute", "pyarrow.pandas_compat", "pyarrow.parquet", "rich.progress"),
    *("rich.traceback", "skrub", "sklearn.calibration", "sklearn.dummy", "sklearn.ensemble", "sklearn.inspection"),
    *("sklearn.neural_network", "sqlalchemy.dialects.sqlite", "structlog", "typeguard", "xgboost"),
)

for library in LIBRARIES:
    importlib.import_module(library)

spare_garbage_collector()
