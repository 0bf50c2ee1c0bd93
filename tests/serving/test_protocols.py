"""MLflow's scoring protocol, the Open Inference Protocol, and the OpenAPI document."""

import gzip
import json
import tomllib
from typing import Any

import mlflow
import pandas as pd
import pytest

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
        "instances without names": {"instances": samples.to_numpy().tolist()},
        "inputs": {"inputs": samples.to_dict("list")},
        "inputs without names": {"inputs": samples.to_numpy().tolist(), "params": {}},
    }


@pytest.mark.parametrize("name", bodies(pd.DataFrame({"a": [1]})))
def test_every_format_of_mlflow_gives_the_models_labels(
    server: Server, samples: pd.DataFrame, expected: Any, name: str
) -> None:
    response = server.post("/invocations", bodies(samples)[name])
    assert response.status_code == 200, response.text
    assert response.json() == {"predictions": expected[0].tolist()}


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


def test_a_body_may_come_as_gzip_within_the_same_limits(server: Server, samples: pd.DataFrame, expected: Any) -> None:
    csv = samples.to_csv().encode()
    headers = {"content-type": "text/csv", "content-encoding": "gzip"}
    response = server.post("/invocations", gzip.compress(csv), headers=headers)
    assert response.json() == {"predictions": expected[0].tolist()}
    bomb = gzip.compress(bytes(200_000_000))
    assert len(bomb) < 1_000_000
    assert "inflates to more than" in problem(server.post("/invocations", bomb, headers=headers), 413)["detail"]
    for broken in (csv, gzip.compress(csv)[:-9], gzip.compress(csv) + b"more"):
        problem(server.post("/invocations", broken, headers=headers), 400)
    refused = server.post("/invocations", csv, headers=headers | {"content-encoding": "br"})
    assert "accepts gzip" in problem(refused, 415)["detail"]


def test_mlflows_health_paths(server: Server) -> None:
    assert server.get("/ping").status_code == 200
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
        (["id"], 7),
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
    assert server.get("/v2").json() == {"name": "wineexp", "version": wineexp.__version__, "extensions": []}
    metadata = server.get("/v2/models/wine").json()
    assert metadata == server.get("/v2/models/wine/versions/2").json()
    assert [tensor["name"] for tensor in metadata["inputs"]] == list(samples)
    assert metadata["versions"] == ["2"]
    assert server.get("/v2/models/wine/ready").json() == {"ready": True}
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
    for path in ("/predict", "/invocations", "/v2/models/{name}/infer"):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        example = content["application/json"]["example"]
        assert server.post(path.replace("{name}", "wine"), example).status_code == 200
    text = document["paths"]["/invocations"]["post"]["requestBody"]["content"]["text/csv"]["example"]
    assert server.post("/invocations", text, headers={"content-type": "text/csv"}).status_code == 200
    assert "servers" not in document
    groups = [tag["name"] for tag in document["tags"]]
    assert groups[0] == "Predictions"
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert {tag for operation in operations for tag in operation["tags"]} == set(groups)


def test_swagger_ui_comes_from_the_server_itself(server: Server) -> None:
    page = server.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "//" not in page.text.replace("https://", "//").replace("<!", "")
    script = server.get("/docs/swagger-ui-bundle.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert len(script.content) > 500_000
    assert server.get("/docs/swagger-ui.css").headers["content-type"].startswith("text/css")
    problem(server.get("/docs/secrets.txt"), 404)
    assert server.get("/docs/favicon.png").status_code == 200
