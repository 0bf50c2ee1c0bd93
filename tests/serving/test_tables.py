"""Many rows in MLflow's `dataframe_split`: the fast parser agrees with the strict one, or leaves a body to it."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.serving.conftest import Server
from tests.serving.test_predictions import problem
from wineexp.data import schema
from wineexp.data.schema import Schema
from wineexp.serving.model.rows import RowParser
from wineexp.serving.routes.tables import parse_split

ROWS = 2000


@pytest.fixture(scope="module")
def table(server: Server) -> pd.DataFrame:
    """So many rows that they are parsed in a thread, within and outside the training range."""
    samples = pd.DataFrame([sample["row"] for sample in server.get("/model").json()["schema"]["samples"]])
    rng = np.random.default_rng(0)
    rows = samples.sample(ROWS, replace=True, random_state=0, ignore_index=True)
    return rows * rng.uniform(0.8, 1.25, rows.shape)


def counts(server: Server, labels: list[str]) -> list[float]:
    return [
        server.metric("wineexp_rows_out_of_range_total"),
        *(server.metric("wineexp_predictions_total", **{"class": label}) for label in labels),
    ]


def test_a_large_table_is_predicted_and_counted_as_its_rows_are(server: Server, table: pd.DataFrame) -> None:
    predictions = server.post("/predict", table.to_dict("records")).json()["predictions"]
    labels = server.get("/model").json()["schema"]["classes"]
    before = counts(server, labels)
    body = json.dumps({"dataframe_split": table[table.columns[::-1]].to_dict("split")})
    assert len(body) > 100_000
    response = server.post("/invocations", body).json()
    assert response == {"predictions": [int(prediction["class"]) for prediction in predictions]}
    out_of_range = sum(bool(prediction["out_of_range"]) for prediction in predictions)
    assert 0 < out_of_range < ROWS
    by_class = [sum(prediction["class"] == label for prediction in predictions) for label in labels]
    added = [after - count for after, count in zip(counts(server, labels), before, strict=True)]
    assert added == [out_of_range, *by_class]


@pytest.mark.parametrize("value", ["many", {}, [1], 1e400, -float("inf")])
def test_a_fault_in_a_large_table_names_row_and_field(server: Server, table: pd.DataFrame, value: Any) -> None:
    split = table.to_dict("split", index=False)
    split["data"][1500][3] = value
    body = json.dumps({"dataframe_split": split})
    (fault,) = problem(server.post("/invocations", body), 422)["errors"]
    assert (fault["row"], fault["field"]) == (1500, table.columns[3])


def test_a_malformed_large_table_is_refused(server: Server, table: pd.DataFrame) -> None:
    correct = table.to_dict("split", index=False)
    short, wide = (json.loads(json.dumps(correct)) for _ in range(2))
    short["data"][7].pop()
    wide["data"][7].append(1)
    bodies = [
        json.dumps({"dataframe_split": split}) for split in (short, wide, correct | {"columns": correct["columns"][1:]})
    ]
    text = json.dumps({"dataframe_split": correct})
    bodies += [text.replace('"data": ', f'"{key}": [], "data": ', 1) for key in ("data", "columns", "more")]
    bodies += [text.replace('{"dataframe_split": ', '{"params": {"a": 1}, "dataframe_split": ', 1)]
    for body in bodies:
        assert problem(server.post("/invocations", body), 422)["errors"]
    assert problem(server.post("/invocations", text[:-5]), 400)["detail"]


@pytest.fixture(scope="module")
def parser() -> RowParser:
    """For rows with a text between numbers."""
    X = pd.DataFrame({"ash": [1.0, 2.0], "colour": pd.Series(["red", "white"], dtype="str"), "hue": [0.5, 3.0]})
    features = schema.describe_features(X, {"ash": "g/l", "colour": "", "hue": ""}, dict.fromkeys(X, ""))
    return RowParser(Schema("red", "grade", "quality", ["1"], False, "accuracy", features, []), 3)


def split_body(columns: list[str], *data: list[Any], **more: Any) -> bytes:
    return json.dumps({"dataframe_split": {"columns": columns, "data": data, **more}}).encode()


def test_rows_with_a_text_are_parsed_in_the_schemas_order(parser: RowParser) -> None:
    body = split_body(["hue", "colour", "ash"], [1, "red", 2], [3.5, "white", -4], index=[0, 1])
    assert parse_split(parser, body) == [(2.0, "red", 1.0), (-4.0, "white", 3.5)]
    assert parser.count_out_of_range(parse_split(parser, body) or []) == 1


@pytest.mark.parametrize(
    "body",
    [
        split_body(["ash", "colour", "hue"]),
        split_body(["ash", "colour", "hue"], *[[1, "red", 2]] * 4),
        split_body(["ash", "colour", "hue"], [1, "rosé", 2]),
        split_body(["ash", "colour", "hue"], [1, 2, 2]),
        split_body(["ash", "colour"], [1, "red"]),
        split_body(["ash", "colour", "colour"], [1, "red", "red"]),
        split_body(["ash", "colour", "hue"], [1, "red", 2]).replace(b'"red"', b'"r\\u0065d"'),
        split_body(["ash", "colour", "hue"], [1, "red", 2]).replace(b'"data"', b'"data": [], "data"'),
        split_body(["ash", "colour", "hue"], [1, "red", 2], index=["first"]),
        b'{"dataframe_split": {}}',
        b"[" * 5000,
        b"\xff",
    ],
)
def test_an_unusual_body_is_left_to_the_strict_parser(parser: RowParser, body: bytes) -> None:
    assert parse_split(parser, body) is None


def test_a_number_beyond_64_bits_is_left_to_the_strict_parser(parser: RowParser) -> None:
    body = split_body(["ash", "colour", "hue"], [1, "red", 2])
    assert parse_split(parser, body.replace(b"[1,", b"[1e400,")) is None
    assert parse_split(parser, body.replace(b"[1,", b"[NaN,")) is None
