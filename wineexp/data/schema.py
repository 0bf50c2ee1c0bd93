"""The schema of a model: its features and classes, and how its training rows were distributed."""

from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    # A server reads schemas, and does so without pandas.
    import pandas as pd

# Name of the file that is stored with a model.
FILE_NAME = "schema.json"

# Bins of a feature's histogram, and rows of each class that are stored as samples.
HISTOGRAM_BINS, SAMPLES_PER_CLASS = 20, 3


class Histogram(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Distribution of the training rows over a feature's range.

    Attributes
    ----------
    edges : list of float
        n_bins + 1 ascending values.
    counts : list of int
        Rows in each bin.
    """

    edges: list[float]
    counts: list[int]


class NumericFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="number"):
    """A numeric feature: its unit, empty where the source gives none, and its distribution in the training rows."""

    name: str
    unit: str
    dtype: str
    minimum: float
    maximum: float
    median: float
    histogram: Histogram


class TextFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="text"):
    """A feature whose values are words, with the number of training rows that have each value."""

    name: str
    unit: str
    dtype: str
    values: dict[str, int]


class Sample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A training row with its label."""

    row: dict[str, float | str]
    label: str


class Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model expects and predicts.

    Attributes
    ----------
    data, target : str
        Choices of these config groups in the training run.
    column : str
        Column of the data set that the target is read from.
    classes : list of str
        Labels as text, in ascending order, which is the order of the model's probabilities.
    ordinal : bool
        Whether the classes are ordered.
    metric : str
        The deciding metric.
    features : list of NumericFeature or TextFeature
        In the model's order.
    samples : list of Sample
        A few training rows of each class.
    """

    data: str
    target: str
    column: str
    classes: list[str]
    ordinal: bool
    metric: str
    features: list[NumericFeature | TextFeature]
    samples: list[Sample]


def describe_features(X: "pd.DataFrame", units: dict[str, str]) -> list[NumericFeature | TextFeature]:
    """Describe the columns of the training rows X (n_samples, n_features)."""
    return [_describe_feature(X[name], units[str(name)]) for name in X]


def pick_samples(X: "pd.DataFrame", y: "pd.Series") -> list[Sample]:
    """Rows of X (n_samples, n_features), spread evenly over each class of y (n_samples,), ordered by label."""
    picked = []
    for label in y.unique():
        places = np.flatnonzero(y == label)
        spread = places[np.unique(np.linspace(0, len(places) - 1, SAMPLES_PER_CLASS).round().astype(int))]
        picked += [(str(label), place) for place in spread]
    rows = X.to_dict("records")
    return [Sample({str(name): value for name, value in rows[place].items()}, label) for label, place in sorted(picked)]


def to_json(schema: Schema) -> str:
    """The schema as JSON."""
    return msgspec.json.format(msgspec.json.encode(schema)).decode()


def from_json(text: str) -> Schema:
    """Parse a schema.

    Raises
    ------
    msgspec.MsgspecError
        The text is not JSON, or not that of a schema.
    """
    return msgspec.json.decode(text, type=Schema)


def _describe_feature(column: "pd.Series", unit: str) -> NumericFeature | TextFeature:
    name, dtype = str(column.name), str(column.dtype)
    from pandas.api.types import is_numeric_dtype

    if not is_numeric_dtype(column):
        counts = column.value_counts().sort_index()
        return TextFeature(name, unit, dtype, {str(value): int(count) for value, count in counts.items()})
    heights, edges = np.histogram(column, bins=HISTOGRAM_BINS)
    minimum, maximum, median = (float(value) for value in (column.min(), column.max(), column.median()))
    return NumericFeature(name, unit, dtype, minimum, maximum, median, Histogram(edges.tolist(), heights.tolist()))
