"""Rows as clients send them: parsed strictly, or refused with everything that is wrong with them at once."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from wineexp.core.errors import did_you_mean
from wineexp.data.schema import NumericFeature, Schema, TextFeature
from wineexp.serving.http.problems import MAX_FAULTS, Fault, unprocessable
from wineexp.serving.model import strict_json
from wineexp.serving.model.strict_json import MAX_SHOWN_CHARS, UnrepresentableNumber, describe, shortened

# The features of one row, in the schema's order.
Row = tuple[float | str, ...]
# Many rows are an array of shape (n_rows, n_features) where all features are numbers and they came as a table.
Rows = Sequence[Row] | npt.NDArray[np.float64]


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
        The type that msgspec decodes each feature as.
    row_type : type
        A msgspec struct of one row.
    """

    def __init__(self, schema: Schema, max_rows: int) -> None:
        self.schema = schema
        self.max_rows = max_rows
        self.features = {feature.name: feature for feature in schema.features}
        self.text_features = {feature.name for feature in schema.features if isinstance(feature, TextFeature)}
        self.types = {feature.name: _type(feature) for feature in schema.features}
        attributes = {f"f{number}": feature for number, feature in enumerate(schema.features)}
        self.row_type = msgspec.defstruct(
            "Row",
            [(attribute, self.types[feature.name]) for attribute, feature in attributes.items()],
            rename={attribute: feature.name for attribute, feature in attributes.items()},
            forbid_unknown_fields=True,
            frozen=True,
            gc=False,
        )
        self._decoder = msgspec.json.Decoder(self.row_type | list[self.row_type])  # type: ignore[name-defined]
        get_values = attrgetter(*attributes)
        self._values = get_values if len(attributes) > 1 else lambda row: (get_values(row),)
        self._ranges = [
            (position, feature.name, feature.minimum, feature.maximum)
            for position, feature in enumerate(schema.features)
            if isinstance(feature, NumericFeature)
        ]

    def parse_json(self, body: bytes) -> list[Row]:
        """The rows of a JSON text: an object, or an array of them.

        Raises
        ------
        ProblemError
            400: it is no JSON. 422: it is not rows of this schema.
        """
        try:
            decoded = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            decoded = []
        rows = decoded if isinstance(decoded, list) else [decoded]
        # msgspec would let the last of two equal keys win: as many quotes as this mean that each key is there once.
        quotes = 2 * len(rows) * (len(self.features) + len(self.text_features))
        if 0 < len(rows) <= self.max_rows and body.count(b'"') == quotes and b"\\" not in body:
            return [self._values(row) for row in rows]
        value = strict_json.decode(body)
        if isinstance(value, list):
            return self.parse_objects(value)
        return self.parse_objects([value], single=True)

    def parse_objects(self, values: list[Any], *, single: bool = False) -> list[Row]:
        """The rows in a list of decoded objects; `single` where the one row is not in an array.

        Raises
        ------
        ProblemError
            422, with all faults.
        """
        self.check_row_count(len(values))
        all_faults = ((row, *fault) for row, value in enumerate(values) for fault in self._faults(value))
        # Only the faults that are listed are worded: to find the nearest name takes long.
        listed = [
            _fault("" if single else f"/{row}", row, name, reason or f"no such feature; {self._nearest(str(name))}")
            for row, name, reason in islice(all_faults, MAX_FAULTS)
        ]
        if listed:
            raise unprocessable(listed, len(listed) + sum(1 for _ in all_faults))
        return [
            tuple(
                float(value[name]) if isinstance(feature, NumericFeature) else value[name]
                for name, feature in self.features.items()
            )
            for value in values
        ]

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
            raise unprocessable([Fault(f"{count} rows; at most {self.max_rows} in one request")])

    def features_out_of_range(self, row: Row) -> list[str]:
        """Names of the features whose value in a row is outside the range of the training rows."""
        return [name for position, name, low, high in self._ranges if not low <= row[position] <= high]  # type: ignore[operator]

    def count_out_of_range(self, rows: Rows) -> int:
        """The number of rows with a feature outside the range of the training rows."""
        if not isinstance(rows, np.ndarray):
            return sum([bool(self.features_out_of_range(row)) for row in rows])
        positions, _, low, high = zip(*self._ranges, strict=True)
        values = rows[:, positions]
        return int(np.count_nonzero(~((low <= values) & (values <= high)).all(axis=1)))

    def _faults(self, value: Any) -> Iterator[tuple[str | None, str]]:
        """Names in a decoded row with what is wrong with each; an unknown name comes with an empty text."""
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
        return Literal[tuple(feature.values)]
    description = f"{feature.minimum:g} to {feature.maximum:g} {feature.unit}".rstrip() + " in the training rows"
    return Annotated[float, msgspec.Meta(description=description, examples=[feature.median])]


def _mismatch(value: Any, feature: NumericFeature | TextFeature) -> str | None:
    """Why a decoded value cannot be a feature's, None where it can."""
    if isinstance(feature, TextFeature):
        fits = isinstance(value, str) and value in feature.values
        return None if fits else f"{_expected(feature)} is wanted, got {describe(value)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{_expected(feature)} is wanted, got {describe(value)}"
    if isinstance(value, UnrepresentableNumber) or not math.isfinite(value):
        return f"{describe(value)} is beyond the numbers that 64 bits hold"
    return None


def _expected(feature: NumericFeature | TextFeature) -> str:
    if isinstance(feature, TextFeature):
        return f"one of {', '.join(feature.values)}"
    return f"a number ({feature.unit})" if feature.unit else "a number"


def _fault(pointer: str, row: int, name: str | None, reason: str) -> Fault:
    if name is None:
        return Fault(f"row {row}: {reason}", pointer, row)
    safe = shortened(name.encode("ascii", "backslashreplace").decode() if not name.isprintable() else name)
    return Fault(f"row {row}, {safe}: {reason}", f"{pointer}/{_escaped(safe)}", row, safe)


def _escaped(name: str) -> str:
    """A name as a part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
