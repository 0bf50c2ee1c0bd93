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

# The largest difference from the stored probabilities with which a version is served: other processors round
# differently.
MAX_GAP = 1e-6


@dataclass(frozen=True)
class GoldenRows:
    """Rows and the predictions that were stored with them.

    Attributes
    ----------
    columns : list of str
    rows : list of tuple
        One value for each column; NaN where it is missing.
    probabilities : ndarray of shape (n_rows, n_classes)
    decisions : list of int
        Positions of the predicted classes.
    prediction_sets : list of list of bool, or None
        Which classes are in the prediction set of each row; None for a model that gives no prediction sets.
    """

    columns: list[str]
    rows: list[tuple[Any, ...]]
    probabilities: npt.NDArray[np.float64]
    decisions: list[int]
    prediction_sets: list[list[bool]] | None


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
        return GoldenRows(
            columns=stored["rows"]["columns"],
            rows=[tuple(row) for row in stored["rows"]["data"]],
            probabilities=np.asarray(stored["probabilities"], dtype=np.float64),
            decisions=stored["decisions"],
            prediction_sets=stored["prediction_sets"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the golden rows of the stored model cannot be read ({type(error).__name__}: {error})"
        ) from error


def golden_rows_gap(
    predict_proba: Callable[[list[tuple[Any, ...]]], npt.NDArray[np.float64]], golden: GoldenRows
) -> float:
    """The largest difference between the probabilities of golden rows now and those that were stored.

    Parameters
    ----------
    predict_proba : callable
        From a list of rows to probabilities of shape (n_rows, n_classes).
    golden : GoldenRows

    Raises
    ------
    UserError
        The model has no predictions for the rows, or predictions of another shape.
    """
    try:
        probabilities = predict_proba(golden.rows)
        if probabilities.shape != golden.probabilities.shape:
            raise ValueError(f"its probabilities have shape {probabilities.shape}, not {golden.probabilities.shape}")
        return float(np.abs(probabilities - golden.probabilities).max())
    except (ValueError, ArithmeticError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"the model cannot predict its golden rows ({type(error).__name__}: {error})") from error


def check_gap(gap: float) -> None:
    """Refuse a model whose probabilities on its golden rows are too far from the stored ones.

    Raises
    ------
    UserError
        The gap is more than `MAX_GAP`, or NaN.
    """
    # NaN compares as false, so that it is refused, too.
    if not gap <= MAX_GAP:
        raise UserError(
            f"its probabilities on its golden rows are off by {gap:g} from those that were stored with it; at most "
            f"{MAX_GAP:g} is allowed"
        )
