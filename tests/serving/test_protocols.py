"""MLflow's scoring protocol, the Open Inference Protocol, and the OpenAPI document."""

import csv
import gzip
import json
import re
import struct
import tomllib
import zlib
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server

import wineexp
from tests.serving.conftest import Server, Store
from tests.serving.test_predictions import problem
from wineexp.core.paths import ROOT


@pytest.fixture(scope="module")
def samples(server: Server) -> pd.DataFrame:
    return pd.DataFrame([sample["row"] for sample in server.get("/model").json()["schema"]["samples"]])


@pytest.fixture(scope="module")
def expected(samples: pd.DataFrame, store: Store) -> Any:
    """Labels and probabilities of the stored model, computed by MLflow."""
    model = store.load(2)
    return model.predict(samples), model.predict_proba(samples)


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
    server: Server, samples: pd.DataFrame, expected: Any, name: str
) -> None:
    response = server.post("/invocations", bodies(samples)[name])
    assert response.status_code == 200, response.text
    assert response.json() == {"predictions": expected[0].tolist()}


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


def test_csv_gives_the_models_labels(server: Server, samples: pd.DataFrame, expected: Any) -> None:
    response = server.post("/invocations", samples.to_csv(index=False), headers={"content-type": "text/csv"})
    assert response.json() == {"predictions": expected[0].tolist()}


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
    server: Server, samples: pd.DataFrame, expected: Any
) -> None:
    text = samples.to_csv().encode()
    headers = {"content-type": "text/csv", "content-encoding": "gzip"}
    response = server.post("/invocations", gzip.compress(text), headers=headers)
    assert response.json() == {"predictions": expected[0].tolist()}
    bomb = gzip.compress(bytes(200_000_000))
    assert len(bomb) < 1_000_000
    assert "inflates to more than" in problem(server.post("/invocations", bomb, headers=headers), 413)["detail"]
    for broken in (text, gzip.compress(text)[:-9], gzip.compress(text) + b"more"):
        problem(server.post("/invocations", broken, headers=headers), 400)
    refused = server.post("/invocations", text, headers=headers | {"content-encoding": "br"})
    assert "accepts gzip and deflate" in problem(refused, 415)["detail"]
    headers["content-encoding"] = "deflate"
    response = server.post("/invocations", zlib.compress(text), headers=headers)
    assert response.json() == {"predictions": expected[0].tolist()}
    problem(server.post("/invocations", zlib.compress(bytes(200_000_000)), headers=headers), 413)
    problem(server.post("/invocations", gzip.compress(text), headers=headers), 400)


def test_mlflows_health_paths(server: Server) -> None:
    assert [server.get(path).status_code for path in ("/ping", "/health")] == [200, 200]
    assert server.get("/version").text == mlflow.__version__


def tensors(samples: pd.DataFrame) -> dict[str, Any]:
    return {
        "id": "mine",
        "inputs": [
            {"name": name, "datatype": "FP64", "shape": [len(samples), 1], "data": values.tolist()}
            for name, values in samples.items()
        ],
    }


def test_open_inference_gives_labels_and_probabilities(server: Server, samples: pd.DataFrame, expected: Any) -> None:
    response = server.post("/v2/models/wine/infer", tensors(samples)).json()
    assert (response["model_name"], response["model_version"], response["id"]) == ("wine", "2", "mine")
    labels, probabilities = response["outputs"]
    assert labels["data"] == [str(label) for label in expected[0]]
    assert probabilities["shape"] == list(expected[1].shape)
    assert probabilities["data"] == expected[1].ravel().tolist()


def test_open_inference_takes_one_tensor_of_all_features(server: Server, samples: pd.DataFrame, expected: Any) -> None:
    values = samples.to_numpy()
    tensor = {"name": "x", "datatype": "FP64", "shape": list(values.shape), "data": values.ravel().tolist()}
    body = {"inputs": [tensor], "outputs": [{"name": "probabilities"}]}
    (output,) = server.post("/v2/models/wine/versions/2/infer", body).json()["outputs"]
    assert (output["name"], output["data"]) == ("probabilities", expected[1].ravel().tolist())
    tensor["data"] = values.tolist()
    # Triton's client sends no Content-Type.
    assert server.post("/v2/models/wine/infer", body, headers={}).json()["outputs"] == [output]


