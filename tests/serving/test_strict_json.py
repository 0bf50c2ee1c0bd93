"""Values of a JSON text that are decoded one at a time: they are those of the whole text."""

import json
import random
from typing import Any

import pytest

from wineexp.serving.http.problems import ProblemError
from wineexp.serving.model import strict_json
from wineexp.serving.model.strict_json import MAX_KEYS, MAX_VALUES, Value

TEXTS = [
    r'[{"a": [1, 2, {"b": "c\"d"}], "x": -1.5e3}, [1, null, true], "s\\", "é"]',
    '{"a": [1, 2], "b": {"c": 1}, "d": "]"}',
    '[1, [2, {}], "x", []]',
]
PIECES = b'[]{},:"\\ 1ax\n\x80.-'


def decoded(value: Value) -> Any:
    if value.is_array:
        return [each.decode() for each in value.elements()]
    if value.is_object:
        return {key: each.decode() for key, each in value.members().items()}
    return value.decode()


def whole(body: bytes) -> Any:
    """The text decoded at once; None where it is no JSON."""
    try:
        value = json.loads(body.decode(), parse_int=float)
    except ValueError:
        return None
    return value


def test_mutated_texts_are_decoded_or_refused_as_a_whole_is() -> None:
    rng = random.Random(0)
    n_right = 0
    for _ in range(5000):
        body = bytearray(rng.choice(TEXTS).encode())
        for _ in range(rng.randint(0, 2)):
            at = rng.randrange(len(body))
            body[at : at + rng.randint(0, 2)] = bytes([rng.choice(PIECES)])
        expected = whole(bytes(body))
        try:
            value = decoded(strict_json.read(bytes(body)))
        except ProblemError:
            assert expected is None, body
        else:
            assert value == expected, body
            n_right += 1
    assert 1000 < n_right < 4000


@pytest.mark.parametrize("n_texts", [999, 1000, 1001, 20_001])
def test_long_arrays_end_where_they_end(n_texts: int) -> None:
    array = ["]"] * n_texts
    assert decoded(strict_json.read(json.dumps([array, {"a": array}, 1]).encode())) == [array, {"a": array}, 1]


@pytest.mark.parametrize(
    "body",
    [
        b'[{"x": [' + b"1," * MAX_VALUES + b"1]}]",
        b"[" + b"[" * (MAX_VALUES + 2) + b"]" * (MAX_VALUES + 2) + b"]",
        b"{" + b'"a": 1,' * MAX_KEYS + b'"a": 1}',
    ],
    ids=["values", "depth", "keys"],
)
def test_what_would_take_much_memory_decoded_is_refused(body: bytes) -> None:
    with pytest.raises(ProblemError) as refused:
        decoded(strict_json.read(body))
    assert refused.value.status_code == 422
