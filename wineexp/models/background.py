"""The background of explanations: few training rows that stand for all of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial.distance import cdist

from wineexp.core.columns import as_texts, is_number
from wineexp.core.errors import UserError
from wineexp.models.manifest import BACKGROUND_FILE, EXTRA_FOLDER

# What they give is in benchmarks/explanations/README.md. Models for which so many take too long use the first of them.
BACKGROUND_ROWS = 1000

# The rows among which the background is sought: of more, as many are drawn.
MAX_CANDIDATES = 5000
# Texts of a column that are told apart, the most frequent ones.
MAX_TEXTS = 40
# Rows whose distances to all candidates are in memory at once.
ROWS_PER_BLOCK = 256


def representative_rows(X: pd.DataFrame, n_rows: int = BACKGROUND_ROWS, *, seed: int | None = None) -> pd.DataFrame:
    """Rows whose distribution is like that of all rows, by kernel herding (Chen, Welling & Smola 2010).

    One row after the other is chosen, each as near to all rows and as far from those already chosen as possible: the
    first of them stand for all rows, too, however many one takes. Their means differ from those of all rows less than
    the means of a random sample do. Distances are Euclidean, between the ranks of numbers and between indicators of
    texts and of missing values.

    Parameters
    ----------
    X : DataFrame of shape (n_samples, n_features)
    n_rows : int
    seed : int, optional
        Of the first row; by default the most central one.

    Returns
    -------
    DataFrame of shape (n_rows, n_features)
        In the order in which they were chosen; all rows where there are no more.
    """
    n_rows = min(n_rows, len(X))
    if len(X) > MAX_CANDIDATES:
        X = X.iloc[np.sort(np.random.default_rng(0).choice(len(X), MAX_CANDIDATES, replace=False))]
    points = _points(X)
    to_all = np.concatenate(
        [
            cdist(points[start : start + ROWS_PER_BLOCK], points).mean(axis=1)
            for start in range(0, len(points), ROWS_PER_BLOCK)
        ]
    )
    row = int(to_all.argmin() if seed is None else np.random.default_rng(seed).integers(len(points)))
    chosen: list[int] = []
    to_chosen = np.zeros(len(points))
    for _ in range(n_rows):
        chosen.append(row)
        to_chosen += cdist(points[[row]], points)[0]
        score = to_all - to_chosen / (len(chosen) + 1)
        score[chosen] = np.inf
        row = int(score.argmin())
    return X.iloc[chosen]


def _points(X: pd.DataFrame) -> npt.NDArray[np.float64]:
    columns: list[npt.NDArray[Any]] = []
    for name in X:
        if is_number(X[name]):
            columns.append(X[name].rank(pct=True).fillna(0.5).to_numpy(dtype=np.float64))
            if X[name].isna().any():
                columns.append(X[name].isna().astype(np.float64).to_numpy())
        else:
            texts = as_texts(X[name])
            rare = texts.value_counts().index[MAX_TEXTS:]
            # Two different texts are 1 apart, but for rare ones, which count as one.
            texts = texts.mask(texts.isin(rare), rare[0]) if len(rare) else texts
            columns += list(pd.get_dummies(texts, dummy_na=True).to_numpy(dtype=np.float64).T / np.sqrt(2))
    return np.column_stack(columns)


def to_json(background: pd.DataFrame) -> str:
    """Rows as JSON for `read_background`."""
    texts = {str(name): as_texts(background[name]) for name in background if not is_number(background[name])}
    return json.dumps(background.assign(**texts).to_dict("split", index=False))


def read_background(folder: Path) -> list[tuple[Any, ...]] | None:
    """The rows of the background in the folder of a stored model; None for one that was stored without.

    Raises
    ------
    UserError
        The file cannot be read.
    """
    try:
        stored = json.loads((folder / EXTRA_FOLDER / BACKGROUND_FILE).read_text(encoding="utf-8"))
        return [tuple(row) for row in stored["data"]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the background of the stored model cannot be read ({type(error).__name__}: {error})"
        ) from error
