"""The servers that are compared: how each is installed and started, and what a request is."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import measure
from versions import ROOT, VERSIONS, Store

PEERS = Path(__file__).resolve().parent / "peers"

# A fitted pipeline is read with the same versions of these packages that it was written with.
PIPELINE_PACKAGES = [
    f"{name}=={version(name)}" for name in ("scikit-learn", "xgboost", "pandas", "numpy", "joblib", "skops")
]
MLFLOW = f"mlflow=={version('mlflow')}"

# Packages by the name of a virtual environment, for servers with dependencies of their own.
PACKAGES = {
    "mlserver": ["mlserver", "mlserver-mlflow", MLFLOW, *PIPELINE_PACKAGES],
    "bentoml": ["bentoml", *PIPELINE_PACKAGES],
    "onnx": [
        "onnxruntime",
        "skl2onnx",
        "onnxmltools",
        "litestar",
        "uvicorn",
        "uvloop",
        "httptools",
        *PIPELINE_PACKAGES,
    ],
}


@dataclass(frozen=True)
class ServerSpec:
    """How a server is started, and what a request to it is.

    Attributes
    ----------
    command : tuple of str
        With placeholders for the interpreter, a free port and files of the store.
    path : str
    body : callable
        Turns rows into the body of a request, before JSON.
    environment : str or None
        The virtual environment in PACKAGES; None for the one of this project.
    variables : dict of str to str
        Environment variables of its process.
    """

    command: tuple[str, ...]
    path: str
    body: Callable[[list[dict[str, float]]], Any]
    environment: str | None = None
    variables: dict[str, str] = field(default_factory=dict)


def dataframe_split(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Rows in MLflow's format."""
    return {"dataframe_split": {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}}


def _tensors(rows: list[dict[str, float]]) -> dict[str, Any]:
    inputs = [
        {"name": name, "datatype": "FP64", "shape": [len(rows), 1], "data": [row[name] for row in rows]}
        for name in rows[0]
    ]
    return {"parameters": {"content_type": "pd"}, "inputs": inputs}


def _first_row(rows: list[dict[str, float]]) -> Any:
    return rows[0]


def _uvicorn(module: str, kind: str = "", environment: str | None = None) -> ServerSpec:
    options = ("--no-access-log", "--log-level=warning", "--app-dir={peers}")
    command = ("{python}", "-m", "uvicorn", f"{module}:app", "--port={port}", *options)
    return ServerSpec(command, "/predict", _first_row, environment, {"PEER_KIND": kind})


def _mlflow(name: str) -> ServerSpec:
    options = ("--env-manager=local", "--host=127.0.0.1", "--port={port}")
    command = ("{python}", "-m", "mlflow", "models", "serve", f"--model-uri={{{name}}}", *options)
    return ServerSpec(command, "/invocations", dataframe_split)


def _wineexp(name: str, path: str = "/predict", body: Callable[[Any], Any] = _first_row, *overrides: str) -> ServerSpec:
    command = ("{python}", "-m", "wineexp.serve", f"registry.name={name}", "serve.port={port}", *overrides)
    return ServerSpec(command, path, body)


MLSERVER = {
    "MLSERVER_HTTP_PORT": "{port}",
    "MLSERVER_GRPC_PORT": "{second_port}",
    "MLSERVER_METRICS_PORT": "{third_port}",
    # MLServer then predicts in the process that serves requests, which is fastest for this model.
    "MLSERVER_PARALLEL_WORKERS": "0",
    "MLSERVER_MODEL_NAME": "wine",
    "MLSERVER_MODEL_IMPLEMENTATION": "mlserver_mlflow.MLflowRuntime",
    "MLSERVER_MODEL_URI": "{wine}",
}
BENTOML = ("{python}", "-m", "bentoml", "serve", "bento:Wine", "--port={port}", "--host=127.0.0.1", "-q",
           "--working-dir={peers}")  # fmt: skip

