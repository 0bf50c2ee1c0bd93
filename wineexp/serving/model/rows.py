"""Rows as clients send them: parsed strictly, or refused with everything that is wrong with them at once."""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from wineexp.core.dates import days_of_text
from wineexp.core.errors import did_you_mean
from wineexp.data.schema import NumericFeature, Schema, TextFeature, snake_case
from wineexp.serving.http.problems import MAX_FAULTS, Fault, unprocessable
from wineexp.serving.model import strict_json
from wineexp.serving.model.strict_json import MAX_SHOWN_CHARS, UnrepresentableNumber, describe, shortened

# The features of one row, in the schema's order; a missing number is NaN, a missing text None.
Row = tuple[float | str | None, ...]
# Many rows are an array of shape (n_rows, n_features) where all features are numbers.
Rows = Sequence[Row] | npt.NDArray[np.float64]

# So many rows are gathered before they become a part of an array: as tuples, they take four times the memory.
ROWS_PER_ARRAY = 500

MAX_NAMED_VALUES = 10


class NoRow(str):
    """Why a part of a body is no row, in place of that row."""


class RowParser:
    """Parses the rows of one schema.

    Parameters
    ----------
    schema : Schema
    max_rows : int
        Rows that one request may hold.

    Attributes
    ----------
    features : dict of str to NumericFeature or TextFeature
    text_features : set of str
        Names of the features that are texts.
    types : dict of str to type
        The type that msgspec decodes each feature as where it has a value.
    row_type : type
        A msgspec struct of one row.
    """

    # Every value may be missing, as in training, where it is imputed. Where training never saw one missing, it counts
    # as outside the training range.

    def __init__(self, schema: Schema, max_rows: int) -> None:
        self.schema = schema
        self.max_rows = max_rows
        self.features = {feature.name: feature for feature in schema.features}
        self.text_features = {feature.name for feature in schema.features if isinstance(feature, TextFeature)}
        self.types = {feature.name: _type(feature) for feature in schema.features}
        attributes = {f"f{number}": feature for number, feature in enumerate(schema.features)}
        self.row_type = msgspec.defstruct(
            "Row",
            [(attribute, self.types[feature.name] | None) for attribute, feature in attributes.items()],
            rename={attribute: feature.name for attribute, feature in attributes.items()},
            forbid_unknown_fields=True,
            frozen=True,
            gc=False,
        )
        self._decoder = msgspec.json.Decoder(self.row_type | list[self.row_type])  # type: ignore[name-defined]
        get_values = attrgetter(*attributes)
        self._values: Callable[[Any], Row] = get_values if len(attributes) > 1 else lambda row: (row.f0,)
        self._ranges = [
            (position, feature.name, feature.minimum, feature.maximum, feature.missing > 0)
            for position, feature in enumerate(schema.features)
            if isinstance(feature, NumericFeature)
        ]
        self._texts = [
            (position, feature.name, {*feature.values, *([None] if feature.missing else [])})
            for position, feature in enumerate(schema.features)
            if isinstance(feature, TextFeature)
        ]
        # By the name without spaces; a name that two features would share stands for neither.
        simple_names = Counter(map(snake_case, self.features))
        self._by_simple_name = {snake_case(name): name for name in self.features if simple_names[snake_case(name)] == 1}

    def parse_json(self, body: bytes) -> Rows:
        """The rows of a JSON text: an object, or an array of them.

        Raises
        ------
        ProblemError
            400: it is no JSON. 422: it is not rows of this schema.
        """
        try:
            # A row has a bracket: no more rows are decoded than a request may hold.
            decoded = self._decoder.decode(body) if body.count(b"{") <= self.max_rows else []
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            decoded = []
        rows = decoded if isinstance(decoded, list) else [decoded]
        # msgspec would let the last of two equal keys win: as many quotes as this mean that each key is there once.
        quotes = 2 * len(rows) * (len(self.features) + len(self.text_features))
        if rows and body.count(b'"') == quotes and b"\\" not in body and b"null" not in body:
            few = len(rows) < ROWS_PER_ARRAY
            return [self._values(row) for row in rows] if few else self._gathered(map(self._values, rows))
        value = strict_json.read(body)
        if value.is_array:
            return self.parse_objects(element.decode() for element in value.elements())
        return self.parse_objects([value.decode()], single=True)

    def parse_objects(self, values: Iterable[Any], *, single: bool = False) -> Rows:
        """The rows that decoded objects are, which are taken one at a time.

        Parameters
        ----------
        values : iterable
            Decoded objects, and `NoRow` for what cannot be one.
        single : bool
            Whether the one row is not in an array.

        Raises
        ------
        ProblemError
            422, with all faults.
        """
        faults: list[Fault] = []
        n_faults = 0

        def right_rows() -> Iterator[Row]:
            nonlocal n_faults
            for row, value in enumerate(values):
                self.check_row_count(row + 1)
                for name, reason in self._faults(value):
                    n_faults += 1
                    # Only the faults that are listed are worded: to find the nearest name takes long.
                    if n_faults <= MAX_FAULTS:
                        reason = reason or f"no such feature; {self._nearest(str(name))}"
                        faults.append(_fault("" if single else f"/{row}", row, name, reason))
                if not n_faults:
                    yield tuple([_converted(value[name], feature) for name, feature in self.features.items()])

        rows = self._gathered(right_rows())
        if faults:
            raise unprocessable(faults, n_faults)
        self.check_row_count(len(rows))
        return rows

    def feature_name(self, column: str) -> str | None:
        """The feature that a column of a table is; None where it is none.

        A name with spaces is the same as one with underscores, as when the data set was read.
        """
        return column if column in self.features else self._by_simple_name.get(snake_case(column))

    def check_row_count(self, count: int) -> None:
        """Check that a request holds a row, and not too many.

        Raises
        ------
        ProblemError
            422: it holds none, or more than `max_rows`.
        """
        if not count:
            raise unprocessable([Fault("no rows; at least one is wanted")])
        if count > self.max_rows:
            raise unprocessable([Fault(f"more than {self.max_rows} rows; at most so many may be in one request")])

    def _gathered(self, rows: Iterator[Row]) -> Rows:
        """Rows in a form that takes little memory: as an array where they are many, and all features are numbers."""
        first = list(islice(rows, ROWS_PER_ARRAY))
        if self.text_features or len(first) < ROWS_PER_ARRAY:
            return [*first, *rows]
        parts = [np.array(first, dtype=np.float64)]
        while part := list(islice(rows, ROWS_PER_ARRAY)):
            parts.append(np.array(part, dtype=np.float64))
        return np.concatenate(parts)

    def features_out_of_range(self, row: Row) -> list[str]:
        """Names of the features whose value in a row is unlike those of the training rows.

        A number is outside their range, a text is that of none of them, or a value is missing that none of them lacks.
        """
        outside = [
            name
            for position, name, low, high, may_be_missing in self._ranges
            if not low <= (value := row[position]) <= high and not (may_be_missing and value != value)  # type: ignore[operator]
        ]
        return outside + [name for position, name, values in self._texts if row[position] not in values]

    def count_out_of_range(self, rows: Rows) -> int:
        """The number of rows with a feature unlike those of the training rows; see `features_out_of_range`."""
        if not isinstance(rows, np.ndarray):
            return sum([bool(self.features_out_of_range(row)) for row in rows])
        positions, _, low, high, may_be_missing = zip(*self._ranges, strict=True)
        values = rows[:, positions]
        inside = ((low <= values) & (values <= high)) | (np.isnan(values) & may_be_missing)
        return int(np.count_nonzero(~inside.all(axis=1)))

    def _faults(self, value: Any) -> Iterator[tuple[str | None, str]]:
        """Names in a decoded row with what is wrong with each; an unknown name comes with an empty text."""
        if isinstance(value, NoRow):
            yield None, value
            return
        if not isinstance(value, dict):
            yield None, f"an object of {len(self.features)} features is wanted, got {describe(value)}"
            return
        for name in getattr(value, "repeated", ()):
            yield name, "is given more than once"
        for name in value:
            if name not in self.features:
                yield name, ""
        for name, feature in self.features.items():
            if name not in value:
                yield name, f"is missing; {_expected(feature)} is wanted"
            elif reason := _mismatch(value[name], feature):
                yield name, reason

    def _nearest(self, name: str) -> str:
        return did_you_mean(name[:MAX_SHOWN_CHARS], self.features)


