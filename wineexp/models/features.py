"""Feature pipelines of scikit-learn transformers, which are fitted on training rows alone.

Each pipeline imputes missing numbers. A column of texts becomes an indicator column for each of its categories or,
where these are many, the mean of the target for the row's category. Dates come to it with their parts.
"""

from collections.abc import Sequence

import pandas as pd
from sklearn.base import TransformerMixin
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler, TargetEncoder

from wineexp.core.columns import is_number
from wineexp.evaluation.grouped_folds import GroupedKFold
from wineexp.models.transformers import (
    CategoryCodes,
    DateParts,
    KnownTexts,
    LeaveOut,
    QuantileClipper,
    Ratios,
    SkewedLog,
)

# As many as skrub's TableVectorizer makes.
MAX_INDICATORS = 40
# The part of a feature pipeline that leaves categories to the model.
NATIVE = "native"


def raw(strategy: str) -> ColumnTransformer:
    """The features as they are.

    Parameters
    ----------
    strategy : str
        How missing numbers are imputed: `median`, `mean` or `most_frequent`.
    """
    return _column_transformer(_imputation(strategy))


def scaled(strategy: str) -> ColumnTransformer:
    """Each numeric feature with mean 0 and standard deviation 1 in the training rows."""
    return _column_transformer(_imputation(strategy), ("scale", StandardScaler()))


def without(strategy: str, columns: list[str]) -> Pipeline:
    """Scaled features without some of them.

    Parameters
    ----------
    strategy : str
        How missing numbers are imputed.
    columns : list of str
        The features that are left out.
    """
    return Pipeline([("leave_out", LeaveOut(columns)), ("scaled", scaled(strategy))])


def poly(strategy: str, degree: int, interaction_only: bool) -> ColumnTransformer:
    """Scaled features and their products up to a degree.

    Parameters
    ----------
    strategy : str
        How missing numbers are imputed.
    degree : int
        The most factors in a product.
    interaction_only : bool
        Whether products of a feature with itself are left out.
    """
    products = PolynomialFeatures(degree=degree, interaction_only=interaction_only, include_bias=False)
    scale, rescale = StandardScaler(), StandardScaler()
    return _column_transformer(_imputation(strategy), ("scale", scale), ("products", products), ("rescale", rescale))


def domain(strategy: str, clip: float, ratios: dict[str, list[str]], skewness: float) -> ColumnTransformer:
    """Ratios that oenologists use, clipped outliers, logarithms of skewed columns, all scaled.

    Parameters
    ----------
    strategy : str
        How missing numbers are imputed.
    clip : float
        Quantile below and above which values are clipped, in [0, 0.5).
    ratios : dict of str to [numerator, denominator]
        Columns to add. A ratio whose columns are not all in the data is left out, so that one list serves all data.
    skewness : float
        Columns of at least this sample skewness and no negative value are replaced by log(1 + x).
    """
    return _column_transformer(
        # First, since it needs the names of the columns, which the imputer drops.
        ("ratios", Ratios(ratios)),
        _imputation(strategy),
        ("clip", QuantileClipper(clip)),
        ("log", SkewedLog(skewness)),
        ("scale", StandardScaler()),
    )


def native() -> ColumnTransformer:
    """The features as they are, categories and missing values included, for models that take both."""
    categories = Pipeline([("known", KnownTexts()), ("codes", CategoryCodes())])
    columns = [
        ("number", "passthrough", make_column_selector(dtype_include="number")),
        (NATIVE, categories, make_column_selector(dtype_exclude="number")),
    ]
    # A frame says which of its columns are categories.
    return ColumnTransformer(columns, verbose_feature_names_out=False).set_output(transform="pandas")


def with_dates(feature: TransformerMixin, dates: Sequence[str]) -> TransformerMixin:
    """A feature pipeline before which these columns, dates as days, get their parts as further columns."""
    return Pipeline([("dates", DateParts(list(dates))), ("columns", feature)]) if dates else feature


def for_numbers(feature: TransformerMixin) -> TransformerMixin:
    """A feature pipeline whose encoders take whole numbers of the target for numbers, and not for classes."""
    encoders = [name for name in feature.get_params() if name.rpartition("__")[2] == "target_type"]
    return feature.set_params(**dict.fromkeys(encoders, "continuous"))


class CategoryColumns:
    """Selects a frame's columns of texts: those of at most `MAX_INDICATORS` categories, or those of more.

    Parameters
    ----------
    many : bool
        Whether those of more.
    """

    def __init__(self, *, many: bool) -> None:
        self.many = many

    def __call__(self, X: pd.DataFrame) -> list[str]:
        """The names of these columns of X, of shape (n_samples, n_features)."""
        texts = [str(name) for name in X if not is_number(X[name])]
        return [name for name in texts if (X[name].nunique() > MAX_INDICATORS) == self.many]


def _imputation(strategy: str) -> tuple[str, SimpleImputer]:
    """The step that imputes missing numbers."""
    return "impute", SimpleImputer(strategy=strategy, keep_empty_features=True)


def _column_transformer(*steps: tuple[str, TransformerMixin]) -> ColumnTransformer:
    """These steps for numeric columns, and encoders for all others, whose values are taken as texts."""
    text = Pipeline(
        [
            ("known", KnownTexts()),
            ("impute", SimpleImputer(strategy="most_frequent", keep_empty_features=True)),
            ("indicate", OneHotEncoder(drop="if_binary", sparse_output=False)),
        ]
    )
    # The mean of a training row's category is that of other rows: its own label would tell what is to be learned.
    others = GroupedKFold(5, shuffle=True, random_state=0)
    many = Pipeline([("known", KnownTexts()), ("mean", TargetEncoder(cv=others))])
    return ColumnTransformer(
        [
            ("number", Pipeline(list(steps)), make_column_selector(dtype_include="number")),
            ("text", text, CategoryColumns(many=False)),
            ("many", many, CategoryColumns(many=True)),
        ],
        verbose_feature_names_out=False,
    )
