"""Findings: what a table of wines says before any model, as tables of numbers."""

import numpy as np
import numpy.typing as npt
import pandas as pd

# Tukey's fences: a value counts as an outlier further than this many interquartile ranges outside the quartiles.
FENCE = 1.5


def numbers(X: pd.DataFrame) -> pd.DataFrame:
    """X with each text column as 0/1 columns named `column=value`, one fewer than it has values."""
    return pd.get_dummies(X, drop_first=True, prefix_sep="=", dtype=float)


def summary(X: pd.DataFrame) -> pd.DataFrame:
    """Minimum, median, maximum, skewness and count of distinct values: one row a numeric feature."""
    numeric = X.select_dtypes("number")
    return pd.DataFrame(
        {
            "minimum": numeric.min(),
            "median": numeric.median(),
            "maximum": numeric.max(),
            "skewness": numeric.skew(),
            "distinct": numeric.nunique(),
        }
    )


def missing(frame: pd.DataFrame) -> pd.Series:
    """How many values each column lacks, of those columns that lack any."""
    counts = frame.isna().sum()
    return counts[counts > 0]


def outliers(X: pd.DataFrame) -> pd.DataFrame:
    """Values beyond Tukey's fences: fences, counts below and above, and share; one row a numeric feature."""
    numeric = X.select_dtypes("number")
    first, third = numeric.quantile(0.25), numeric.quantile(0.75)
    low, high = first - FENCE * (third - first), third + FENCE * (third - first)
    below, above = (numeric < low).sum(), (numeric > high).sum()
    table = pd.DataFrame({"low": low, "high": high, "below": below, "above": above})
    return table.assign(share=(below + above) / numeric.count()).sort_values("share", ascending=False, kind="stable")


def rows_with_outliers(X: pd.DataFrame) -> int:
    """How many rows have a value beyond its feature's fences."""
    fences = outliers(X)
    numeric = X[fences.index]
    return int(((numeric < fences["low"]) | (numeric > fences["high"])).any(axis=1).sum())


def occurrences(X: pd.DataFrame) -> pd.Series:
    """How many rows are exactly equal to each row, itself among them: (n_samples,)."""
    columns = list(X.columns)
    return X.groupby(columns, sort=False, dropna=False)[columns[0]].transform("size")


def leak(X: pd.DataFrame, share: float) -> float:
    """Share of test rows with an equal row in training, to be expected of a split that ignores equal rows.

    Parameters
    ----------
    X : DataFrame of shape (n_samples, n_features)
    share : float
        The share of rows that is tested on.
    """
    return float((1 - share ** (occurrences(X) - 1)).mean())


def balance(y: pd.Series, classes: npt.NDArray[np.generic]) -> pd.DataFrame:
    """Rows and share of each class, in the order of the classes."""
    rows = y.value_counts().reindex(classes, fill_value=0)
    return pd.DataFrame({"rows": rows, "share": rows / len(y)})


def separation(X: pd.DataFrame, y: pd.Series) -> pd.Series:
    """How far each feature tells the classes apart, the strongest first.

    The share of a feature's rank variance that lies between the classes, from 0 (every class has the same mean rank)
    to 1: the epsilon squared of Kruskal and Wallis. Ranks keep a few extreme values from deciding it.
    """
    ranks = numbers(X).rank()
    between = ranks.groupby(y.to_numpy()).transform("mean").var(ddof=0)
    return (between / ranks.var(ddof=0)).fillna(0.0).sort_values(ascending=False, kind="stable")


def correlations(X: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rank correlation of each pair of features, text columns as 0/1: square, 1 on the diagonal."""
    return numbers(X).corr(method="spearman")


def pairs(matrix: pd.DataFrame) -> pd.Series:
    """Each pair of different columns of a correlation matrix once, the strongest of either sign first."""
    upper = np.triu(np.ones(matrix.shape, dtype=bool), k=1)
    found = pd.Series(matrix.where(upper).stack().dropna())
    return found.sort_values(key=lambda values: values.abs(), ascending=False, kind="stable")