def _type(feature: NumericFeature | TextFeature) -> Any:
    """The type of a feature's values, with what the API documentation shows of it."""
    if isinstance(feature, TextFeature):
        if feature.levels:
            return Literal[tuple(feature.levels)]
        return Annotated[str, msgspec.Meta(description=f"{_some(feature.values)} in the training rows")]
    description = f"{feature.minimum:g} to {feature.maximum:g} {feature.unit}".rstrip() + " in the training rows"
    if feature.is_date:
        description += ", or a text such as 2024-12-31"
    return Annotated[float, msgspec.Meta(description=description, examples=[feature.median])]


def _mismatch(value: Any, feature: NumericFeature | TextFeature) -> str | None:
    """Why a decoded value cannot be a feature's, None where it can."""
    if value is None:
        return None
    if isinstance(feature, TextFeature):
        return None if _text(value, feature) is not None else f"{_expected(feature)} is wanted, got {describe(value)}"
    if feature.is_date and isinstance(value, str):
        return None if days_of_text(value) is not None else f"{_expected(feature)} is wanted, got {describe(value)}"
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+,\d+\s*", value):
        return f"{_expected(feature)} is wanted, got {describe(value)}; decimals are written with a point"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{_expected(feature)} is wanted, got {describe(value)}"
    if isinstance(value, UnrepresentableNumber) and not value.text.endswith("Infinity"):
        return f"{describe(value)} is beyond the numbers that 64 bits hold"
    if not math.isfinite(value):
        return f"{_expected(feature)} is wanted, got {describe(value)}; it must be finite"
    return None


