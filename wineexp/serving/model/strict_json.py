"""Decodes JSON so that repeated keys, and numbers that 64 bits do not hold, can be refused afterwards.

Decoded, a value takes up to a hundred times the memory of its text. A body is therefore not decoded as a whole: `read`
finds where its values begin and end, and they are decoded one at a time.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from wineexp.serving.http.problems import Fault, ProblemError, unprocessable

# Values within a value that is decoded, and keys of an object whose values are decoded one at a time; a row has fewer.
MAX_VALUES = 100_000
MAX_KEYS = 10_000

# Characters of a client's own text that an error message repeats.
MAX_SHOWN_CHARS = 60


_SPACE = re.compile(rb"[ \t\n\r]*+")
# This repetition is possessive: a part of it fails nowhere but at the end of the text; see below.
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_SCALAR = re.compile(_STRING + rb'|[^ \t\n\r,:\[\]{}"]++', re.DOTALL)
_STRING_OR_NOT = re.compile(_STRING + rb'|[^"]++', re.DOTALL)
# A string, or what lies between strings and brackets. It is repeated within atomic groups: up to Python 3.11.4, a
# possessive repetition goes on behind a part that did not match (https://github.com/python/cpython/issues/106052). Each
# repetition takes memory until its group ends, so that they are limited.
_NO_BRACKETS = rb'(?:[^\[\]{}"]++|' + _STRING + rb")"
_FEW = rb"(?>" + _NO_BRACKETS + rb"{0,1000})"
# Everything up to the next bracket that holds others; not more at once, so that other threads get the GIL in between.
_FLAT = re.compile(rb"(?>(?:" + _NO_BRACKETS + rb"|\{" + _FEW + rb"\}|\[" + _FEW + rb"\]){0,10000})", re.DOTALL)


class UnrepresentableNumber(float):
    """A number that 64 bits do not hold, or that JSON does not have, with its spelling."""

    text: str


class _Object(dict[str, Any]):
    """A JSON object with the names of the keys that it holds more than once."""

    repeated: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Value:
    """A value in a JSON text: its place. It is not decoded yet, and may not be JSON."""

    text: bytes
    start: int
    end: int

    @property
    def is_object(self) -> bool:
        """Whether it is an object."""
        return self.text[self.start] == ord("{")

    @property
    def is_array(self) -> bool:
        """Whether it is an array."""
        return self.text[self.start] == ord("[")

    def decode(self, max_values: int = MAX_VALUES) -> Any:
        """Decode it.

        An object that holds a key twice has the attribute `repeated`; a number that is too large and `Infinity` become
        `UnrepresentableNumber`; `NaN`, as which Python writes a missing number, becomes None.

        Raises
        ------
        ProblemError
            400: it is not UTF-8, not JSON, or nested too deeply. 422: it holds more than `max_values` values.
        """
        if self.has_more_than(max_values + 1, b",", b"[", b"{"):
            raise unprocessable([Fault(f"more than {max_values} values, from byte {self.start} of the body on")])
        part = self.text[self.start : self.end]
        try:
            return json.loads(
                part.decode(),
                object_pairs_hook=_object,
                parse_float=_number,
                parse_int=_number,
                parse_constant=_constant,
            )
        except UnicodeDecodeError as error:
            place = f"byte {self.start + error.start} is {part[error.start]:#04x}"
            raise ProblemError(400, f"the body is not UTF-8: {place}") from error
        except RecursionError as error:
            raise ProblemError(400, "the body is nested too deeply") from error
        except json.JSONDecodeError as error:
            raise _malformed(error.msg, self.start + len(error.doc[: error.pos].encode())) from error

    def has_more_than(self, limit: int, *signs: bytes) -> bool:
        """Whether there are more than `limit` of these signs in it, not counting those within strings."""
        # The quick count is too high where strings hold some.
        if sum(self.text.count(sign, self.start, self.end) for sign in signs) <= limit:
            return False
        n_signs = 0
        for part in _STRING_OR_NOT.finditer(self.text, self.start, self.end):
            if not part[0].startswith(b'"'):
                n_signs += sum(map(part[0].count, signs))
            if n_signs > limit:
                return True
        return False

    def elements(self) -> Iterator["Value"]:
        """The elements of an array, one after the other.

        Raises
        ------
        ProblemError
            400: it is not JSON from some element on.
        """
        position = self._first(b"]")
        while position is not None:
            value = Value(self.text, position, _end(self.text, position))
            yield value
            position = self._next(value.end, b"]")

    def members(self) -> dict[str, "Value"]:
        """The values of an object by their keys, of which those that it holds more than once are in `repeated`.

        Raises
        ------
        ProblemError
            400: it is not JSON. 422: it has more than `MAX_KEYS` keys.
        """
        pairs = list(islice(self._pairs(), MAX_KEYS + 1))
        if len(pairs) > MAX_KEYS:
            raise unprocessable(
                [Fault(f"an object of more than {MAX_KEYS} keys, from byte {self.start} of the body on")]
            )
        return _object(pairs)

    def check(self) -> None:
        """Check that it is JSON, decoding it, but keeping nothing.

        Raises
        ------
        ProblemError
            As `decode`.
        """
        for value in self.elements() if self.is_array else [self]:
            value.decode()

    def _pairs(self) -> Iterator[tuple[str, "Value"]]:
        position = self._first(b"}")
        while position is not None:
            if self.text[position : position + 1] != b'"':
                raise _malformed("a key in double quotes is wanted", position)
            key = Value(self.text, position, _end(self.text, position))
            position = _after_space(self.text, key.end)
            if self.text[position : position + 1] != b":":
                raise _malformed("a colon is wanted", position)
            position = _after_space(self.text, position + 1)
            value = Value(self.text, position, _end(self.text, position))
            yield key.decode(), value
            position = self._next(value.end, b"}")

    def _first(self, bracket: bytes) -> int | None:
        """Where the first item of this array or object begins; None if there is none."""
        position = _after_space(self.text, self.start + 1)
        if self.text[position : position + 1] != bracket:
            return position
        self._check_end(position)
        return None

    def _next(self, position: int, bracket: bytes) -> int | None:
        """Where the next item of this array or object begins; None if there is none."""
        position = _after_space(self.text, position)
        after = self.text[position : position + 1]
        if after == b",":
            return _after_space(self.text, position + 1)
        if after != bracket:
            raise _malformed(f"a comma or {bracket.decode()} is wanted", position)
        self._check_end(position)
        return None

    def _check_end(self, position: int) -> None:
        """Check that a bracket at a position is the last byte of this array or object."""
        if position + 1 != self.end:
            raise _malformed("nothing is wanted after this bracket", position)


def read(body: bytes) -> Value:
    """The value that a JSON text is.

    Raises
    ------
    ProblemError
        400: it is empty.
    """
    start, end = _after_space(body, 0), len(body.rstrip(b" \t\n\r"))
    if start >= end:
        raise ProblemError(400, "the body is empty")
    # Whether it ends there is found out where it is decoded.
    return Value(body, start, end)


def _after_space(text: bytes, position: int) -> int:
    return _SPACE.match(text, position).end()  # type: ignore[union-attr]


def _end(text: bytes, start: int) -> int:
    """Where the value ends that begins at a position."""
    if text[start : start + 1] not in (b"{", b"["):
        scalar = _SCALAR.match(text, start)
        if scalar is None:
            raise _malformed("a value is wanted", start)
        return scalar.end()
    position, depth = start, 0
    while True:
        bracket = text[position : position + 1]
        if bracket in (b"{", b"["):
            depth += 1
            position += 1
        elif bracket in (b"}", b"]"):
            depth -= 1
            position += 1
            if not depth:
                return position
        else:
            flat = _FLAT.match(text, position)
            if flat is None or flat.end() == position:
                raise _malformed("a string is not closed" if bracket else "a bracket is not closed", position)
            position = flat.end()


def _malformed(message: str, position: int) -> ProblemError:
    return ProblemError(400, f"the body is not JSON: {message}: byte {position}")


def renamed(value: dict[str, Any], new_name: Callable[[str], str | None]) -> dict[str, Any]:
    """A decoded object with other keys, and without those that become None; the attribute `repeated` follows them."""
    repeated = [(key, None) for key in getattr(value, "repeated", ())]
    pairs = [(new_name(key), item) for key, item in [*value.items(), *repeated]]
    return _object([(key, item) for key, item in pairs if key is not None])


def describe(value: Any) -> str:
    """A client's value for an error message: short, and in ASCII, since it may hold half a surrogate pair."""
    if isinstance(value, UnrepresentableNumber):
        return shortened(value.text)
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    return f"the text {shortened(json.dumps(value))}" if isinstance(value, str) else shortened(json.dumps(value))


def shortened(text: str) -> str:
    """At most `MAX_SHOWN_CHARS` characters of a text."""
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}..."


def _object(pairs: Sequence[tuple[str, Any]]) -> _Object:
    value = _Object(pairs)
    if len(value) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        value.repeated = sorted(name for name, count in counts.items() if count > 1)
    return value


def _number(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _unrepresentable(text)


def _constant(text: str) -> UnrepresentableNumber | None:
    return None if text == "NaN" else _unrepresentable(text)


def _unrepresentable(text: str) -> UnrepresentableNumber:
    value = UnrepresentableNumber("nan")
    value.text = text
    return value
