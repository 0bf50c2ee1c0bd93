"""The schema of a model: its features and classes, and how its training rows were distributed."""

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
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
TRUTH_VALUES = ("False", "True")
# Bins of equal mass of a target of numbers, of each of which rows are stored as of a class.
SAMPLE_BINS = 5


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
    """A numeric feature: its unit, empty where the source gives none, and its distribution in the training rows.

    `missing` is the number of training rows without a value, `meaning` what the data set's YAML says of the feature.
    A date is a number, too, see `wineexp.core.dates`; a client may send it as a text.
    """

    name: str
    unit: str
    dtype: str
    minimum: float
    maximum: float
    median: float
    histogram: Histogram
    missing: int = 0
    meaning: str = ""
    is_date: bool = False


class TextFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="text"):
    """A feature whose values are words, with the numbers of training rows that have each value, and none.

    `levels` are the only values that it may have, where the data set's YAML says them, or where they are truth values;
    otherwise it may have any, and one that no training row has counts as a missing one.
    """

    name: str
    unit: str
    dtype: str
    values: dict[str, int]
    missing: int = 0
    meaning: str = ""
    levels: list[str] = []


class Intervals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The intervals of predicted numbers, in bins of the prediction; see `wineexp.evaluation.intervals`.

    Attributes
    ----------
    coverage : float
        The share of rows whose interval is to hold the true number.
    edges : list of float
        The greatest prediction in each bin but the last.
    low, high : list of float
        What the ends are away from the prediction, for each bin.
    """

    coverage: float
    edges: list[float]
    low: list[float]
    high: list[float]

    def interval(self, prediction: float) -> list[float]:
        """The lower and the upper end for a prediction."""
        number = bisect_left(self.edges, prediction)
        return [prediction + self.low[number], prediction + self.high[number]]


class Sample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A training row with its label; a missing value is None."""

    row: dict[str, float | str | None]
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
    noun : list of two str
        What a row is, in singular and plural.
    ranking : list of str
        The features, the most important first; empty for a model that was stored without.
    numbers : NumericFeature or None
        The target's training values where numbers are predicted, and there are no classes; None where there are.
    intervals : Intervals or None
        Of predicted numbers; None where there were too few rows.
    """

    data: str
    target: str
    column: str
    classes: list[str]
    ordinal: bool
    metric: str
    features: list[NumericFeature | TextFeature]
    samples: list[Sample]
    noun: list[str] = msgspec.field(default_factory=lambda: ["row", "rows"])
    ranking: list[str] = []
    numbers: NumericFeature | None = None
    intervals: Intervals | None = None

    @property
    def unit(self) -> str:
        """Of a predicted number; empty where it is not known, or classes are predicted."""
        return self.numbers.unit if self.numbers else ""


def snake_case(name: str) -> str:
    """A column's name without spaces, as features are called."""
    return name.strip().replace(" ", "_")


def describe_features(
    X: "pd.DataFrame",
    units: Mapping[str, str],
    meanings: Mapping[str, str],
    dates: Collection[str] = (),
    levels: Mapping[str, Sequence[str]] | None = None,
) -> list[NumericFeature | TextFeature]:
    """Describe the columns of the training rows X (n_samples, n_features), some of them dates as days."""
    described = [
        describe_feature(X[name], units[str(name)], meanings.get(str(name), ""), (levels or {}).get(str(name), ()))
        for name in X
    ]
    return [
        msgspec.structs.replace(feature, is_date=True) if feature.name in dates else feature for feature in described
    ]


def pick_samples(X: "pd.DataFrame", y: "pd.Series", *, of_numbers: bool = False) -> list[Sample]:
    """Rows of X (n_samples, n_features), spread evenly over each class of y (n_samples,), ordered by label.

    Where y are numbers instead of classes, over bins of equal mass.
    """
    import pandas as pd

    from wineexp.core.columns import as_texts, is_number

    groups = pd.qcut(y, SAMPLE_BINS, labels=False, duplicates="drop") if of_numbers else y
    picked = []
    for group in groups.unique():
        places = np.flatnonzero(groups == group)
        spread = places[np.unique(np.linspace(0, len(places) - 1, SAMPLES_PER_CLASS).round().astype(int))]
        picked += [(str(y.iloc[place]), place) for place in spread]
    picked.sort(key=(lambda pair: (float(pair[0]), pair[1])) if of_numbers else None)
    X = X.iloc[[place for _, place in picked]]
    # As objects, because NaN is no value of JSON.
    columns = {str(name): X[name] if is_number(X[name]) else as_texts(X[name]) for name in X}
    objects = {name: column.astype(object).where(column.notna(), None) for name, column in columns.items()}
    rows = pd.DataFrame(objects, dtype=object).to_dict("records")
    return [
        Sample({str(name): value for name, value in row.items()}, label)
        for (label, _), row in zip(picked, rows, strict=True)
    ]


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


def describe_feature(
    column: "pd.Series", unit: str, meaning: str, levels: Sequence[str] = ()
) -> NumericFeature | TextFeature:
    """Describe one column of the training rows (n_samples,)."""
    from wineexp.core.columns import as_texts, is_number

    name, dtype, missing = str(column.name), str(column.dtype), int(column.isna().sum())
    if not is_number(column):
        counts = as_texts(column).value_counts().sort_index()
        values_seen = {str(value): int(count) for value, count in counts.items()}
        only = TRUTH_VALUES if set(TRUTH_VALUES).issuperset(values_seen) else levels
        return TextFeature(name, unit, dtype, values_seen, missing, meaning, list(only))
    values = column.dropna().to_numpy(dtype=np.float64)
    heights, edges = np.histogram(values, bins=HISTOGRAM_BINS)
    histogram = Histogram(edges.tolist(), heights.tolist())
    low, high, median = float(values.min()), float(values.max()), float(np.median(values))
    return NumericFeature(name, unit, dtype, low, high, median, histogram, missing, meaning)
