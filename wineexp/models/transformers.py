"""Transformers of this project's own, which follow scikit-learn's contract."""

from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from wineexp.core import dates
from wineexp.core.columns import as_texts

# As many as scikit-learn's histogram-based boosting takes, of which one is for what is missing.
MAX_CATEGORIES = 254


class QuantileClipper(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Clip each column at two of its quantiles in the training rows.

    Parameters
    ----------
    quantile : float
        The lower one, in [0, 0.5); the upper is 1 - quantile.

    Attributes
    ----------
    low_, high_ : ndarray of shape (n_features,)
    """

    def __init__(self, quantile: float) -> None:
        self.quantile = quantile

    def fit(self, X: npt.ArrayLike, y: None = None) -> Self:
        """Learn the quantiles of X, of shape (n_samples, n_features).

        Raises
        ------
        ValueError
            The quantile is out of its range.
        """
        if not 0 <= self.quantile < 0.5:
            raise ValueError(f"0 <= quantile < 0.5 must hold, but got quantile={self.quantile}")
        values = validate_data(self, X)
        self.low_, self.high_ = np.quantile(values, [self.quantile, 1 - self.quantile], axis=0)
        return self

    def transform(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Clip X, of shape (n_samples, n_features)."""
        check_is_fitted(self)
        clipped: npt.NDArray[np.float64] = np.clip(validate_data(self, X, reset=False), self.low_, self.high_)
        return clipped


class Ratios(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Append ratios of columns: 0 where the denominator is 0, and missing where either column is.

    Parameters
    ----------
    ratios : dict of str to [numerator, denominator]
        A ratio is left out when X lacks one of its columns.

    Attributes
    ----------
    pairs_ : dict of str to (int, int)
        The ratios whose columns X has, with the columns' positions.
    """

    def __init__(self, ratios: dict[str, list[str]]) -> None:
        self.ratios = ratios

    def fit(self, X: pd.DataFrame, y: None = None) -> Self:
        """Find the columns in X, a frame of shape (n_samples, n_features)."""
        validate_data(self, X, ensure_all_finite="allow-nan")
        names = list(X.columns)
        self.pairs_ = {
            name: (names.index(numerator), names.index(denominator))
            for name, (numerator, denominator) in self.ratios.items()
            if {numerator, denominator} <= set(names)
        }
        return self

    def transform(self, X: pd.DataFrame) -> npt.NDArray[np.float64]:
        """X with a column for each ratio: shape (n_samples, n_features + n_ratios)."""
        check_is_fitted(self)
        values = validate_data(self, X, reset=False, ensure_all_finite="allow-nan")
        ratios = []
        for numerator, denominator in self.pairs_.values():
            dividend, divisor = values[:, [numerator]], values[:, [denominator]]
            ratios.append(np.divide(dividend, divisor, out=np.zeros((len(values), 1)), where=divisor != 0))
        return np.hstack([values, *ratios])

    def get_feature_names_out(self, input_features: None = None) -> npt.NDArray[np.object_]:
        """Names of X's columns, then of the ratios."""
        check_is_fitted(self)
        return np.array([*self.feature_names_in_, *self.pairs_], dtype=object)


class LeaveOut(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The frame without some of its columns.

    Parameters
    ----------
    columns : list of str
    """

    def __init__(self, columns: list[str]) -> None:
        self.columns = columns

    def fit(self, X: pd.DataFrame, y: None = None) -> Self:
        """Check that X, a frame of shape (n_samples, n_features), has the columns, and others.

        Raises
        ------
        ValueError
            X lacks a column, or has no other.
        """
        missing = [name for name in self.columns if name not in X]
        if missing or len(set(self.columns)) == X.shape[1]:
            fault = f"has no {', '.join(missing)}" if missing else "has no others"
            raise ValueError(
                f"columns={self.columns} are to be left out, but the data {fault}; it has {list(X.columns)}"
            )
        self.feature_names_in_ = np.asarray(X.columns, dtype=object)
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """X without the columns: shape (n_samples, n_features - n_columns)."""
        check_is_fitted(self)
        return X.drop(columns=self.columns)

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """Names of the columns that stay."""
        check_is_fitted(self)
        return np.array([name for name in self.feature_names_in_ if name not in self.columns], dtype=object)


class DateParts(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Append the parts of dates: the year, the month, the day of the month, the week and the year, and the hour.

    The dates themselves stay, as days since 1970-01-01: their age, but for a constant.

    Parameters
    ----------
    columns : list of str
        The dates, as `wineexp.core.dates.days` gives them. A missing one has no parts, which are imputed.

    Attributes
    ----------
    n_parts_ : list of int
        For each date how many of `wineexp.core.dates.PARTS` it has: no hour where all training rows have whole days.
    """

    def __init__(self, columns: list[str]) -> None:
        self.columns = columns

    def fit(self, X: pd.DataFrame, y: None = None) -> Self:
        """Find the dates in X, a frame of shape (n_samples, n_features), and those with a time of day."""
        self.feature_names_in_ = np.asarray(X.columns, dtype=object)
        have_times = [bool((X[name].dropna() % 1 != 0).any()) for name in self.columns]
        self.n_parts_ = [len(dates.PARTS) if has_times else len(dates.PARTS) - 1 for has_times in have_times]
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """X with the parts of its dates: shape (n_samples, n_features + n_parts)."""
        check_is_fitted(self)
        values = [
            dates.parts(X[name].to_numpy(dtype=np.float64))[:, :n_parts]
            for name, n_parts in zip(self.columns, self.n_parts_, strict=True)
        ]
        return X.join(pd.DataFrame(np.hstack(values), X.index, columns=self._names_of_parts()))

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """Names of X's columns, then of the parts."""
        check_is_fitted(self)
        return np.array([*self.feature_names_in_, *self._names_of_parts()], dtype=object)

    def _names_of_parts(self) -> list[str]:
        # No column of a table has a space in its name.
        return [
            f"{part.replace('_', ' ')} of {name}"
            for name, n_parts in zip(self.columns, self.n_parts_, strict=True)
            for part in dates.PARTS[:n_parts]
        ]


class KnownTexts(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Values as texts; one that the training rows lack becomes missing, and is imputed like a missing one.

    A rare category is in some training folds and not in others, and truth values come as such from a table and as texts
    from a server.

    Attributes
    ----------
    texts_ : list of list of str
        The texts of each column in the training rows, in ascending order.
    """

    def fit(self, X: pd.DataFrame, y: None = None) -> Self:
        """Learn the texts of X, a frame of shape (n_samples, n_features)."""
        validate_data(self, X, skip_check_array=True)
        self.texts_ = [sorted(as_texts(X[name]).dropna().unique()) for name in X]
        return self

    def transform(self, X: pd.DataFrame) -> npt.NDArray[np.object_]:
        """X as texts, NaN where a value is missing or unknown: shape (n_samples, n_features)."""
        check_is_fitted(self)
        validate_data(self, X, reset=False, skip_check_array=True)
        columns = [as_texts(X[name]) for name in X]
        known = [column.where(column.isin(texts), np.nan) for column, texts in zip(columns, self.texts_, strict=True)]
        return np.column_stack([column.to_numpy(dtype=object) for column in known])


class CategoryCodes(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Texts as columns of pandas' type for categories, whose numbers models of trees take as they are.

    Of a column with more than `MAX_CATEGORIES` texts the most frequent ones are categories, and the others are missing.

    Parameters
    ----------
    missing_as_category : bool
        Whether a missing text is a further category, the last one, for models that take no missing ones.

    Attributes
    ----------
    texts_ : list of list of str
        The categories of each column, in ascending order.
    """

    def __init__(self, *, missing_as_category: bool = False) -> None:
        self.missing_as_category = missing_as_category

    def fit(self, X: pd.DataFrame | npt.NDArray[np.object_], y: None = None) -> Self:
        """Learn the categories of X, texts of shape (n_samples, n_features) of which some may be missing."""
        validate_data(self, X, skip_check_array=True)
        frame = pd.DataFrame(X)
        self.texts_ = [sorted(frame[name].value_counts().sort_index().nlargest(MAX_CATEGORIES).index) for name in frame]
        return self

    def transform(self, X: pd.DataFrame | npt.NDArray[np.object_]) -> pd.DataFrame:
        """X as categories, which are numbers from 0 on, missing where the text is none: (n_samples, n_features)."""
        check_is_fitted(self)
        frame = pd.DataFrame(X)
        columns = {}
        for name, texts in zip(frame, self.texts_, strict=True):
            codes = pd.Index(texts).get_indexer(frame[name])
            if self.missing_as_category:
                codes = np.where(codes < 0, len(texts), codes)
            known = pd.RangeIndex(len(texts) + self.missing_as_category)
            columns[name] = pd.Categorical.from_codes(codes, categories=known)
        return pd.DataFrame(columns, index=frame.index)


class SkewedLog(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Replace right-skewed columns without negative values by log(1 + x).

    Parameters
    ----------
    skewness : float
        The least sample skewness (third standardized moment) of a column that is replaced.

    Attributes
    ----------
    skewed_ : ndarray of bool of shape (n_features,)
    """

    def __init__(self, skewness: float) -> None:
        self.skewness = skewness

    def fit(self, X: npt.ArrayLike, y: None = None) -> Self:
        """Find the skewed columns of X, of shape (n_samples, n_features)."""
        values = validate_data(self, X)
        centred = values - values.mean(axis=0)
        variance = (centred**2).mean(axis=0)
        third = (centred**3).mean(axis=0)
        skewness = np.divide(third, variance**1.5, out=np.zeros_like(third), where=variance > 0)
        self.skewed_ = (skewness >= self.skewness) & (values.min(axis=0) >= 0)
        return self

    def transform(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """X with its skewed columns on a logarithmic scale: shape (n_samples, n_features)."""
        check_is_fitted(self)
        values = validate_data(self, X, reset=False)
        # Rows after training may have negative values, which count as 0.
        logged: npt.NDArray[np.float64] = np.where(self.skewed_, np.log1p(np.maximum(values, 0)), values)
        return logged
