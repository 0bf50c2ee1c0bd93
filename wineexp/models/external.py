"""Fitting a pipeline on batches of rows: its features on a sample, its trees on all rows."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone, is_regressor
from sklearn.pipeline import Pipeline

from wineexp.core.errors import UserError
from wineexp.models.device import CPU
from wineexp.models.native_categories import is_category
from wineexp.models.weights import Weights

if TYPE_CHECKING:
    from wineexp.core.dask_workers import DaskWorkers
    from wineexp.models import _xgboost

# Features (n_rows, n_features), labels as positions in the classes or numbers (n_rows,), and weights (n_rows,), if any.
Rows = tuple[pd.DataFrame, npt.NDArray[Any], Weights]


def external_faults(model: Any, *, engine: str, early_stopping: bool, device: str, transform: str | None) -> list[str]:
    """Why a model cannot be trained on batches of rows, one sentence each.

    Parameters
    ----------
    model : estimator
    engine : str
        As the data set says it.
    early_stopping : bool
        Whether boosting is to stop by the score on some rows.
    device : str
    transform : str or None
        Of a target of numbers.
    """
    where, remedy = f"data.engine={engine}", "or data.engine=memory with a part of the rows"
    kind = f"{type(model).__module__.partition('.')[0]}.{type(model).__name__}"
    faults = []
    if kind not in ("xgboost.XGBClassifier", "xgboost.XGBRegressor"):
        faults.append(
            f"model: a {type(model).__name__} needs all rows in memory, and {where} avoids that; choose model=xgb, "
            f"{remedy}"
        )
    elif callable(model.objective):
        faults.append(f"model.objective={model.objective}: {where} takes the objectives that XGBoost names")
    if early_stopping:
        faults.append(f"early_stopping.rounds: {where} does not set rows aside; say model.n_estimators, {remedy}")
    if device != CPU:
        faults.append(f"device={device}: {where} trains on the CPU; choose device=cpu, {remedy}")
    if transform is not None:
        faults.append(f"target.transform={transform}: {where} learns the numbers as they are; leave it out, {remedy}")
    return faults


def fit(
    pipeline: Pipeline,
    X: pd.DataFrame,
    y: pd.Series,
    shares: Sequence[Callable[[], Iterator[Rows]]],
    folder: Path,
    workers: "DaskWorkers | None" = None,
) -> Pipeline:
    """A copy of a pipeline, fitted on batches of rows.

    Parameters
    ----------
    pipeline : Pipeline
        Features, and a model of XGBoost in the wrapper of `make_pipeline`.
    X, y : DataFrame of shape (n_sample, n_features), Series of shape (n_sample,)
        The sample of the rows that the features are fitted on: medians, scales, categories.
    shares : sequence of callable
        Each makes the batches of a share of the rows; one, of all rows, where there are no workers.
    folder : Path
        For files of the size of the rows, until the pipeline is fitted.
    workers : DaskWorkers, optional
        Each trains on a share.

    Raises
    ------
    UserError
        The features or XGBoost refuse the data or an argument.
    """
    from wineexp.models import _xgboost

    feature, model = clone(pipeline[0]), clone(pipeline[-1])
    try:
        transformed = feature.fit_transform(X, y)
        translated = model.for_rows_like(transformed)
        makes = [partial(_batches, feature, rows) for rows in shares]
        n_classes = None if is_regressor(model) else len(model.classes)
        dtypes = transformed.dtypes if isinstance(transformed, pd.DataFrame) else None
        if workers is None:
            trained = _xgboost.train(translated, makes[0], n_classes, dtypes, folder)
        else:
            from wineexp.models import spread_training

            trained = spread_training.train(workers, translated, makes, n_classes, dtypes)
    except (ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"fitting failed: {reason} (HYDRA_FULL_ERROR=1 shows where)") from error
    return Pipeline([(pipeline.steps[0][0], feature), (pipeline.steps[-1][0], model.adopt(trained))])


def _batches(feature: Any, rows: Callable[[], Iterator[Rows]]) -> Iterator["_xgboost.Batch"]:
    """Rows as XGBoost takes them."""
    from wineexp.models import _xgboost

    for features, labels, weights in rows():
        if len(labels):
            yield _xgboost.Batch(_single_precision(feature.transform(features)), labels, weights)


def _single_precision(transformed: Any) -> npt.NDArray[np.float32]:
    """Transformed features as numbers: those of XGBoost's own precision, and the codes of categories, -1 if missing."""
    if not isinstance(transformed, pd.DataFrame):
        return np.ascontiguousarray(transformed, dtype=np.float32)
    columns = [transformed[name] for name in transformed]
    numbers = [column.cat.codes if is_category(column.dtype) else column for column in columns]
    return np.column_stack([column.to_numpy(dtype=np.float32) for column in numbers])
