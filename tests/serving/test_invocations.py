"""Files as people have them, sent to /invocations: what MLflow's server answers is answered here, too."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wineexp.data import schema
from wineexp.data.schema import Schema
from wineexp.serving.http.problems import ProblemError
from wineexp.serving.model.rows import RowParser
from wineexp.serving.routes import mlflow

# The file that training reads names its columns with spaces, and the features have underscores.
FILE = '"fixed acidity";"alcohol";"colour";"organic";"quality"\n7.4;9.4;"red";True;5\n7.8;;"white";False;6\n'
ROWS = [(7.4, 9.4, "red", "True"), (7.8, None, "white", "False")]


@pytest.fixture(scope="module")
def parser() -> RowParser:
    X = pd.DataFrame(
        {
            "fixed_acidity": [1.0, 20.0],
            "alcohol": [np.nan, 15.0],
            "colour": ["red", "white"],
            "organic": [True, False],
        }
    )
    features = schema.describe_features(X, dict.fromkeys(X, ""), dict.fromkeys(X, ""))
    return RowParser(Schema("red", "grade", "quality", ["1"], False, "accuracy", features, []), 100)


def without_nan(rows: Any) -> list[tuple[Any, ...]]:
    return [tuple(None if isinstance(value, float) and math.isnan(value) else value for value in row) for row in rows]


TABLE = pd.DataFrame(ROWS, columns=["fixed acidity", "alcohol", "colour", "organic"]).assign(quality=[5, 6])


@pytest.mark.parametrize(
    "text",
    [
        FILE,
        FILE.replace(";", ","),
        FILE.replace(";", "\t"),
        FILE.replace("fixed acidity", "fixed_acidity"),
        "\ufeff" + FILE,
        "\ufeffsep=;\r\n" + FILE.replace("\n", "\r\n"),
        "sep=|\n" + FILE.replace(";", "|"),
        FILE.replace("True", "TRUE").replace("False", "FALSE"),
        FILE.replace(";;", ";NA;"),
        TABLE.to_csv(),
        TABLE[TABLE.columns[::-1]].to_csv(index=False),
    ],
    ids=["file", "commas", "tabs", "underscores", "mark", "sep", "bar", "spreadsheet", "NA", "index", "other order"],
)
def test_the_file_that_a_model_was_trained_on_is_accepted(parser: RowParser, text: str) -> None:
    assert without_nan(mlflow.parse_csv(parser, text.encode())) == ROWS


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": json.loads(TABLE.to_json(orient="split"))},
        {"dataframe_records": json.loads(TABLE.to_json(orient="records"))},
        {"instances": json.loads(TABLE.to_json(orient="records"))},
        {"inputs": {name: json.loads(column.to_json(orient="values")) for name, column in TABLE.items()}},
        {"inputs": json.loads(TABLE.astype(str).replace("nan", None).to_json(orient="records"))},
    ],
    ids=["split", "records", "instances", "inputs", "texts"],
)
def test_extra_columns_are_ignored_and_values_may_be_missing(parser: RowParser, body: Any) -> None:
    assert without_nan(mlflow.parse_json(parser, json.dumps(body).encode())) == ROWS


def faults(parser: RowParser, text: str) -> list[str]:
    with pytest.raises(ProblemError) as refused:
        mlflow.parse_csv(parser, text.encode())
    return [fault.detail for fault in refused.value.faults]


def test_what_is_wrong_with_a_file_is_named(parser: RowParser) -> None:
    assert faults(parser, FILE.replace("alcohol", "alcool").replace("colour", "color")) == [
        "the column alcohol is missing",
        "the column colour is missing",
    ]
    assert faults(parser, FILE.replace("7.4", "7,4").replace("red", "rosé")) == [
        'row 0, fixed_acidity: a number is wanted, got the text "7,4"; decimals are written with a point',
    ]
    twice = FILE.replace("quality", "fixed_acidity")
    assert faults(parser, twice) == ['columns names the text "fixed_acidity" more than once']