def _text(value: Any, feature: TextFeature) -> str | None:
    """The text that a decoded value stands for; None where the feature cannot have it.

    Truth values and numbers among them are spelled as Python spells them; spreadsheets write TRUE.
    """
    if isinstance(value, float):
        candidates = [f"{value:g}", str(value)]
    elif isinstance(value, str | bool):
        candidates = [str(value), *([str(value).capitalize()] if str(value).lower() in ("true", "false") else [])]
    else:
        candidates = []
    known = next((candidate for candidate in candidates if candidate in feature.values), None)
    return known or next((candidate for candidate in candidates if candidate in (feature.levels or candidates)), None)


def _converted(value: Any, feature: NumericFeature | TextFeature) -> float | str | None:
    """A decoded value that fits a feature, as the model takes it."""
    if isinstance(feature, TextFeature):
        return _text(value, feature)
    if isinstance(value, str):
        return days_of_text(value)
    return math.nan if value is None else float(value)


def _expected(feature: NumericFeature | TextFeature) -> str:
    if isinstance(feature, TextFeature):
        return f"one of {_some(feature.levels)}" if feature.levels else f"a text such as {_some(feature.values)}"
    if feature.is_date:
        return f"a date such as 2024-12-31, or a number ({feature.unit}),"
    return f"a number ({feature.unit})" if feature.unit else "a number"


def _some(values: Collection[str]) -> str:
    """Values, separated by commas; only the first ones where they are many."""
    more = f" and {len(values) - MAX_NAMED_VALUES:,} more" if len(values) > MAX_NAMED_VALUES else ""
    return f"{', '.join(islice(values, MAX_NAMED_VALUES))}{more}"


def _fault(pointer: str, row: int, name: str | None, reason: str) -> Fault:
    if name is None:
        return Fault(f"row {row}: {reason}", pointer, row)
    safe = shortened(name.encode("ascii", "backslashreplace").decode() if not name.isprintable() else name)
    return Fault(f"row {row}, {safe}: {reason}", f"{pointer}/{_escaped(safe)}", row, safe)


def _escaped(name: str) -> str:
    """A name as a part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
