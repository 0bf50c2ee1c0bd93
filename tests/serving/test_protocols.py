"""MLflow's scoring protocol, and the first one of KServe."""

import csv
import gzip
import json
import zlib
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server

from tests.serving.conftest import Server, Store
from tests.serving.test_open_inference import tensors
from tests.serving.test_predictions import problem


def bodies(samples: pd.DataFrame) -> dict[str, Any]:
    split, records = samples.to_dict("split"), samples.to_dict("records")
    reordered = samples[samples.columns[::-1]].to_dict("split", index=False)
    return {
        "split": {"dataframe_split": split},
        "split, other order": {"dataframe_split": reordered},
        "records": {"dataframe_records": records},
        "instances": {"instances": records},
        "instances in columns": {"instances": samples.to_dict("list")},
        "inputs": {"inputs": samples.to_dict("list")},
        "inputs in rows": {"inputs": records, "params": {}},
        "numbers as texts": {"dataframe_records": json.loads(samples.astype(str).to_json(orient="records"))},
    }


@pytest.mark.parametrize("name", bodies(pd.DataFrame({"a": [1]})))
def test_every_format_of_mlflow_gives_the_models_labels(
    server: Server, samples: pd.DataFrame, expected_answers: Any, name: str
) -> None:
    response = server.post("/invocations", bodies(samples)[name])
    assert response.status_code == 200, response.text
    assert response.json() == {"predictions": expected_answers[0].tolist()}


def mlflows_cases(samples: pd.DataFrame) -> dict[str, tuple[str, Any]]:
    """Bodies as they may come to `mlflow models serve`, with their media types."""
    records, columns = samples.to_dict("records"), samples.to_dict("list")
    texts = samples.astype(str)
    json_bodies = {
        "other column": {"dataframe_records": [record | {"more": "a"} for record in records]},
        "other column in a table": {"dataframe_split": samples.assign(more="a").to_dict("split")},
        "missing value": {"dataframe_records": [record | {"ash": None} for record in records]},
        "missing column": {"dataframe_records": [{"ash": 1}]},
        "truth value": {"dataframe_records": [record | {"ash": True} for record in records]},
        "texts": {"dataframe_split": texts.to_dict("split")},
        "texts in columns": {"inputs": texts.to_dict("list")},
        "words": {"dataframe_records": [record | {"ash": "many"} for record in records]},
        "one record": {"dataframe_records": records[0]},
        "one instance": {"instances": records[0]},
        "one input": {"inputs": records[0]},
        "instances in columns": {"instances": columns},
        "arrays as instances": {"instances": samples.to_numpy().tolist()},
        "arrays as inputs": {"inputs": samples.to_numpy().tolist()},
        "columns of arrays": {"inputs": {name: [[value] for value in values] for name, values in columns.items()}},
        "a list": records,
    }
    row = texts.iloc[[0]]
    csv_bodies = {
        "index": samples.to_csv(),
        "other column": samples.assign(more="a").to_csv(index=False),
        "byte order mark": "\ufeff" + samples.to_csv(index=False),
        "quotes": samples.to_csv(index=False, quoting=csv.QUOTE_ALL),
        "spaces": (" " + texts + " ").to_csv(index=False),
        "empty cell": row.assign(ash="").to_csv(index=False),
        "NA": row.assign(ash="NA").to_csv(index=False),
        "exponent": row.assign(ash="1e0").to_csv(index=False),
        "word": row.assign(ash="many").to_csv(index=False),
        "underscore": row.assign(ash="1_0").to_csv(index=False),
        "hexadecimal": row.assign(ash="0x0E").to_csv(index=False),
        "infinite": row.assign(ash="inf").to_csv(index=False),
        "no row": row.iloc[:0].to_csv(index=False),
    }
    cases = {name: ("application/json", json.dumps(body)) for name, body in json_bodies.items()}
    cases["byte order mark"] = ("application/json", "\ufeff" + json.dumps({"inputs": columns}))
    return cases | {f"CSV, {name}": ("text/csv", body) for name, body in csv_bodies.items()}


@pytest.fixture(scope="module")
def mlflows_model(store: Store) -> Any:
    return mlflow.pyfunc.load_model(str(store.files(2)))


@pytest.mark.parametrize("name", mlflows_cases(pd.DataFrame({"ash": [1.0]})))
def test_mlflows_server_answers_the_same_bodies_with_the_same_labels(
    server: Server, samples: pd.DataFrame, mlflows_model: Any, name: str
) -> None:
    media_type, body = mlflows_cases(samples)[name]
    schema = mlflows_model.metadata.get_input_schema()
    try:
        theirs = scoring_server.invocations(body.encode(), media_type, mlflows_model, schema)
    except MlflowException:
        problem(server.post("/invocations", body, headers={"content-type": media_type}), 422)
        return
    assert theirs.status == 200
    ours = server.post("/invocations", body, headers={"content-type": media_type})
    assert ours.json() == json.loads(theirs.response)


def test_csv_gives_the_models_labels(server: Server, samples: pd.DataFrame, expected_answers: Any) -> None:
    response = server.post("/invocations", samples.to_csv(index=False), headers={"content-type": "text/csv"})
    assert response.json() == {"predictions": expected_answers[0].tolist()}


