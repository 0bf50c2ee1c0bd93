"""The schema of a model: what it may be asked, and what the rows that it was trained on looked like."""

from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    # A server, which reads what is described here, does without.
    import pandas as pd

# The name of its file, beside the model.
NAME = "schema.json"

# Bins of a feature's histogram, and the rows of each class that are shown as samples.
BINS, SAMPLES = 20, 3


class Histogram(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the training rows spread over a feature's range.

    Attributes
    ----------
    edges : list of float
        n_bins + 1 of them, ascending.
    counts : list of int
        Rows in each bin.
    """

    edges: list[float]
    counts: list[int]


class Number(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="number"):
    """A measured feature, in its unit (empty where the source gives none), with its range in the training rows."""

    name: str
    unit: str
    dtype: str
    minimum: float
    maximum: float
    median: float
    histogram: Histogram


class Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="text"):
    """A feature of a few words, with the training rows that hold each of them."""

    name: str
    unit: str
    dtype: str
    values: dict[str, int]


class Sample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A training row with its label."""

    row: dict[str, float | str]
    label: str


class Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model may be asked, and what it may answer.

    Attributes
    ----------
    data, target : str
        The choices of the config that it was trained with.
    column : str
        The column that the target is read from.
    classes : list of str
        Labels as text, in ascending order, as the columns of the model's probabilities.
    ordinal : bool
        Whether the order of the classes means something.
    metric : str
        The deciding one.
    features : list of Number or Text
        In the model's order.
    samples : list of Sample
        A few of each class.
    """

    data: str
    target: str
    column: str
    classes: list[str]
    ordinal: bool
    metric: str
    features: list[Number | Text]
    samples: list[Sample]


def features(X: "pd.DataFrame", units: dict[str, str]) -> list[Number | Text]:
    """Describe the columns of the training rows X (n_samples, n_features)."""
    return [_feature(X[name], units[str(name)]) for name in X]


def samples(X: "pd.DataFrame", y: "pd.Series") -> list[Sample]:
    """Rows of X (n_samples, n_features) from all over each class of y (n_samples,), classes in ascending order."""
    found = []
    for label in y.unique():
        places = np.flatnonzero(y == label)
        some = places[np.unique(np.linspace(0, len(places) - 1, SAMPLES).round().astype(int))]
        found += [(str(label), place) for place in some]
    rows = X.to_dict("records")
    return [Sample({str(name): value for name, value in rows[place].items()}, label) for label, place in sorted(found)]


def write(schema: Schema) -> str:
    """The schema as JSON."""
    return msgspec.json.format(msgspec.json.encode(schema)).decode()


def read(text: str) -> Schema:
    """The schema in a JSON text.

    Raises
    ------
    msgspec.MsgspecError
        It is no JSON, or no schema.
    """
    return msgspec.json.decode(text, type=Schema)


def _feature(column: "pd.Series", unit: str) -> Number | Text:
    name, dtype = str(column.name), str(column.dtype)
    from pandas.api.types import is_numeric_dtype

    if not is_numeric_dtype(column):
        counts = column.value_counts().sort_index()
        return Text(name, unit, dtype, {str(value): int(count) for value, count in counts.items()})
    heights, edges = np.histogram(column, bins=BINS)
    low, high, middle = (float(value) for value in (column.min(), column.max(), column.median()))
    return Number(name, unit, dtype, low, high, middle, Histogram(edges.tolist(), heights.tolist()))
