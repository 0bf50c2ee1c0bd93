"""The Open Inference Protocol."""

import gzip
import json
import struct
import tomllib
from typing import Any

import numpy as np
import pandas as pd
import pytest

import wineexp
from tests.serving.conftest import Server
from tests.serving.test_predictions import problem
from wineexp.core.paths import ROOT


def tensors(samples: pd.DataFrame) -> dict[str, Any]:
    return {
        "id": "mine",
        "inputs": [
            {"name": name, "datatype": "FP64", "shape": [len(samples), 1], "data": values.tolist()}
            for name, values in samples.items()
        ],
    }


def test_open_inference_gives_labels_and_probabilities(
    server: Server, samples: pd.DataFrame, expected_answers: Any
) -> None:
    response = server.post("/v2/models/wine/infer", tensors(samples)).json()
    assert (response["model_name"], response["model_version"], response["id"]) == ("wine", "2", "mine")
    labels, probabilities = response["outputs"]
    assert labels["data"] == [str(label) for label in expected_answers[0]]
    assert probabilities["shape"] == list(expected_answers[1].shape)
    assert probabilities["data"] == expected_answers[1].ravel().tolist()


def test_open_inference_takes_one_tensor_of_all_features(
    server: Server, samples: pd.DataFrame, expected_answers: Any
) -> None:
    values = samples.to_numpy()
    tensor = {"name": "x", "datatype": "FP64", "shape": list(values.shape), "data": values.ravel().tolist()}
    body = {"inputs": [tensor], "outputs": [{"name": "probabilities"}]}
    (output,) = server.post("/v2/models/wine/versions/2/infer", body).json()["outputs"]
    assert (output["name"], output["data"]) == ("probabilities", expected_answers[1].ravel().tolist())
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
    expected_answers = server.post("/predict", row).json()["predictions"][0]["probabilities"]
    dtypes = {"FP32": "<f4", "FP16": "<f2", "INT16": "<i2", "UINT8": "u1", "BOOL": "?"}
    content = np.ones(13, dtypes[datatype]).tobytes() if datatype in dtypes else b"\x01\0\0\0a" * 13
    tensor = {"name": "x", "datatype": datatype, "shape": [1, 13], "parameters": {"binary_data_size": len(content)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    response = server.post("/v2/models/wine/infer", head + content, headers=headers)
    if datatype in ("BOOL", "BYTES"):
        assert len(problem(response, 422)["errors"]) == 13
    else:
        assert response.json()["outputs"][1]["data"] == list(expected_answers.values())


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
