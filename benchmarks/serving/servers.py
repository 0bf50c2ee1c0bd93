"""The servers that are compared: how each is installed, started and asked."""

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
from versions import ROOT, Store

PEERS = Path(__file__).resolve().parent / "peers"

# What a fitted pipeline is read with, as it was written with.
SAME = [f"{name}=={version(name)}" for name in ("scikit-learn", "xgboost", "pandas", "numpy", "joblib", "skops")]
MLFLOW = f"mlflow=={version('mlflow')}"

# Peers with dependencies of their own, each in a virtual environment of its own.
PACKAGES = {
    "mlserver": ["mlserver", "mlserver-mlflow", MLFLOW, *SAME],
    "bentoml": ["bentoml", *SAME],
    "onnx": ["onnxruntime", "skl2onnx", "onnxmltools", "litestar", "uvicorn", "uvloop", "httptools", *SAME],
}


@dataclass(frozen=True)
class Kind:
    """How a server is started, and what it is asked.

    Attributes
    ----------
    command : tuple of str
        With places for the interpreter, a free port and files of the store.
    path : str
    body : callable
        From rows to what is sent.
    environment : str or None
        Whose packages it runs with; None for this project's.
    more : dict of str to str
        Variables of its process.
    """

    command: tuple[str, ...]
    path: str
    body: Callable[[list[dict[str, float]]], Any]
    environment: str | None = None
    more: dict[str, str] = field(default_factory=dict)


def table(rows: list[dict[str, float]]) -> dict[str, Any]:
    """MLflow's form of rows."""
    return {"dataframe_split": {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}}


def _tensors(rows: list[dict[str, float]]) -> dict[str, Any]:
    inputs = [
        {"name": name, "datatype": "FP64", "shape": [len(rows), 1], "data": [row[name] for row in rows]}
        for name in rows[0]
    ]
    return {"parameters": {"content_type": "pd"}, "inputs": inputs}


def _one(rows: list[dict[str, float]]) -> Any:
    return rows[0]


def _uvicorn(module: str, kind: str = "", environment: str | None = None) -> Kind:
    quiet = ("--no-access-log", "--log-level=warning", "--app-dir={peers}")
    command = ("{python}", "-m", "uvicorn", f"{module}:app", "--port={port}", *quiet)
    return Kind(command, "/predict", _one, environment, {"PEER_KIND": kind})


def _mlflow(name: str) -> Kind:
    at = ("--env-manager=local", "--host=127.0.0.1", "--port={port}")
    return Kind(("{python}", "-m", "mlflow", "models", "serve", f"--model-uri={{{name}}}", *at), "/invocations", table)


def _ours(name: str, path: str = "/predict", body: Callable[[Any], Any] = _one, *more: str) -> Kind:
    return Kind(("{python}", "-m", "wineexp.serve", f"registry.name={name}", "serve.port={port}", *more), path, body)


MLSERVER = {
    "MLSERVER_HTTP_PORT": "{port}",
    "MLSERVER_GRPC_PORT": "{second_port}",
    "MLSERVER_METRICS_PORT": "{third_port}",
    # Predicts in its own process, which is what this model is served fastest by.
    "MLSERVER_PARALLEL_WORKERS": "0",
    "MLSERVER_MODEL_NAME": "wine",
    "MLSERVER_MODEL_IMPLEMENTATION": "mlserver_mlflow.MLflowRuntime",
    "MLSERVER_MODEL_URI": "{wine}",
}
BENTOML = ("{python}", "-m", "bentoml", "serve", "bento:Wine", "--port={port}", "--host=127.0.0.1", "-q",
           "--working-dir={peers}")  # fmt: skip

