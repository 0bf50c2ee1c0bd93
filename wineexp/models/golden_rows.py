"""Golden rows: some rows with the predictions that a model gave on them when it was stored, to compare with later ones.

This module needs numpy alone, so that a server of a compiled model can use it without pandas and scikit-learn.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wineexp.core.errors import UserError
from wineexp.models.manifest import EXTRA_FOLDER, GOLDEN_ROWS_FILE

# The key of predicted numbers in the file.
NUMBERS = "predictions"

# The largest difference from the stored probabilities, or, as a share of the greatest, from the stored numbers, with
# which a version is served: other processors round differently.
MAX_GAP = 1e-6


@dataclass(frozen=True)
class GoldenRows:
    """Rows and the predictions that were stored with them.

    Attributes
    ----------
    columns : list of str
    rows : list of tuple
        One value for each column; NaN where it is missing.
    outputs : ndarray of shape (n_rows, n_classes) or (n_rows, 1)
        Probabilities of classes, or the predicted numbers.
    decisions : list of int, or None
        Positions of the predicted classes; None for a model of numbers.
    prediction_sets : list of list of bool, or None
        Which classes are in the prediction set of each row; None for a model that gives no prediction sets.
    """

    columns: list[str]
    rows: list[tuple[Any, ...]]
    outputs: npt.NDArray[np.float64]
    decisions: list[int] | None = None
    prediction_sets: list[list[bool]] | None = None


def read_golden_rows(folder: Path) -> GoldenRows:
    """The golden rows in the folder of a stored model.

    Raises
    ------
    UserError
        The file is missing or cannot be read.
    """
    path = folder / EXTRA_FOLDER / GOLDEN_ROWS_FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        columns, rows = stored["rows"]["columns"], [tuple(row) for row in stored["rows"]["data"]]
        if NUMBERS in stored:
            return GoldenRows(columns, rows, np.asarray(stored[NUMBERS], dtype=np.float64)[:, None])
        return GoldenRows(
            columns,
            rows,
            outputs=np.asarray(stored["probabilities"], dtype=np.float64),
            decisions=stored["decisions"],
            prediction_sets=stored["prediction_sets"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the golden rows of the stored model cannot be read ({type(error).__name__}: {error})"
        ) from error


def golden_rows_gap(predict: Callable[[list[tuple[Any, ...]]], npt.NDArray[np.float64]], golden: GoldenRows) -> float:
    """The largest difference between the predictions of golden rows now and those that were stored.

    Of probabilities as it is, of numbers as a share of the greatest of them.

    Parameters
    ----------
    predict : callable
        From a list of rows to probabilities or numbers, in the shape of `GoldenRows.outputs`.
    golden : GoldenRows

    Raises
    ------
    UserError
        The model has no predictions for the rows, or predictions of another shape.
    """
    try:
        outputs = predict(golden.rows)
        if outputs.shape != golden.outputs.shape:
            raise ValueError(f"its predictions have shape {outputs.shape}, not {golden.outputs.shape}")
        unit = 1.0 if golden.decisions is not None else float(np.abs(golden.outputs).max()) or 1.0
        return float(np.abs(outputs - golden.outputs).max() / unit)
    except (ValueError, ArithmeticError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"the model cannot predict its golden rows ({type(error).__name__}: {error})") from error


def check_gap(gap: float) -> None:
    """Refuse a model whose predictions on its golden rows are too far from the stored ones.

    Raises
    ------
    UserError
        The gap is more than `MAX_GAP`, or NaN.
    """
    # NaN compares as false, so that it is refused, too.
    if not gap <= MAX_GAP:
        raise UserError(
            f"its predictions on its golden rows are off by {gap:g} from those that were stored with it; at most "
            f"{MAX_GAP:g} is allowed"
        )
