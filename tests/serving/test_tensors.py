"""Tensors of the Open Inference Protocol, of numbers and texts, as JSON and as bytes."""

import json
import math
import struct
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wineexp.data import schema
from wineexp.data.schema import Schema
from wineexp.serving.http.problems import ProblemError
from wineexp.serving.model.rows import RowParser
from wineexp.serving.routes.tensors import ParsedOutput, encode_response, parse_request


def make_parser(X: pd.DataFrame) -> RowParser:
    features = schema.describe_features(X, dict.fromkeys(X, ""), dict.fromkeys(X, ""))
    return RowParser(Schema("red", "grade", "quality", ["1"], False, "accuracy", features, []), 100)


@pytest.fixture(scope="module")
def mixed() -> RowParser:
    return make_parser(pd.DataFrame({"ash": [1.0, 2.0], "colour": ["red", "white"], "hue": [0.5, 3.0]}))


@pytest.fixture(scope="module")
def numbers() -> RowParser:
    return make_parser(pd.DataFrame({"ash": [1.0, 2.0], "hue": [0.5, 3.0]}))


def texts(*values: str) -> bytes:
    return b"".join(struct.pack("<I", len(value.encode())) + value.encode() for value in values)


def request(tensors: list[dict[str, Any]], *parts: bytes) -> tuple[int, bytes]:
    described = [
        tensor | {"parameters": {"binary_data_size": len(part)}} for tensor, part in zip(tensors, parts, strict=True)
    ]
    head = json.dumps({"inputs": described}).encode()
    return len(head), b"".join([head, *parts])


def test_numbers_and_texts_come_as_bytes_in_any_order(mixed: RowParser) -> None:
    body = request(
        [
            {"name": "colour", "datatype": "BYTES", "shape": [2, 1]},
            {"name": "hue", "datatype": "FP32", "shape": [2]},
            {"name": "ash", "datatype": "INT64", "shape": [2]},
        ],
        texts("white", "red"),
        np.array([0.5, np.nan], "<f4").tobytes(),
        np.array([3, -4], "<i8").tobytes(),
    )
    (first, second) = parse_request(mixed, "wine", *body).rows
    assert first == (3.0, "white", 0.5)
    assert second[:2] == (-4.0, "red")
    assert isinstance(second[2], float)
    assert math.isnan(second[2])


@pytest.mark.parametrize("names", [["ash", "hue"], ["hue", "ash"]])
def test_columns_of_numbers_are_put_in_the_schemas_order(numbers: RowParser, names: list[str]) -> None:
    columns = {"ash": np.array([1.5, 2.5]), "hue": np.array([7.0, np.nan])}
    tensors = [{"name": name, "datatype": "FP64", "shape": [2]} for name in names]
    rows = parse_request(numbers, "wine", *request(tensors, *(columns[name].tobytes() for name in names))).rows
    np.testing.assert_array_equal(np.array(rows), np.column_stack([columns["ash"], columns["hue"]]))


def test_what_is_wrong_with_values_names_row_and_field(numbers: RowParser) -> None:
    table = {"name": "x", "datatype": "FP64", "shape": [3, 2]}
    body = request([table], np.array([1, 2, np.inf, 4, 5, -np.inf]).tobytes())
    with pytest.raises(ProblemError) as refused:
        parse_request(numbers, "wine", *body)
    assert [(fault.row, fault.field) for fault in refused.value.faults] == [(1, "ash"), (2, "hue")]


@pytest.mark.parametrize("part", [texts("red"), texts("red", "white")[:-1], b"\x01\0\0", b"\x01\0\0\0\xff"])
def test_wrong_texts_are_refused(mixed: RowParser, part: bytes) -> None:
    tensors = [
        {"name": "colour", "datatype": "BYTES", "shape": [2]},
        *({"name": name, "datatype": "UINT8", "shape": [2]} for name in ("ash", "hue")),
    ]
    with pytest.raises(ProblemError) as refused:
        parse_request(mixed, "wine", *request(tensors, part, b"\1\1", b"\1\1"))
    assert refused.value.status_code == 422


def test_texts_may_hold_brackets_and_commas_but_values_may_not_be_many(mixed: RowParser) -> None:
    def parse(colour: Any) -> Any:
        columns = {"ash": [1.0], "colour": colour, "hue": [0.5]}
        datatypes = {"ash": "FP64", "colour": "BYTES", "hue": "FP64"}
        inputs = [
            {"name": name, "datatype": datatypes[name], "shape": [1], "data": data} for name, data in columns.items()
        ]
        return parse_request(mixed, "wine", None, json.dumps({"inputs": inputs}).encode()).rows

    for text in ("[[a]]", '"[{' + "," * 3000):
        ((_, colour, _),) = parse([text])
        assert colour == text
    for values, fault in (([["red"], ["red"]], "as many values as the shape says"), (["red"] * 3000, "more than")):
        with pytest.raises(ProblemError) as refused:
            parse(values)
        assert fault in refused.value.faults[0].detail


def test_texts_and_numbers_are_given_as_bytes() -> None:
    values = {"class": np.array([["é"], ["good"]], dtype=object), "probabilities": np.array([[0.25, 0.75], [0.5, 0.5]])}
    outputs = [ParsedOutput("probabilities", True), ParsedOutput("class", True)]
    body, length = encode_response("wine", "2", "", outputs, values)
    assert length is not None
    head = json.loads(body[:length])
    assert [each["parameters"]["binary_data_size"] for each in head["outputs"]] == [32, 14]
    assert body[length:] == values["probabilities"].tobytes() + texts("é", "good")
