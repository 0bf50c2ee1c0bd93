"""Arguments of models that speak of columns, such as `monotone_constraints={alcohol: 1}`.

A model sees the features that a feature pipeline makes of the columns. These arguments are therefore checked before
training: it is measured which features change with a column. For each fold they become positions of its features.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin, TransformerMixin, clone

from wineexp.core.errors import UserError, did_you_mean
from wineexp.models.arguments import change_arguments

# Columns with which the answer may only rise (1) or fall (-1).
MONOTONE = ("monotone_constraints", "monotonic_cst")
# Lists of columns that may interact.
INTERACTING = ("interaction_constraints", "interaction_cst")
# Columns whose numbers are codes of categories.
CATEGORICAL = ("categorical_features",)
# A weight for each column.
WEIGHTS = ("feature_weights",)
# What cannot be translated.
REFUSED = ("cat_features", "embedding_features", "feature_types", "ignored_features", "text_features")

# Rows on which it is measured which features change with a column.
MAX_MEASURED_ROWS = 10_000


def bind_columns(
    feature: TransformerMixin, model: ClassifierMixin, X: pd.DataFrame, y: pd.Series
) -> tuple[TransformerMixin, ClassifierMixin, list[str]]:
    """Replace the columns that a model's arguments name by the features that are made of them.

    Parameters
    ----------
    feature : transformer
    model : classifier
    X : DataFrame of shape (n_samples, n_columns)
        Training rows.
    y : Series of shape (n_samples,)

    Returns
    -------
    feature : transformer
        It names its features where an argument speaks of columns.
    model : classifier
    faults : list of str
        One sentence for each column that does not exist, or that the features do not keep apart from others.
    """
    faults: list[str] = []
    measured: list[_Columns] = []

    def bind(_: Any, name: str, value: Any) -> Any:
        key = name.rpartition(".")[2]
        speaks_of_columns = key in (*MONOTONE, *INTERACTING, *CATEGORICAL, *WEIGHTS, *REFUSED)
        # A word such as "pairwise" names no column.
        is_word = isinstance(value, str) and value.replace("_", "").isalpha()
        if not speaks_of_columns or value is None or is_word:
            return value
        try:
            if not measured:
                measured.append(_measure(feature, X, y))
            return measured[0].bind(key, value)
        except UserError as error:
            faults.extend(f"model.{name}={value}: {fault}" for fault in error.faults)
            return value

    bound = change_arguments(model, bind)
    return (_with_names(feature) if measured else feature), bound, faults


def translate_columns(estimator: ClassifierMixin, features: Sequence[str]) -> ClassifierMixin:
    """A clone whose arguments speak of positions of features instead of names.

    Parameters
    ----------
    estimator : classifier
    features : sequence of str
        The features of a fold. The indicator of a rare word may be missing.
    """
    positions = {name: position for position, name in enumerate(features)}

    def positions_of(names: Collection[Any]) -> list[int]:
        return [positions[name] for name in names if name in positions]

    def translate(_: Any, name: str, value: Any) -> Any:
        key = name.rpartition(".")[2]
        if key in (*MONOTONE, *WEIGHTS) and isinstance(value, Mapping):
            values = [value.get(feature, 0 if key in MONOTONE else 1.0) for feature in features]
            # XGBoost and CatBoost take text.
            return f"({','.join(map(str, values))})" if key == "monotone_constraints" else values
        if key in INTERACTING and isinstance(value, list):
            groups = [positions_of(group) for group in value]
            return str(groups) if key == "interaction_constraints" else groups
        if key in CATEGORICAL and isinstance(value, list):
            return positions_of(value)
        return value

    return change_arguments(estimator, translate)


def _with_names(feature: TransformerMixin) -> TransformerMixin:
    """A clone that gives its features their names."""
    return clone(feature).set_output(transform="pandas")


def _measure(feature: TransformerMixin, X: pd.DataFrame, y: pd.Series) -> "_Columns":
    """Change one column at a time, and look at the features of a pipeline that is fitted on X."""
    try:
        fitted = _with_names(feature).fit(X, y)
    except (AttributeError, ValueError) as error:
        raise UserError(f"the feature pipeline cannot name its features: {error}") from error
    X = X.head(MAX_MEASURED_ROWS)

    def made_of(rows: pd.DataFrame) -> pd.DataFrame:
        """The features, categories by their numbers."""
        made: pd.DataFrame = fitted.transform(rows)
        categories = made.select_dtypes("category")
        return made.assign(**{str(name): categories[name].cat.codes for name in categories})

    features = made_of(X)
    shuffled = X.iloc[np.random.default_rng(0).permutation(len(X))].set_axis(X.index)
    changed, increasing, unchanged = {}, [], []
    for name in map(str, X):
        changed[name] = (made_of(X.assign(**{name: shuffled[name]})) != features).any()
        of_column = features.loc[:, changed[name]]
        one_row = X.iloc[np.zeros(len(X), dtype=int)].set_axis(X.index)
        ascending = made_of(one_row.assign(**{name: X[name].sort_values().to_numpy()}))
        if (ascending.loc[:, changed[name]].diff().iloc[1:] >= 0).all(axis=None):
            increasing.append(name)
        if all(np.array_equal(of_column[made], X[name]) for made in of_column):
            unchanged.append(name)
    return _Columns(pd.DataFrame(changed).T, increasing, unchanged)


@dataclass(frozen=True)
class _Columns:
    """What a feature pipeline makes of the columns.

    Attributes
    ----------
    changed : DataFrame of bool of shape (n_columns, n_features)
        Whether a feature changes with a column.
    increasing : list of str
        Columns with which their features increase.
    unchanged : list of str
        Columns that are features themselves.
    """

    changed: pd.DataFrame
    increasing: list[str]
    unchanged: list[str]

    def bind(self, argument: str, value: Any) -> Any:
        """The argument with features in the place of columns; raises UserError with every fault."""
        if isinstance(value, str) or argument in REFUSED:
            raise UserError("the columns of a model are those that its feature pipeline makes; name the data's columns")
        if argument in INTERACTING:
            return [self._interacting(self._names(group)) for group in value]
        if argument in CATEGORICAL:
            is_mask = all(isinstance(part, bool) for part in value)
            names = [name for name, is_named in self._by_column(value).items() if is_named] if is_mask else value
            return [feature for name in self._names(names) for feature in self._features(name, argument)]
        by_column = value if isinstance(value, Mapping) else self._by_column(value)
        # A direction of 0 asks nothing of a column.
        named = [name for name in self._names(by_column) if by_column[name] or argument not in MONOTONE]
        return {feature: by_column[name] for name in named for feature in self._features(name, argument)}

    def _by_column(self, values: Sequence[Any]) -> dict[str, Any]:
        """Values that are given for all columns in their order."""
        if len(values) != len(self.changed):
            raise UserError(
                f"{len(values)} values for {len(self.changed)} columns; give them by name, {{column: value}}"
            )
        return dict(zip(self.changed.index, values, strict=True))

    def _names(self, columns: Collection[Any]) -> list[str]:
        """Names of columns, which are given by name or by position in the data."""
        known = list(self.changed.index)
        names = [
            known[column] if isinstance(column, int) and 0 <= column < len(known) else column for column in columns
        ]
        if unknown := [str(name) for name in names if name not in known]:
            raise UserError(*(f"the data has no column {name}; {did_you_mean(name, known)}" for name in unknown))
        return names

    def _features(self, name: str, argument: str) -> list[str]:
        """The features of a column, if what the argument says of it holds of them."""
        features = [str(made) for made, is_changed in self.changed.loc[name].items() if is_changed]
        are_mixed = self.changed.drop(index=name)[features].any(axis=None)
        fault = ""
        if not features:
            fault = f"no feature is made of {name}"
        elif are_mixed or (argument in MONOTONE and len(features) > 1):
            listed = ", ".join(features[:3]) + (f" and {len(features) - 3} more" if len(features) > 3 else "")
            fault = f"the feature pipeline makes of {name}, or of it and others: {listed}"
        elif argument in MONOTONE and name not in self.increasing:
            fault = f"the feature {features[0]} does not increase with {name}"
        elif argument in CATEGORICAL and name not in self.unchanged:
            fault = f"the feature pipeline changes the values of {name}"
        if fault:
            raise UserError(f"{fault}; choose a feature=... that keeps {name} as it is, such as raw")
        return features

    def _interacting(self, names: list[str]) -> list[str]:
        features = [str(feature) for feature in self.changed.columns[self.changed.loc[names].any()]]
        of_others = self.changed.drop(index=names)[features].any()
        if mixed := [feature for feature in features if of_others[feature]]:
            raise UserError(
                f"{', '.join(mixed)} mix these columns with others; choose a feature=... that keeps the columns apart, "
                "such as raw"
            )
        return features