def binary_body(samples: pd.DataFrame, **more: Any) -> tuple[bytes, dict[str, str]]:
    """A request whose tensors are bytes after the JSON, and its headers."""
    parts = [column.to_numpy().tobytes() for _, column in samples.items()]
    described = [
        {"name": name, "datatype": "FP64", "shape": [len(samples)], "parameters": {"binary_data_size": len(part)}}
        for name, part in zip(samples, parts, strict=True)
    ]
    head = json.dumps({"inputs": described, "model_name": "wine", **more}).encode()
    return b"".join([head, *parts]), {"inference-header-content-length": str(len(head))}


def test_open_inference_takes_and_gives_tensors_as_bytes(server: Server, samples: pd.DataFrame) -> None:
    # So many rows that they are read in a thread; NaN is a missing value, as null is.
    many = pd.concat([samples] * 60, ignore_index=True)
    many.loc[3, "ash"] = np.nan
    body, headers = binary_body(many, parameters={"binary_data_output": True})
    assert len(body) > 50_000
    response = server.post("/v2/models/wine/infer", body, headers=headers)
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers["inference-header-content-length"])
    labels, probabilities = json.loads(response.content[:length])["outputs"]
    sizes = [output["parameters"]["binary_data_size"] for output in (labels, probabilities)]
    assert len(response.content) == length + sum(sizes)
    assert (labels["shape"], probabilities["shape"]) == ([len(many), 1], [len(many), 3])
    rows = json.loads(many.to_json(orient="records", double_precision=15))
    predictions = server.post("/predict", rows).json()["predictions"]
    shares = np.frombuffer(response.content[length + sizes[0] :]).reshape(-1, 3)
    assert shares.tolist() == [list(prediction["probabilities"].values()) for prediction in predictions]
    texts = b"".join(struct.pack("<I1s", 1, prediction["class"].encode()) for prediction in predictions)
    assert response.content[length : length + sizes[0]] == texts
    compressed = server.post(
        "/v2/models/wine/infer", gzip.compress(body), headers=headers | {"content-encoding": "gzip"}
    )
    assert compressed.content == response.content


