"""Rows as clients send them: read strictly, or refused with everything that is wrong with them at once."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from wineexp.core.errors import did_you_mean
from wineexp.data.schema import NumericFeature, Schema, TextFeature
from wineexp.serving.http.problems import MOST_FAULTS, Fault, Refused, wrong

# The features of one row, in the schema's order; of many, which may be an array where all are numbers.
Row = tuple[float | str, ...]
Rows = Sequence[Row] | npt.NDArray[np.float64]

# Characters of a client's own words that are shown back.
SHOWN = 60


class _Beyond(float):
    """A number that 64 bits do not hold, or that JSON does not have, with its spelling."""

    text: str


class _Object(dict[str, Any]):
    """An object of JSON, with the keys that it holds more than once."""

    repeated: Sequence[str] = ()


def parse(body: bytes) -> Any:
    """A JSON text as Python objects that remember what JSON's own rules leave open: repeated keys, huge numbers.

    Raises
    ------
    Refused
        400: it is not UTF-8, not JSON, or nested too deeply.
    """
    try:
        return json.loads(
            body.decode(),
            object_pairs_hook=_object,
            parse_float=_number,
            parse_int=_number,
            parse_constant=_beyond,
        )
    except UnicodeDecodeError as error:
        raise Refused(400, f"the body is not UTF-8: byte {error.start} is {body[error.start]:#04x}") from error
    except RecursionError as error:
        raise Refused(400, "the body is nested too deeply") from error
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {error}" if body.strip() else "the body is empty") from error


class Reader:
    """Reads the rows of one schema.

    Parameters
    ----------
    schema : Schema
    most : int
        Rows that one request may hold.

    Attributes
    ----------
    features : dict of str to NumericFeature or TextFeature
    texts : set of str
        Names of the features that are texts.
    kinds : dict of str to type
        What msgspec is to read of each feature.
    type : type
        A msgspec struct of one row.
    """

    def __init__(self, schema: Schema, most: int) -> None:
        self.schema = schema
        self.most = most
        self.features = {feature.name: feature for feature in schema.features}
        self.texts = {feature.name for feature in schema.features if isinstance(feature, TextFeature)}
        self.kinds = {feature.name: _type(feature) for feature in schema.features}
        attributes = {f"f{number}": feature for number, feature in enumerate(schema.features)}
        self.type = msgspec.defstruct(
            "Row",
            [(attribute, self.kinds[feature.name]) for attribute, feature in attributes.items()],
            rename={attribute: feature.name for attribute, feature in attributes.items()},
            forbid_unknown_fields=True,
            frozen=True,
            gc=False,
        )
        self._decoder = msgspec.json.Decoder(self.type | list[self.type])  # type: ignore[name-defined]
        pick = attrgetter(*attributes)
        self._pick = pick if len(attributes) > 1 else lambda row: (pick(row),)
        self._ranges = [
            (place, feature.name, feature.minimum, feature.maximum)
            for place, feature in enumerate(schema.features)
            if isinstance(feature, NumericFeature)
        ]

    def json(self, body: bytes) -> list[Row]:
        """The rows of a JSON text: an object, or an array of them.

        Raises
        ------
        Refused
            400: it is no JSON. 422: it is not rows of this schema.
        """
        try:
            decoded = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            decoded = []
        rows = decoded if isinstance(decoded, list) else [decoded]
        # Each key once and nothing else in quotes; msgspec would let the last of two equal keys win.
        quotes = 2 * len(rows) * (len(self.features) + len(self.texts))
        if 0 < len(rows) <= self.most and body.count(b'"') == quotes and b"\\" not in body:
            return [self._pick(row) for row in rows]
        value = parse(body)
        if isinstance(value, list):
            return self.rows(value)
        return self.rows([value], single=True)

    def rows(self, values: list[Any], *, single: bool = False) -> list[Row]:
        """The rows in a list of parsed objects; `single` where the one row is not in an array.

        Raises
        ------
        Refused
            422, with all faults.
        """
        self.counted(len(values))
        found = ((row, *each) for row, value in enumerate(values) for each in self._wrong(value))
        # Of a long body that is wrong everywhere few faults are told: to find the nearest name takes long.
        listed = [
            _fault("" if single else f"/{row}", row, name, reason or f"no such feature; {self._nearest(str(name))}")
            for row, name, reason in islice(found, MOST_FAULTS)
        ]
        if listed:
            raise wrong(listed, len(listed) + sum(1 for _ in found))
        return [
            tuple(
                float(value[name]) if isinstance(feature, NumericFeature) else value[name]
                for name, feature in self.features.items()
            )
            for value in values
        ]

    def counted(self, rows: int) -> None:
        """Hold a number of rows against what a request may hold.

        Raises
        ------
        Refused
            422: none, or more than that.
        """
        if not rows:
            raise wrong([Fault("no rows; at least one is wanted")], 1)
        if rows > self.most:
            raise wrong([Fault(f"{rows} rows; at most {self.most} in one request")], 1)

    def outside(self, row: Row) -> list[str]:
        """Names of the features whose value in a row is beyond what the training rows had."""
        return [name for place, name, low, high in self._ranges if not low <= row[place] <= high]  # type: ignore[operator]

    def beyond(self, rows: Rows) -> int:
        """The number of rows of which some feature is outside."""
        if not isinstance(rows, np.ndarray):
            return sum([bool(self.outside(row)) for row in rows])
        places, _, low, high = zip(*self._ranges, strict=True)
        asked = rows[:, places]
        return int(np.count_nonzero(~((low <= asked) & (asked <= high)).all(axis=1)))

    def _wrong(self, value: Any) -> Iterator[tuple[str | None, str]]:
        """Names in a parsed row, with what is wrong with each; nothing of one that is unknown."""
        if not isinstance(value, dict):
            yield None, f"an object of {len(self.features)} features is wanted, got {told(value)}"
            return
        for name in getattr(value, "repeated", ()):
            yield name, "is given more than once"
        for name in value:
            if name not in self.features:
                yield name, ""
        for name, feature in self.features.items():
            if name not in value:
                yield name, f"is missing; {_wanted(feature)} is wanted"
            elif misfit := _misfit(value[name], feature):
                yield name, misfit

    def _nearest(self, name: str) -> str:
        return did_you_mean(name[:SHOWN], self.features)


def _type(feature: NumericFeature | TextFeature) -> Any:
    """What a feature is in a row, with what the documentation shows of it."""
    if isinstance(feature, TextFeature):
        return Literal[tuple(feature.values)]
    seen = f"{feature.minimum:g} to {feature.maximum:g} {feature.unit}".rstrip() + " in the training rows"
    return Annotated[float, msgspec.Meta(description=seen, examples=[feature.median])]


def _misfit(value: Any, feature: NumericFeature | TextFeature) -> str | None:
    """Why a value cannot be a feature's."""
    if isinstance(feature, TextFeature):
        fits = isinstance(value, str) and value in feature.values
        return None if fits else f"{_wanted(feature)} is wanted, got {told(value)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{_wanted(feature)} is wanted, got {told(value)}"
    if isinstance(value, _Beyond) or not math.isfinite(value):
        return f"{told(value)} is beyond the numbers that 64 bits hold"
    return None


def _wanted(feature: NumericFeature | TextFeature) -> str:
    if isinstance(feature, TextFeature):
        return f"one of {', '.join(feature.values)}"
    return f"a number ({feature.unit})" if feature.unit else "a number"


def told(value: Any) -> str:
    """A client's value, shown back in little space and in ASCII: it may hold half a surrogate pair."""
    if isinstance(value, _Beyond):
        return _shortened(value.text)
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    return f"the text {_shortened(json.dumps(value))}" if isinstance(value, str) else _shortened(json.dumps(value))


def _fault(pointer: str, row: int, name: str | None, reason: str) -> Fault:
    if name is None:
        return Fault(f"row {row}: {reason}", pointer, row)
    safe = _shortened(name.encode("ascii", "backslashreplace").decode() if not name.isprintable() else name)
    return Fault(f"row {row}, {safe}: {reason}", f"{pointer}/{_escaped(safe)}", row, safe)


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    found = _Object(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        found.repeated = sorted(name for name, count in counts.items() if count > 1)
    return found


def _number(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _beyond(text)


def _beyond(text: str) -> _Beyond:
    value = _Beyond("nan")
    value.text = text
    return value
