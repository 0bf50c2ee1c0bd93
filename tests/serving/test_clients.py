"""Requests as other people's HTTP clients send them."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
import pytest

from tests.conftest import free_port
from tests.serving.conftest import Server, Store

CLIENTS = Path(__file__).with_name("clients")

# The clients of Triton and KServe, and what they import and the project does not have. They have a folder of their own:
# KServe's package needs older versions than the project has, of pandas among others.
INFERENCE_CLIENTS = [
    "tritonclient==2.73.0",
    "brotli==1.2.1",
    "gevent==26.9.0",
    "geventhttpclient==2.6.1",
    "greenlet==3.3.2",
    "ml_dtypes==0.5.4",
    "python-rapidjson==1.25",
    "zope.event==6.2",
    "zope.interface==8.7",
    "kserve==0.21.0",
    "cloudevents==1.13.0",
    "deprecation==2.1.0",
    "grpcio==1.81.1",
    "protobuf==6.33.6",
]

# Makes a client from the API's document.
CODE_GENERATOR = ["openapi-python-client==0.29.1", "typer==0.27.3", "shellingham==1.5.4"]


@pytest.fixture(scope="module")
def body(row: dict[str, float]) -> str:
    return json.dumps(row)


@pytest.fixture(scope="module")
def expected(server: Server, row: dict[str, float]) -> list[dict[str, object]]:
    return list(server.post("/predict", row).json()["predictions"])


def output(*command: str) -> str:
    """What a program prints; skips the test where it is not installed."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.journey
def test_javas_client_which_offers_http2_is_answered_over_http1(
    server: Server, body: str, expected: list[dict[str, object]]
) -> None:
    printed = output("java", str(CLIENTS / "Predict.java"), f"{server.url}/predict", body)
    assert [json.loads(line)["predictions"] for line in printed.splitlines()] == [expected, expected]


def test_curl_which_offers_http2_is_answered_over_http1(
    server: Server, body: str, expected: list[dict[str, object]]
) -> None:
    sent = ("-H", "content-type: application/json", "-d", body)
    printed = output("curl", "-s", "--http2", "-w", "\n%{http_version}", *sent, f"{server.url}/predict")
    response, version = printed.rsplit("\n", 1)
    assert version == "1.1"
    assert json.loads(response)["predictions"] == expected


@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("piece_bytes", [40, 100_000])
def test_a_body_after_an_offer_to_upgrade_is_read_whole_and_so_are_the_requests_after_it(
    server: Server, body: str, expected: list[dict[str, object]], framing: str, piece_bytes: int
) -> None:
    parts, content = urlsplit(server.url), body.encode()
    head = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
    length = f"Content-Length: {len(content)}\r\n\r\n".encode() + content
    chunks = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
    framed = {"length": length, "chunks": chunks}[framing]
    last = f"{head}Connection: close\r\n".encode() + length
    sent = f"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n{offer}\r\n{head}{offer}".encode() + framed + last
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60) as client:
        for start in range(0, len(sent), piece_bytes):
            client.sendall(sent[start : start + piece_bytes])
            time.sleep(0.001)
        received = b"".join(iter(lambda: client.recv(65536), b""))
    bodies = [part.partition(b"\r\n\r\n")[2] for part in received.split(b"HTTP/1.1 200 ")[2:]]
    assert [json.loads(part)["predictions"] for part in bodies] == [expected, expected]


def install(packages: list[str], folder: Path) -> Path:
    """Install packages, without what they need, into a folder; skips the test where the index cannot be reached."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", str(folder)]
    done = subprocess.run([*pip, *packages], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode and is_away(done.stderr):
        pytest.skip(f"{packages[0]} cannot be installed: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    return folder


def is_away(pips_messages: str) -> bool:
    """Whether pip, which failed, could not connect to its index; it then says so of each of its attempts."""
    return "connection broken by" in pips_messages


@pytest.mark.journey
def test_pip_says_that_its_index_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "1")
    index = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("PIP_INDEX_URL", index)
    with pytest.raises(pytest.skip.Exception, match="cannot be installed"):
        install(["no-such-package==1"], tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(AssertionError, match="No matching distribution"):
        install(["no-such-package==1"], tmp_path)


@pytest.fixture(scope="module")
def inference_clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the clients of Triton and KServe."""
    return install(INFERENCE_CLIENTS, tmp_path_factory.mktemp("inference-clients"))


@pytest.fixture(scope="module")
def table(server: Server) -> pd.DataFrame:
    return pd.DataFrame([sample["row"] for sample in server.get("/model").json()["schema"]["samples"]])


@pytest.fixture(scope="module")
def answers(store: Store, table: pd.DataFrame) -> tuple[list[int], list[list[float]]]:
    """Labels and probabilities of the stored model."""
    model = store.load(2)
    return model.predict(table).tolist(), model.predict_proba(table).tolist()


def run_client(name: str, server: Server, table: pd.DataFrame, folder: Path) -> list[object]:
    """The lines that a client's script prints."""
    arguments = [server.url, "wine", json.dumps(table.to_dict("list")), str(folder)]
    # Without the folder of the script, whose name is that of the client's package.
    command = [sys.executable, "-P", str(CLIENTS / name), *arguments]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.journey
def test_tritons_client(server: Server, table: pd.DataFrame, answers: list[object], inference_clients: Path) -> None:
    labels, probabilities = answers
    *inferred, about = run_client("triton.py", server, table, inference_clients)
    assert inferred == [[[str(label) for label in labels], probabilities, "mine"]] * 4
    index = [{"name": "wine", "version": "2", "state": "READY", "reason": ""}]
    assert about[:4] == ["wine", index, True, ["binary_tensor_data"]]
    assert "alcool: no such feature; did you mean alcohol?" in about[4]


@pytest.mark.journey
def test_kserves_client(server: Server, table: pd.DataFrame, answers: list[object], inference_clients: Path) -> None:
    labels, probabilities = answers
    *inferred, ready, objects, arrays, is_model_ready, status = run_client(
        "kserve.py", server, table, inference_clients
    )
    assert inferred == [[[str(label) for label in labels], probabilities, "mine"]] * 3
    assert ready == [True, True, False]
    assert objects == arrays == {"predictions": labels}
    assert (is_model_ready, status) == (True, 422)


@pytest.mark.journey
def test_a_generated_client_has_every_operation(
    server: Server, row: dict[str, float], expected: list[dict[str, object]], tmp_path: Path
) -> None:
    document = server.get("/schema").json()
    (tmp_path / "schema.json").write_text(json.dumps(document))
    environment = os.environ | {"PYTHONPATH": str(install(CODE_GENERATOR, tmp_path / "generator"))}
    arguments = ["generate", "--path", "schema.json", "--output-path", "generated", "--meta", "none"]
    generated = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", *arguments],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    # It leaves out the one way of sending a table that is no JSON.
    warnings = [line for line in (generated.stdout + generated.stderr).splitlines() if "WARNING" in line]
    assert warnings == ["WARNING parsing POST /invocations within mlflow."]
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    for operation in operations:
        (tag,) = operation["tags"]
        assert (tmp_path / "generated/api" / tag / f"{operation['operationId']}.py").exists()
    environment["PYTHONPATH"] += f":{tmp_path}"
    command = [sys.executable, str(CLIENTS / "generated_client.py"), server.url, json.dumps(row)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    predictions, labels, tensors = map(json.loads, done.stdout.splitlines())
    assert predictions == expected
    assert [str(label) for label in labels] == tensors[0]["data"] == [expected[0]["class"]]
