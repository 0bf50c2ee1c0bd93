"""A model of numbers: any scikit-learn compatible regressor behind a feature pipeline."""

from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, TransformerMixin, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import QuantileTransformer
from sklearn.utils.validation import check_is_fitted

from wineexp.models.column_arguments import translate_columns
from wineexp.models.device import predicting_on_cpu
from wineexp.models.early_stopping import EarlyStopping, parts, with_best_rounds
from wineexp.models.native_categories import with_categories
from wineexp.models.weights import Weights, weight_options

# Of the transform `quantile`; fewer where there are fewer training rows.
MAX_QUANTILES = 1000


def make_pipeline(feature: TransformerMixin, model: RegressorMixin, transform: str | None) -> Pipeline:
    """Features and model as one estimator, so that both are fitted on the same rows.

    Parameters
    ----------
    feature : transformer
    model : regressor
    transform : str or None
        See `TransformingRegressor`.
    """
    return Pipeline([("feature", feature), ("model", TransformingRegressor(model, transform))])


class TransformingRegressor(RegressorMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """A regressor that may learn a transformed target, and whose arguments may name features.

    Parameters
    ----------
    estimator : regressor
    transform : str, optional
        `log1p`, the logarithm of 1 + y; or `quantile`, y's quantile in the training rows as that of a normal
        distribution. Predictions are transformed back.

    Attributes
    ----------
    estimator_ : regressor
        Fitted, within scikit-learn's TransformedTargetRegressor where there is a transform.
    """

    def __init__(self, estimator: RegressorMixin, transform: str | None = None) -> None:
        self.estimator = estimator
        self.transform = transform

    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        sample_weight: Weights = None,
        early_stopping: EarlyStopping | None = None,
    ) -> Self:
        """Fit on X (n_samples, n_features), y (n_samples,) and, where the estimator takes them, weights (n_samples,).

        With `early_stopping`, the number of boosting rounds is found first.

        Raises
        ------
        ValueError
            The transform is unknown, or the estimator refuses the data.
        """
        y = np.asarray(y, dtype=np.float64)
        estimator, learned, transform = self.for_rows_like(X), y, {}
        match self.transform:
            case "log1p":
                learned, transform = np.log1p(y), {"func": np.log1p, "inverse_func": np.expm1}
            case "quantile":
                # All rows, since a random part of them would make another model each time.
                quantiles = QuantileTransformer(
                    n_quantiles=min(MAX_QUANTILES, len(y)), subsample=None, output_distribution="normal"
                )
                learned, transform = clone(quantiles).fit_transform(y[:, None])[:, 0], {"transformer": quantiles}
            case None:
                pass
            case unknown:
                raise ValueError(f"transform must be log1p, quantile or None, but got {unknown}")
        if early_stopping is not None:
            of_search = parts(X, learned, sample_weight, early_stopping)
            estimator = with_best_rounds(estimator, estimator, *of_search, early_stopping.rounds)
        if transform:
            estimator = TransformedTargetRegressor(estimator, **transform)
        self.estimator_ = predicting_on_cpu(estimator.fit(X, y, **weight_options(sample_weight)))
        return self

    def for_rows_like(self, X: npt.ArrayLike) -> RegressorMixin:
        """The estimator with arguments for rows of X, as `fit` would fit it."""
        if not isinstance(X, pd.DataFrame):
            return self.estimator
        return with_categories(translate_columns(self.estimator, [str(name) for name in X]), X)

    def adopt(self, fitted: RegressorMixin) -> Self:
        """Become the model of an estimator that was fitted elsewhere, on numbers that no transform has changed."""
        self.estimator_ = predicting_on_cpu(fitted)
        return self

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """A number for each row: shape (n_samples,)."""
        check_is_fitted(self)
        return np.asarray(self.estimator_.predict(X), dtype=np.float64)
