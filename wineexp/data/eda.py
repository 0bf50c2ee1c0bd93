"""Exploratory data analysis: statistics of the features and the target, as tables."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from wineexp.core.columns import as_texts, is_number

# Tukey's fences: an outlier lies more than this many interquartile ranges below the first or above the third quartile.
FENCE_IN_QUARTILE_RANGES = 1.5
# Numbers that are predicted are shown in so many bands.
N_BANDS = 4


def one_hot_encoded(X: pd.DataFrame) -> pd.DataFrame:
    """X with each text column as 0/1 columns named `column=value`, one fewer than it has values."""
    texts = {str(name): as_texts(X[name]) for name in X if not is_number(X[name])}
    return pd.get_dummies(X.assign(**texts), columns=list(texts), drop_first=True, prefix_sep="=", dtype=float)


def numeric_columns(X: pd.DataFrame) -> pd.DataFrame:
    """The columns of numbers."""
    return X[[name for name in X if is_number(X[name])]]


def missing_values(frame: pd.DataFrame) -> pd.Series:
    """Number of missing values in each column that has any."""
    counts = frame.isna().sum()
    return counts[counts > 0]


def outliers(X: pd.DataFrame) -> pd.DataFrame:
    """Values beyond Tukey's fences, one row for each numeric feature, the feature with the most of them first.

    Returns
    -------
    DataFrame of shape (n_numeric, 6)
        `low` and `high` (the fences), `below` and `above` (numbers of values), `share` of all values, and `skewness`.
    """
    numeric = numeric_columns(X)
    first, third = numeric.quantile(0.25), numeric.quantile(0.75)
    low, high = first - FENCE_IN_QUARTILE_RANGES * (third - first), third + FENCE_IN_QUARTILE_RANGES * (third - first)
    below, above = (numeric < low).sum(), (numeric > high).sum()
    table = pd.DataFrame({"low": low, "high": high, "below": below, "above": above, "skewness": numeric.skew()})
    return table.assign(share=(below + above) / numeric.count()).sort_values("share", ascending=False, kind="stable")


def rows_with_outliers(X: pd.DataFrame, fences: pd.DataFrame) -> int:
    """Number of rows that have an outlier in any numeric feature, by the fences that `outliers` gives."""
    numeric = X[fences.index]
    return int(((numeric < fences["low"]) | (numeric > fences["high"])).any(axis=1).sum())


def row_occurrences(X: pd.DataFrame) -> pd.Series:
    """How often each row occurs in X: (n_samples,), 1 for a unique row."""
    columns = list(X.columns)
    return X.groupby(columns, sort=False, dropna=False)[columns[0]].transform("size")


def chance_repeats(frame: pd.DataFrame) -> int:
    """How many rows would repeat an earlier one if the columns were independent: the values of each are shuffled.

    Where columns have few different values, rows agree by chance, and need not be copies.
    """
    rng = np.random.default_rng(0)
    codes = frame.apply(lambda column: pd.factorize(column)[0])
    return int(codes.apply(lambda column: rng.permutation(column.to_numpy())).duplicated().sum())


def expected_leak(occurrences: pd.Series, share: float) -> float:
    """Expected share of test rows with an exact copy among the training rows, under a split that ignores copies.

    Parameters
    ----------
    occurrences : Series of shape (n_samples,)
        As `row_occurrences` gives them.
    share : float
        Share of the rows that are test rows.
    """
    return float((1 - share ** (occurrences - 1)).mean())


def bands(y: pd.Series) -> tuple[npt.NDArray[np.intp], list[float]]:
    """Numbers in at most `N_BANDS` bands of about equal mass.

    Where the least number has more than the share of a band, as 0 has among many amounts, it is a band by itself.

    Parameters
    ----------
    y : Series of shape (n_samples,)

    Returns
    -------
    codes : ndarray of int of shape (n_samples,)
        The number of each row's band, from 0.
    edges : list of float
        The greatest number in each band but the last, ascending, all of them values of y.
    """
    least, greatest = y.min(), y.max()
    if (y == least).mean() > 1 / N_BANDS:
        rest, n_rest = y[y > least], N_BANDS - 1
        found = {least}
    else:
        rest, n_rest = y, N_BANDS
        found = set()
    # Values that occur are written as they are, which interpolated ones are not.
    found |= set(rest.quantile([number / n_rest for number in range(1, n_rest)], interpolation="lower"))
    edges = sorted(edge for edge in found if edge < greatest)
    if not edges and least < greatest:
        # Nearly all rows have the greatest number.
        edges = [y[y < greatest].max()]
    return np.searchsorted(edges, y), [float(edge) for edge in edges]


def class_balance(y: pd.Series, classes: npt.NDArray[np.generic]) -> pd.DataFrame:
    """Rows and share of each class, in the order of the classes."""
    rows = y.value_counts().reindex(classes, fill_value=0)
    return pd.DataFrame({"rows": rows, "share": rows / len(y)})


def class_separation(X: pd.DataFrame, y: pd.Series) -> pd.Series:
    """How well each feature alone separates the classes, the best first.

    Epsilon squared of Kruskal and Wallis: the share of a feature's rank variance that lies between the classes, from 0
    (all classes have the same mean rank) to 1. Ranks limit the influence of extreme values.
    """
    ranks = one_hot_encoded(X).rank()
    between = ranks.groupby(y.to_numpy()).transform("mean").var(ddof=0)
    return (between / ranks.var(ddof=0)).fillna(0.0).sort_values(ascending=False, kind="stable")


def most_correlated(X: pd.DataFrame) -> tuple[str, str, float] | None:
    """The two features with the strongest rank correlation (Spearman's) of either sign, and that correlation.

    Text features are one-hot encoded. None where there are no two features whose values differ.
    """
    matrix = one_hot_encoded(X).corr(method="spearman")
    upper = np.triu(np.ones(matrix.shape, dtype=bool), k=1)
    values, names = matrix.to_numpy(), list(map(str, matrix.columns))
    if not np.isfinite(values[upper]).any():
        return None
    row, column = divmod(int(np.nanargmax(np.where(upper, np.abs(values), -1.0))), len(names))
    return names[row], names[column], float(values[row, column])
