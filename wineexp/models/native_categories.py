"""Models that take categories as they are, in columns of pandas' type for them, as `features.native` makes."""

import copy
from typing import Any

import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from wineexp.models.features import NATIVE

# Classes of which a model must be, by the libraries that find such columns in a frame by themselves.
TAKES_CATEGORIES = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor", "XGBModel", "LGBMModel")


def native_faults(feature: Any, model: Any) -> list[str]:
    """Why a model cannot take the categories that a feature pipeline leaves to it, one sentence each."""
    columns = feature[-1] if isinstance(feature, Pipeline) else feature
    leaves_them = isinstance(columns, ColumnTransformer) and NATIVE in [name for name, *_ in columns.transformers]
    if not leaves_them or _is_one_of(model, TAKES_CATEGORIES):
        return []
    return [
        f"feature: native leaves categories and missing values to the model, and a {type(model).__name__} does not "
        "take them; choose model=histgb, xgb or lightgbm, or another feature=..., such as scaled"
    ]


def with_categories(estimator: Any, X: Any) -> Any:
    """The estimator, given the categories among the features X, if it has to be."""
    has_categories = isinstance(X, pd.DataFrame) and any(map(is_category, X.dtypes))
    if has_categories and _is_one_of(estimator, ("XGBModel",)):
        return copy.deepcopy(estimator).set_params(enable_categorical=True)
    return estimator


def is_category(dtype: Any) -> bool:
    """Whether a column's type is that for categories."""
    return isinstance(dtype, pd.CategoricalDtype)


def _is_one_of(model: Any, names: tuple[str, ...]) -> bool:
    return any(base.__name__ in names for base in type(model).__mro__)