@pytest.mark.parametrize("datatype", ["FP32", "FP16", "INT16", "UINT8", "BOOL", "BYTES"])
def test_each_type_of_binary_tensor_is_read_as_its_numbers_are_in_json(server: Server, datatype: str) -> None:
    row = {each["name"]: 1 for each in server.get("/v2/models/wine").json()["inputs"]}
    expected = server.post("/predict", row).json()["predictions"][0]["probabilities"]
    dtypes = {"FP32": "<f4", "FP16": "<f2", "INT16": "<i2", "UINT8": "u1", "BOOL": "?"}
    content = np.ones(13, dtypes[datatype]).tobytes() if datatype in dtypes else b"\x01\0\0\0a" * 13
    tensor = {"name": "x", "datatype": datatype, "shape": [1, 13], "parameters": {"binary_data_size": len(content)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    response = server.post("/v2/models/wine/infer", head + content, headers=headers)
    if datatype in ("BOOL", "BYTES"):
        assert len(problem(response, 422)["errors"]) == 13
    else:
        assert response.json()["outputs"][1]["data"] == list(expected.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": {"binary_data_size": 8}}, "as many values as the shape says, 9"),
        ({"parameters": {"binary_data_size": 71}}, "71 bytes are no whole number of FP64"),
        ({"parameters": {"binary_data_size": -1}}, "a number of bytes is wanted, got -1"),
        ({"datatype": "BYTES"}, "as its length, in four bytes"),
        ({"data": [1] * 9}, "either data, or the parameter binary_data_size"),
        ({"parameters": {}}, "either data, or the parameter binary_data_size"),
    ],
)
def test_wrong_bytes_are_refused(server: Server, samples: pd.DataFrame, change: dict[str, Any], message: str) -> None:
    body, headers = binary_body(samples)
    length = int(headers["inference-header-content-length"])
    head = json.loads(body[:length])
    head["inputs"][0] |= change
    changed = json.dumps(head).encode()
    headers["inference-header-content-length"] = str(len(changed))
    refused = server.post("/v2/models/wine/infer", changed + body[length:], headers=headers)
    assert message in problem(refused, 422)["errors"][0]["detail"]


def test_bytes_that_belong_to_no_tensor_and_wrong_lengths_of_the_json_are_refused(
    server: Server, samples: pd.DataFrame
) -> None:
    body, headers = binary_body(samples)
    refused = problem(server.post("/v2/models/wine/infer", body + b"more", headers=headers), 422)
    assert refused["errors"][0]["detail"] == "936 bytes of binary data are wanted after the JSON, got 940"
    for length in ("x", "-1", "10", str(len(body) + 9), "9" * 5000):
        wrong = {"inference-header-content-length": length}
        problem(server.post("/v2/models/wine/infer", body, headers=wrong), 400)


def test_only_asked_outputs_are_given_each_in_the_form_that_is_asked_for(server: Server, samples: pd.DataFrame) -> None:
    outputs = [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "class"}]
    response = server.post("/v2/models/wine/infer", tensors(samples) | {"outputs": outputs})
    length = int(response.headers["inference-header-content-length"])
    probabilities, labels = json.loads(response.content[:length])["outputs"]
    assert probabilities["parameters"] == {"binary_data_size": 9 * 3 * 8}
    assert len(labels["data"]) == 9
    ranked = [{"name": "class", "parameters": {"classification": 2}}]
    problem(server.post("/v2/models/wine/infer", tensors(samples) | {"outputs": ranked}), 422)


def test_kserves_first_protocol(server: Server, samples: pd.DataFrame, expected: Any) -> None:
    assert server.get("/v1/models").json() == {"models": ["wine"]}
    assert server.get("/v1/models/wine").json() == {"name": "wine", "ready": True}
    records, values = samples.to_dict("records"), samples.to_numpy().tolist()
    for body in ({"instances": records}, {"instances": values}, {"inputs": values}):
        response = server.post("/v1/models/wine:predict", body)
        assert response.json() == {"predictions": expected[0].tolist()}, body
    problem(server.post("/v1/models/beer:predict", {"instances": values}), 404)
    problem(server.post("/v1/models/wine:explain", {"instances": values}), 405)
    problem(server.get("/v1/models/beer"), 404)
    for body in ({}, [], {"instances": []}, {"instances": values, "inputs": values}, {"instances": [[1], *values]}):
        refused = problem(server.post("/v1/models/wine:predict", body), 422)
        assert refused["error"].startswith(refused["detail"])


def test_open_inference_has_its_own_key_for_errors(server: Server) -> None:
    refused = problem(server.post("/v2/models/wine/infer", {"inputs": []}), 422)
    assert refused["error"] == f"{refused['detail']}; {refused['errors'][0]['detail']}"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["inputs"], []),
        (["inputs", 0], 7),
        (["inputs", 0, "name"], "alcool"),
        (["inputs", 0, "name"], 1),
        (["inputs", 0, "name"], "ash"),
        (["inputs", 0, "datatype"], "STRING"),
        (["inputs", 0, "datatype"], ["FP64"]),
        (["inputs", 0, "shape"], [1000000]),
        (["inputs", 0, "shape"], [2.5]),
        (["inputs", 0, "shape"], []),
        (["inputs", 0, "data"], ["a"] * 9),
        (["inputs", 0, "data"], {}),
        (["inputs", 0, "datatype"], "INT32"),
        (["inputs", 0, "surprise"], 1),
        (["inputs"], [{}] * 100_000),
        (["surprise"], 1),
        (["outputs"], [{"name": "regression"}]),
        (["outputs"], [{"name": ["class"]}]),
        (["outputs"], [{"name": "class"}, {"name": "probabilities"}, {"name": "class"}]),
        (["id"], 7),
        (["model_name"], "beer"),
    ],
)
def test_a_faulty_inference_request_is_refused(
    server: Server, samples: pd.DataFrame, path: list[Any], value: Any
) -> None:
    body = json.loads(json.dumps(tensors(samples)))
    parent = body
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    assert problem(server.post("/v2/models/wine/infer", body), 422)["errors"]


