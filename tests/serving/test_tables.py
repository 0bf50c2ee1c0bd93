"""Many rows in MLflow's own form: read at once where they are plain, and in every other case as strictly as any."""

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
    """So many rows that they are read beside the event loop: within the training range and beyond it."""
    samples = pd.DataFrame([sample["row"] for sample in server.get("/model").json()["schema"]["samples"]])
    rng = np.random.default_rng(0)
    many = samples.sample(ROWS, replace=True, random_state=0, ignore_index=True)
    return many * rng.uniform(0.8, 1.25, many.shape)


def counted(server: Server, labels: list[str]) -> list[float]:
    return [
        server.metric("wineexp_rows_out_of_range_total"),
        *(server.metric("wineexp_predictions_total", **{"class": label}) for label in labels),
    ]


def test_a_large_table_is_answered_and_counted_as_its_rows_are(server: Server, table: pd.DataFrame) -> None:
    answers = server.post("/predict", table.to_dict("records")).json()["predictions"]
    labels = server.get("/model").json()["schema"]["classes"]
    before = counted(server, labels)
    body = json.dumps({"dataframe_split": table[table.columns[::-1]].to_dict("split")})
    assert len(body) > 100_000
    assert server.post("/invocations", body).json() == {"predictions": [int(each["class"]) for each in answers]}
    outside = sum(bool(each["out_of_range"]) for each in answers)
    assert 0 < outside < ROWS
    more = [outside, *(sum(each["class"] == label for each in answers) for label in labels)]
    assert [now - then for now, then in zip(counted(server, labels), before, strict=True)] == more


@pytest.mark.parametrize("value", ["many", None, True, [1], 1e400, float("nan")])
def test_a_fault_in_a_large_table_is_named_by_row_and_field(server: Server, table: pd.DataFrame, value: Any) -> None:
    told = table.to_dict("split", index=False)
    told["data"][1500][3] = value
    body = json.dumps({"dataframe_split": told})
    (fault,) = problem(server.post("/invocations", body), 422)["errors"]
    assert (fault["row"], fault["field"]) == (1500, table.columns[3])


def test_what_makes_a_large_table_none_is_refused(server: Server, table: pd.DataFrame) -> None:
    good = table.to_dict("split", index=False)
    short, wide = (json.loads(json.dumps(good)) for _ in range(2))
    short["data"][7].pop()
    wide["data"][7].append(1)
    bodies = [json.dumps({"dataframe_split": each}) for each in (short, wide, good | {"columns": good["columns"][1:]})]
    text = json.dumps({"dataframe_split": good})
    bodies += [text.replace('"data": ', f'"{key}": [], "data": ', 1) for key in ("data", "columns", "more")]
    bodies += [text.replace('{"dataframe_split": ', '{"params": {"a": 1}, "dataframe_split": ', 1)]
    for body in bodies:
        assert problem(server.post("/invocations", body), 422)["errors"]
    assert problem(server.post("/invocations", text[:-5]), 400)["detail"]


@pytest.fixture(scope="module")
def parser() -> RowParser:
    """Of rows with a text between numbers."""
    X = pd.DataFrame({"ash": [1.0, 2.0], "colour": pd.Series(["red", "white"], dtype="str"), "hue": [0.5, 3.0]})
    features = schema.describe_features(X, {"ash": "g/l", "colour": "", "hue": ""})
    return RowParser(Schema("red", "grade", "quality", ["1"], False, "accuracy", features, []), 3)


def said(columns: list[str], *data: list[Any], **more: Any) -> bytes:
    return json.dumps({"dataframe_split": {"columns": columns, "data": data, **more}}).encode()


def test_rows_with_a_text_are_read_in_the_schemas_order(parser: RowParser) -> None:
    body = said(["hue", "colour", "ash"], [1, "red", 2], [3.5, "white", -4], index=[0, 1])
    assert parse_split(parser, body) == [(2.0, "red", 1.0), (-4.0, "white", 3.5)]
    assert parser.count_outside_range(parse_split(parser, body) or []) == 1


@pytest.mark.parametrize(
    "body",
    [
        said(["ash", "colour", "hue"]),
        said(["ash", "colour", "hue"], *[[1, "red", 2]] * 4),
        said(["ash", "colour", "hue"], [1, "rosé", 2]),
        said(["ash", "colour", "hue"], [1, 2, 2]),
        said(["ash", "colour"], [1, "red"]),
        said(["ash", "colour", "colour"], [1, "red", "red"]),
        said(["ash", "colour", "hue"], [1, "red", 2]).replace(b'"red"', b'"r\\u0065d"'),
        said(["ash", "colour", "hue"], [1, "red", 2]).replace(b'"data"', b'"data": [], "data"'),
        said(["ash", "colour", "hue"], [1, "red", 2], index=["first"]),
        b'{"dataframe_split": {}}',
        b"[" * 5000,
        b"\xff",
    ],
)
def test_what_is_not_plain_is_left_to_the_strict_way(parser: RowParser, body: bytes) -> None:
    assert parse_split(parser, body) is None


def test_a_number_that_64_bits_do_not_hold_is_left_to_it_too(parser: RowParser) -> None:
    body = said(["ash", "colour", "hue"], [1, "red", 2])
    assert parse_split(parser, body.replace(b"[1,", b"[1e400,")) is None
    assert parse_split(parser, body.replace(b"[1,", b"[NaN,")) is None