OURS, MLFLOW_SERVES, TUTORIAL, OWN_ECHO = "wineexp.serve", "mlflow models serve", "FastAPI, pandas row", "wineexp, echo"
KINDS = {
    MLFLOW_SERVES: _mlflow("wine"),
    "MLServer": Kind(("{bin}/mlserver", "start", "{peer}"), "/v2/models/wine/infer", _tensors, "mlserver", MLSERVER),
    "BentoML": Kind(BENTOML, "/predict", lambda rows: {"row": rows[0]}, "bentoml"),
    TUTORIAL: _uvicorn("fastapi_pandas"),
    "Litestar, pandas row": _uvicorn("litestar_rows", "pandas"),
    "Litestar, numpy row": _uvicorn("litestar_rows", "numpy"),
    "Litestar, ONNX": _uvicorn("litestar_rows", "onnx", "onnx"),
    OURS: _ours("wine"),
    OWN_ECHO: Kind(("{python}", "{peers}/own_echo.py", "serve.port={port}"), "/predict", _one),
    "Litestar, echo": _uvicorn("litestar_rows", "echo"),
    "bare ASGI, echo": _uvicorn("bare"),
}
# Beside the table.
FOREST = {MLFLOW_SERVES: _mlflow("forest"), OURS: _ours("forest")}
BATCH = {MLFLOW_SERVES: _mlflow("wine"), OURS: _ours("wine", "/invocations", table)}
# What examines a version has to start for each.
SWAP = _ours("wine", "/predict", _one, "serve.poll_interval_seconds=0.1", "serve.verifier_idle_timeout_seconds=0.1")


class Server:
    """A server that runs, in a session of its own."""

    def __init__(self, kind: Kind, store: Store, rivals: Path, rows: list[dict[str, float]]) -> None:
        python = python_of(kind.environment, rivals)
        environment = {**store.environment, "PEER": str(store.peer), "PYTHONPATH": f"{ROOT}:{PEERS}"}
        if kind.more.get("PEER_KIND") == "onnx":
            _run([python, str(PEERS / "to_onnx.py")], env=environment)
        port, binaries = free(), str(Path(python).parent)
        places = {
            **{"python": python, "bin": binaries, "peers": str(PEERS), "peer": str(store.peer)},
            **{"port": str(port), "second_port": str(free()), "third_port": str(free())},
            **{name: str(store.files(name)) for name in ("wine", "forest")},
        }
        self.log = store.folder / f"{port}.log"
        self.url = f"http://127.0.0.1:{port}{kind.path}"
        self.body = json.dumps(kind.body(rows)).encode()
        self.began = time.perf_counter()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [part.format(**places) for part in kind.command],
                cwd=store.folder,
                env={
                    **environment,
                    **{name: value.format(**places) for name, value in kind.more.items()},
                    # BentoML and MLflow look for commands of their environment on it.
                    "PATH": f"{binaries}:{os.environ['PATH']}",
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._answered(120)
        except BaseException:
            self.stop()
            raise
        self.seconds = time.perf_counter() - self.began

    def ask(self) -> Any:
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.url, self.body, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def _answered(self, seconds: float) -> None:
        """Wait for the first answer."""
        while True:
            try:
                self.ask()
            except OSError as error:
                if self.process.poll() is not None or time.perf_counter() > self.began + seconds:
                    raise RuntimeError(f"no answer: {error}; {self.log.read_text()[-1500:]}") from error
                time.sleep(0.01)
            else:
                return

    def stop(self) -> None:
        """End every process of it."""
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


def free() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def python_of(environment: str | None, rivals: Path) -> str:
    """The interpreter of an environment, which is made if it is missing."""
    if environment is None:
        return sys.executable
    python = rivals / environment / "bin" / "python"
    done = rivals / environment / "installed"
    if not done.exists():
        print(f"installing {environment}", file=sys.stderr)
        venv.create(rivals / environment, with_pip=True, clear=True)
        _run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES[environment]])
        done.touch()
    return str(python)


def _run(command: list[str], **more: Any) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:6])} ... failed: {done.stderr.strip()[-600:]}")