def test_open_inference_describes_server_and_model(server: Server, samples: pd.DataFrame) -> None:
    assert server.get("/v2/health/live").json() == {"live": True}
    assert server.get("/v2/health/ready").json() == {"ready": True}
    assert server.get("/v2").json() == {
        "name": "wineexp",
        "version": wineexp.__version__,
        "extensions": ["binary_tensor_data"],
    }
    metadata = server.get("/v2/models/wine").json()
    assert metadata == server.get("/v2/models/wine/versions/2").json()
    assert [tensor["name"] for tensor in metadata["inputs"]] == list(samples)
    assert metadata["versions"] == ["2"]
    assert server.get("/v2/models/wine/ready").json() == {"name": "wine", "ready": True}
    assert server.get("/v2/models").json() == {"models": ["wine"]}
    index = [{"name": "wine", "version": "2", "state": "READY", "reason": ""}]
    assert server.post("/v2/repository/index", "", headers={}).json() == index
    assert server.post("/v2/repository/index", {"ready": True}).json() == index
    for path in ("/v2/models/beer", "/v2/models/wine/versions/1", "/v2/models/beer/ready"):
        problem(server.get(path), 404)
    problem(server.post("/v2/models/beer/infer", tensors(samples)), 404)


def test_the_version_is_that_of_the_project() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == wineexp.__version__


def test_the_openapi_document_describes_the_served_model(server: Server, samples: pd.DataFrame) -> None:
    document = server.get("/schema").json()
    assert document["openapi"] == "3.1.0"
    row = document["components"]["schemas"]["Row"]
    assert list(row["properties"]) == row["required"] == list(samples)
    assert row["additionalProperties"] is False
    assert "servers" not in document
    groups = [tag["name"] for tag in document["tags"]]
    assert groups[0] == "predictions"
    assert all(group.isidentifier() for group in groups)
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert {tag for operation in operations for tag in operation["tags"]} == set(groups)
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    assert {"predict", "explain", "invocations", "infer", "infer_of_version", "ping", "health", "v1_predict"} < set(ids)


@pytest.mark.journey
def test_the_examples_of_the_openapi_document_are_answered(server: Server) -> None:
    n_examples = 0
    for path, methods in server.get("/schema").json()["paths"].items():
        for method, operation in methods.items():
            served = {each["name"]: each["schema"]["enum"][0] for each in operation.get("parameters", [])}
            bodies = operation.get("requestBody", {"content": {"none": {"example": ""}}})["content"]
            for media_type, content in bodies.items():
                example = content["example"]
                sent = example if isinstance(example, str) else json.dumps(example)
                headers = {} if media_type == "none" else {"content-type": media_type}
                response = httpx.request(
                    method, server.url + path.format(**served), content=sent, headers=headers, timeout=120
                )
                assert response.status_code == 200, (path, response.text)
                n_examples += media_type != "none"
    assert n_examples == 7


def test_swagger_ui_comes_from_the_server_itself(server: Server) -> None:
    page = server.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'; script-src 'self'; " in page.headers["content-security-policy"]
    assert re.findall(r"<script(.*?)>(.*?)</script>", page.text) == [
        (f' src="docs/{name}"', "") for name in ("swagger-ui-bundle.js", "start.js")
    ]
    assert "//" not in page.text.replace("https://", "//").replace("<!", "")
    script = server.get("/docs/swagger-ui-bundle.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert len(script.content) > 500_000
    assert server.get("/docs/swagger-ui.css").headers["content-type"].startswith("text/css")
    problem(server.get("/docs/secrets.txt"), 404)
    assert server.get("/docs/favicon.png").status_code == 200