WINEEXP, WINEEXP_ECHO = "wineexp.serve", "wineexp, echo"
MLFLOW_SERVE, FASTAPI = "mlflow models serve", "FastAPI, pandas row"
SPECS = {
    MLFLOW_SERVE: _mlflow("wine"),
    "MLServer": ServerSpec(
        ("{bin}/mlserver", "start", "{peer}"), "/v2/models/wine/infer", _tensors, "mlserver", MLSERVER
    ),
    "BentoML": ServerSpec(BENTOML, "/predict", lambda rows: {"row": rows[0]}, "bentoml"),
    FASTAPI: _uvicorn("fastapi_pandas"),
    "Litestar, pandas row": _uvicorn("litestar_rows", "pandas"),
    "Litestar, numpy row": _uvicorn("litestar_rows", "numpy"),
    "Litestar, ONNX": _uvicorn("litestar_rows", "onnx", "onnx"),
    WINEEXP: _wineexp("wine"),
    "wineexp.serve, logging": _wineexp("wine", "/predict", _first_row, "serve.log=outputs/predictions"),
    WINEEXP_ECHO: ServerSpec(("{python}", "{peers}/wineexp_echo.py", "serve.port={port}"), "/predict", _first_row),
    "Litestar, echo": _uvicorn("litestar_rows", "echo"),
    "bare ASGI, echo": _uvicorn("bare"),
}
FOREST = {MLFLOW_SERVE: _mlflow("forest"), WINEEXP: _wineexp("forest")}
SELECTION = {MLFLOW_SERVE: _mlflow("selection"), WINEEXP: _wineexp("selection")}
BATCH = {MLFLOW_SERVE: _mlflow("wine"), WINEEXP: _wineexp("wine", "/invocations", dataframe_split)}
# With so short a timeout, a verifier process has to start for each new version.
SWAP = _wineexp(
    "wine", "/predict", _first_row, "serve.poll_interval_seconds=0.1", "serve.verifier_idle_timeout_seconds=0.1"
)


class Server:
    """A running server, in a process session of its own."""

    def __init__(self, spec: ServerSpec, store: Store, environments: Path, rows: list[dict[str, float]]) -> None:
        python = interpreter(spec.environment, environments)
        environment = {**store.environment, "PEER": str(store.peer), "PYTHONPATH": f"{ROOT}:{PEERS}"}
        if spec.variables.get("PEER_KIND") == "onnx":
            _run([python, str(PEERS / "to_onnx.py")], env=environment)
        port, binaries = free_port(), str(Path(python).parent)
        values = {
            **{"python": python, "bin": binaries, "peers": str(PEERS), "peer": str(store.peer)},
            **{"port": str(port), "second_port": str(free_port()), "third_port": str(free_port())},
            **{name: str(store.files(name)) for name in VERSIONS if store.has(name)},
        }
        self.log = store.folder / f"{port}.log"
        self.url = f"http://127.0.0.1:{port}{spec.path}"
        self.body = json.dumps(spec.body(rows)).encode()
        self.began = time.perf_counter()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [part.format(**values) for part in spec.command],
                cwd=store.folder,
                env={
                    **environment,
                    **{name: value.format(**values) for name, value in spec.variables.items()},
                    # BentoML and MLflow look for commands of their environment on this path.
                    "PATH": f"{binaries}:{os.environ['PATH']}",
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_for_response(120)
        except BaseException:
            self.stop()
            raise
        self.seconds = time.perf_counter() - self.began

    def request(self) -> Any:
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.url, self.body, headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def _wait_for_response(self, seconds: float) -> None:
        """Wait for the first response.

        Raises
        ------
        RuntimeError
            The process has ended, or the time is over.
        """
        while True:
            try:
                self.request()
            except OSError as error:
                if self.process.poll() is not None or time.perf_counter() > self.began + seconds:
                    raise RuntimeError(f"no response: {error}; {self.log.read_text()[-1500:]}") from error
                time.sleep(0.01)
            else:
                return

    def stop(self) -> None:
        """End all processes of the server."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in measure.resident(self.process.pid):
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                continue


def free_port() -> int:
    """A port that no process listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def interpreter(environment: str | None, environments: Path) -> str:
    """The interpreter of a virtual environment, which is made if it is missing; by default the current one."""
    if environment is None:
        return sys.executable
    python = environments / environment / "bin" / "python"
    marker = environments / environment / "installed"
    if not marker.exists():
        print(f"installing {environment}", file=sys.stderr)
        venv.create(environments / environment, with_pip=True, clear=True)
        _run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES[environment]])
        marker.touch()
    return str(python)


def _run(command: list[str], **options: Any) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:6])} ... failed: {done.stderr.strip()[-600:]}")
