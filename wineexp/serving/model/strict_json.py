"""Decodes JSON so that repeated keys, and numbers that 64 bits do not hold, can be refused afterwards."""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from wineexp.serving.http.problems import ProblemError

# Characters of a client's own text that an error message repeats.
MAX_SHOWN_CHARS = 60


class UnrepresentableNumber(float):
    """A number that 64 bits do not hold, or that JSON does not have, with its spelling."""

    text: str


class _Object(dict[str, Any]):
    """A JSON object with the names of the keys that it holds more than once."""

    repeated: Sequence[str] = ()


def decode(body: bytes) -> Any:
    """A JSON text as Python objects.

    An object that holds a key twice has the attribute `repeated`; a number that is too large and `Infinity` become
    `UnrepresentableNumber`; `NaN`, as which Python writes a missing number, becomes None.

    Raises
    ------
    ProblemError
        400: it is not UTF-8, not JSON, or nested too deeply.
    """
    try:
        return json.loads(
            body.decode(),
            object_pairs_hook=_object,
            parse_float=_number,
            parse_int=_number,
            parse_constant=_constant,
        )
    except UnicodeDecodeError as error:
        raise ProblemError(400, f"the body is not UTF-8: byte {error.start} is {body[error.start]:#04x}") from error
    except RecursionError as error:
        raise ProblemError(400, "the body is nested too deeply") from error
    except ValueError as error:
        raise ProblemError(400, f"the body is not JSON: {error}" if body.strip() else "the body is empty") from error


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


def _object(pairs: list[tuple[str, Any]]) -> _Object:
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
