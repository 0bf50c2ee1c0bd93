"""Models that take categories as they are, in columns of pandas' type for them, as `features.native` makes."""

import copy
from typing import Any

import pandas as pd
from sklearn.base import TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from wineexp.models.features import NATIVE

# Classes of which a model must be, by the libraries that find such columns in a frame by themselves.
CATBOOST = "CatBoost"
TAKES_CATEGORIES = (
    "HistGradientBoostingClassifier",
    "HistGradientBoostingRegressor",
    "XGBModel",
    "LGBMModel",
    CATBOOST,
)


def native_faults(feature: Any, model: Any) -> list[str]:
    """Why a model cannot take the categories that a feature pipeline leaves to it, one sentence each."""
    columns = feature[-1] if isinstance(feature, Pipeline) else feature
    leaves_them = isinstance(columns, ColumnTransformer) and NATIVE in [name for name, *_ in columns.transformers]
    if not leaves_them or _is_one_of(model, TAKES_CATEGORIES):
        return []
    return [
        f"feature: native leaves categories and missing values to the model, and a {type(model).__name__} does not "
        "take them; choose model=histgb, xgb, lightgbm or catboost, or another feature=..., such as scaled"
    ]


def suited_to(model: Any, feature: TransformerMixin) -> TransformerMixin:
    """A feature pipeline that leaves categories to a model as this one takes them: CatBoost takes no missing ones."""
    if not _is_one_of(model, (CATBOOST,)):
        return feature
    encoders = [name for name in feature.get_params() if name.rpartition("__")[2] == "missing_as_category"]
    return feature.set_params(**dict.fromkeys(encoders, True))


def with_categories(estimator: Any, X: Any) -> Any:
    """The estimator, given the categories among the features X, if it has to be."""
    names = [str(name) for name in X if is_category(X[name].dtype)] if isinstance(X, pd.DataFrame) else []
    if names and _is_one_of(estimator, ("XGBModel",)):
        return copy.deepcopy(estimator).set_params(enable_categorical=True)
    if names and _is_one_of(estimator, (CATBOOST,)):
        return copy.deepcopy(estimator).set_params(cat_features=names)
    return estimator


def is_category(dtype: Any) -> bool:
    """Whether a column's type is that for categories."""
    return isinstance(dtype, pd.CategoricalDtype)


def _is_one_of(model: Any, names: tuple[str, ...]) -> bool:
    return any(base.__name__ in names for base in type(model).__mro__)