def test_a_fault_in_csv_names_row_and_field(server: Server, samples: pd.DataFrame) -> None:
    text = samples.astype(object)
    text.loc[1, "ash"], text.loc[2, "hue"] = "many", "1,2"
    response = server.post("/invocations", text.to_csv(index=False), headers={"content-type": "text/csv"})
    faults = problem(response, 422)["errors"]
    assert [(fault["row"], fault["field"]) for fault in faults] == [(1, "ash"), (2, "hue")]
    assert "many" in faults[0]["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"dataframe_split": {}},
        {"dataframe_split": {"columns": ["alcohol"], "data": [[1, 2]]}},
        {"dataframe_split": {"columns": ["alcohol", "alcohol"], "data": [[1, 2]]}},
        {"dataframe_records": {"alcohol": 1}},
        {"instances": [[1], 2]},
        {"instances": [[1] * 13]},
        {"inputs": [[1] * 13]},
        {"inputs": {"alcohol": [1, 2], "ash": [1]}},
        {"inputs": []},
        {"instances": [], "inputs": []},
        {"instances": 1, "params": {"a": 1}},
        {"surprise": 1},
        {"dataframe_split": {"columns": ["alcohol"], "data": [7] * 9_000}},
        {"dataframe_split": {"columns": ["alcohol"] * 30_000, "data": []}},
        {"inputs": {"alcohol": [1] * 1_000_000}},
    ],
)
def test_a_body_in_none_of_mlflows_formats_is_refused_with_a_short_problem(server: Server, body: Any) -> None:
    response = server.post("/invocations", body)
    assert problem(response, 422)["errors"]
    assert len(response.content) < 20_000


def test_repeated_keys_are_refused_at_every_level(server: Server, samples: pd.DataFrame) -> None:
    split = json.dumps({"dataframe_split": samples.to_dict("split", index=False)})
    columns = json.dumps({"inputs": samples.to_dict("list")})
    inference = json.dumps(tensors(samples))
    for path, body, key in (
        ("/invocations", split, "data"),
        ("/invocations", split, "columns"),
        ("/invocations", columns, "hue"),
        ("/v2/models/wine/infer", inference, "inputs"),
        ("/v2/models/wine/infer", inference, "shape"),
    ):
        repeated = body.replace(f'"{key}": ', f'"{key}": [1], "{key}": ', 1)
        assert repeated != body
        assert problem(server.post(path, repeated), 422)["errors"], (path, key)


@pytest.mark.parametrize("body", ["", "alcohol\n", "alcohol,alcohol\n1,2\n", "alcohol,ash\n1\n", 'alcohol\n"1\n', "\n"])
def test_a_body_that_is_no_csv_table_is_refused(server: Server, body: str) -> None:
    assert problem(server.post("/invocations", body, headers={"content-type": "text/csv"}), 422)["errors"]


def test_a_body_may_come_as_gzip_or_deflate_within_the_same_limits(
    server: Server, samples: pd.DataFrame, expected_answers: Any
) -> None:
    text = samples.to_csv().encode()
    headers = {"content-type": "text/csv", "content-encoding": "gzip"}
    response = server.post("/invocations", gzip.compress(text), headers=headers)
    assert response.json() == {"predictions": expected_answers[0].tolist()}
    bomb = gzip.compress(bytes(200_000_000))
    assert len(bomb) < 1_000_000
    assert "inflates to more than" in problem(server.post("/invocations", bomb, headers=headers), 413)["detail"]
    for broken in (text, gzip.compress(text)[:-9], gzip.compress(text) + b"more"):
        problem(server.post("/invocations", broken, headers=headers), 400)
    refused = server.post("/invocations", text, headers=headers | {"content-encoding": "br"})
    assert "accepts gzip and deflate" in problem(refused, 415)["detail"]
    headers["content-encoding"] = "deflate"
    response = server.post("/invocations", zlib.compress(text), headers=headers)
    assert response.json() == {"predictions": expected_answers[0].tolist()}
    problem(server.post("/invocations", zlib.compress(bytes(200_000_000)), headers=headers), 413)
    problem(server.post("/invocations", gzip.compress(text), headers=headers), 400)


def test_mlflows_health_paths(server: Server) -> None:
    assert [server.get(path).status_code for path in ("/ping", "/health")] == [200, 200]
    assert server.get("/version").text == mlflow.__version__


def test_kserves_first_protocol(server: Server, samples: pd.DataFrame, expected_answers: Any) -> None:
    assert server.get("/v1/models").json() == {"models": ["wine"]}
    assert server.get("/v1/models/wine").json() == {"name": "wine", "ready": True}
    records, values = samples.to_dict("records"), samples.to_numpy().tolist()
    for body in ({"instances": records}, {"instances": values}, {"inputs": values}):
        response = server.post("/v1/models/wine:predict", body)
        assert response.json() == {"predictions": expected_answers[0].tolist()}, body
    problem(server.post("/v1/models/beer:predict", {"instances": values}), 404)
    problem(server.post("/v1/models/wine:explain", {"instances": values}), 405)
    problem(server.get("/v1/models/beer"), 404)
    for body in ({}, [], {"instances": []}, {"instances": values, "inputs": values}, {"instances": [[1], *values]}):
        refused = problem(server.post("/v1/models/wine:predict", body), 422)
        assert refused["error"].startswith(refused["detail"])
