"""XGBoost's training on batches, and what becomes of its booster as a model of scikit-learn's kind."""

import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import xgboost

from wineexp.core.memory import release_unused
from wineexp.core.progress_lines import ProgressLines
from wineexp.models.native_categories import is_category
from wineexp.models.weights import Weights


class Batch(NamedTuple):
    """Features (n_rows, n_features), labels from 0 or numbers (n_rows,), and weights (n_rows,), if any."""

    X: npt.NDArray[np.float32]
    y: npt.NDArray[Any]
    weights: Weights


class Batches(xgboost.DataIter):
    """Batches for XGBoost, which goes through them several times; after the first time they are read from a file.

    Parameters
    ----------
    make : callable
        Makes them.
    folder : Path
        For that file, and for XGBoost's own.
    dtypes : Series of shape (n_features,), or None
        The types of the columns, by their names, where XGBoost takes a frame; categories come as their codes.
    """

    def __init__(self, make: Callable[[], Iterator[Batch]], folder: Path, dtypes: pd.Series | None) -> None:
        super().__init__(cache_prefix=str(folder / "pages"))
        self._make = make
        self._path = folder / "batches"
        self._dtypes = dtypes
        self._n_batches: int | None = None
        self._has_weights = False
        self._open()

    def _open(self) -> None:
        self._number = 0
        self._made = self._make() if self._n_batches is None else iter(())
        self._file: BinaryIO = self._path.open("wb" if self._n_batches is None else "rb")

    def next(self, input_data: Callable[..., Any]) -> bool:
        """Hand XGBoost the next batch; gives whether there was one."""
        batch = self._first_time() if self._n_batches is None else self._again()
        if batch is None:
            self._n_batches = self._number
            self._file.close()
            release_unused()
            return False
        self._number += 1
        weights = {} if batch.weights is None else {"weight": batch.weights}
        input_data(data=_framed(batch.X, self._dtypes), label=batch.y, **weights)
        return True

    def _first_time(self) -> Batch | None:
        for batch in self._made:
            if len(batch.y):
                self._has_weights = batch.weights is not None
                for part in batch if self._has_weights else batch[:2]:
                    np.save(self._file, np.asarray(part))
                return batch
        return None

    def _again(self) -> Batch | None:
        if self._number == self._n_batches:
            return None
        X, y = np.load(self._file), np.load(self._file)
        return Batch(X, y, np.load(self._file) if self._has_weights else None)

    def reset(self) -> None:
        """Begin again."""
        self._file.close()
        self._open()


class RoundLines(xgboost.callback.TrainingCallback):
    """Says in the log how many of the rounds of a long training are done."""

    def __init__(self, n_rounds: int) -> None:
        self._lines = ProgressLines(f"boosting, {n_rounds:,} rounds", n_rounds)

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Write a line, if it is time for one, and go on."""
        self._lines.show(epoch + 1)
        return False


def _framed(X: npt.NDArray[np.float32], dtypes: pd.Series | None) -> Any:
    """Numbers (n_rows, n_features) as the frame that they were, if they were one."""
    if dtypes is None:
        return X
    columns = {
        name: pd.Categorical.from_codes(X[:, number].astype(np.intp), dtype=kind) if is_category(kind) else X[:, number]
        for number, (name, kind) in enumerate(dtypes.items())
    }
    return pd.DataFrame(columns)


def train(
    model: Any,
    make: Callable[[], Iterator[Batch]],
    n_classes: int | None,
    dtypes: pd.Series | None,
    folder: Path,
    callbacks: Sequence[xgboost.callback.TrainingCallback] = (),
) -> Any:
    """A copy of an XGBClassifier or XGBRegressor, trained on batches that are never all in memory.

    Parameters
    ----------
    model : XGBClassifier or XGBRegressor
    make : callable
        Makes the batches.
    n_classes : int or None
        None for numbers.
    dtypes : Series or None
        As of `Batches`.
    folder : Path
        For files of the size of the batches; nothing is left in it.
    callbacks : sequence of TrainingCallback, optional

    Raises
    ------
    ValueError
        XGBoost refuses an argument or the data.
    """
    params = model.get_xgb_params()
    if n_classes is not None and n_classes > 2:
        # As XGBClassifier's own fit does.
        params |= {"objective": "multi:softprob", "num_class": n_classes}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        rows = xgboost.ExtMemQuantileDMatrix(
            Batches(make, Path(scratch), dtypes),
            missing=model.missing,
            nthread=model.n_jobs,
            max_bin=model.max_bin,
            enable_categorical=dtypes is not None and any(map(is_category, dtypes)),
        )
        n_rounds = model.get_num_boosting_rounds()
        booster = xgboost.train(params, rows, n_rounds, callbacks=[RoundLines(n_rounds), *callbacks])
        del rows
    trained = copy.deepcopy(model)
    trained.load_model(booster.save_raw())
    # The argument, which loading has replaced by what it came to.
    trained.base_score = model.base_score
    return trained
