"""A registry with two promoted versions, made by the commands, and servers of it as real processes.

The versions are made once per session, and so is the server that tests share; a test that moves the alias, breaks
files or needs other settings starts a server of its own, from a cache that is filled already.
"""

import fcntl
import functools
import json
import os
import re
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import mlflow.sklearn
import pandas as pd
import pytest
from mlflow import MlflowClient
from omegaconf import OmegaConf

import wineexp.promote
import wineexp.train
from tests import preloaded_python
from tests.conftest import environment, new_database
from wineexp import compose
from wineexp.core.config import Serve, Tracking
from wineexp.serving.model import cache
from wineexp.serving.refresh.alias_checker import AliasChecker
from wineexp.serving.refresh.messages import AliasState

if TYPE_CHECKING:
    from selenium import webdriver

# A gate that lets both versions pass, whichever of them is better, and the cheapest model card.
LENIENT_GATE = [
    "allow=[dirty]",
    "gate.require=not_worse",
    "gate.margin=1",
    "gate.calibration_margin=1",
    "repeats=1",
    "model@baseline=majority",
]


@dataclass
class Store:
    """A folder with a tracking store whose model `wine` has two versions."""

    folder: Path

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri, self.uri)

    @property
    def cache(self) -> Path:
        """The cache folder of a server that runs in this folder."""
        return self.folder / "outputs/serving"

    def point(self, version: int, *, name: str = "wine", alias: str = "champion") -> None:
        self.client.set_registered_model_alias(name, alias, str(version))

    def load(self, version: int, *, name: str = "wine") -> Any:
        """The fitted pipeline of a version."""
        # By its folder: MLflow would look for an address of its own in the store that was chosen last.
        return mlflow.sklearn.load_model(str(self.files(version, name=name)))

    def files(self, version: int, *, name: str = "wine") -> Path:
        source = self.client.get_model_version(name, str(version)).source
        model = self.client.get_logged_model(str(source).removeprefix("models:/"))
        return Path(str(model.artifact_location).removeprefix("file://"))


# Without it, httpx would read all certificates of the system for each request: 20 ms.
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass
class Server:
    """A running server."""

    process: "subprocess.Popen[bytes]"
    url: str
    log: Path
    metrics_headers: dict[str, str] = field(default_factory=dict, kw_only=True)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=120, verify=NO_CERTIFICATES, **more)

    def post(self, path: str, content: Any, **more: Any) -> httpx.Response:
        body = content if isinstance(content, str | bytes) else json.dumps(content)
        more.setdefault("headers", {"content-type": "application/json"})
        return httpx.post(f"{self.url}{path}", content=body, timeout=120, verify=NO_CERTIFICATES, **more)

    def lines(self) -> list[dict[str, Any]]:
        """What it logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        total = 0.0
        for line in self.get("/metrics", headers=self.metrics_headers).text.splitlines():
            sample = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if sample and sample[1] == name:
                sample_labels = dict(re.findall(r'(\w+)="([^"]*)"', sample[2] or ""))
                if labels.items() <= sample_labels.items():
                    total += float(sample[3])
        return total

    def until(self, true: Callable[[], Any], seconds: float = 120) -> None:
        """Wait for something to become true."""
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, f"not true within {seconds} s; log:\n{self.log.read_text()[-3000:]}"
            time.sleep(0.05)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)


@pytest.fixture(scope="session")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tracking store of two versions and a filled cache, made by the first worker that needs it."""
    base = tmp_path_factory.getbasetemp()
    # The parent folder is shared by the workers of a session, and without workers by several sessions.
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "promoted"
    with Path(f"{shared}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "done").exists():
            shutil.rmtree(shared, ignore_errors=True)
            shared.mkdir()
            for model in (["model=logreg", "feature=poly"], ["model=xgb", "model.n_estimators=5", "feature=raw"]):
                promote(shared, *model)
            fill_cache(Store(shared))
            (shared / "done").touch()
    return shared


def fill_cache(store: Store) -> None:
    """Verify the version behind the alias, and store it where a server looks for it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        state = AliasChecker(server_settings(store), store.cache).check(AliasState())
    assert state.version is not None, state.faults


def server_settings(store: Store, *overrides: str) -> Serve:
    """The settings of `python -m wineexp.serve` with a store."""
    return replace(composed_settings(*overrides), tracking=Tracking(store.uri))


@functools.cache
def composed_settings(*overrides: str) -> Serve:
    composed = compose(*overrides, program="serve")
    return Serve(**{key: OmegaConf.to_object(composed[key]) for key in ("serve", "registry", "tracking")})


def promote(folder: Path, *overrides: str, name: str = "wine", **more: str) -> None:
    """Train a model and promote it, with environment variables beside or instead of the store in a folder."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        for variable, value in ({"MLFLOW_TRACKING_URI": new_database(folder)} | more).items():
            monkeypatch.setenv(variable, value)
        run_id = wineexp.train(compose("split.n_splits=3", *overrides)).run_id
        wineexp.promote(compose(f"run={run_id}", f"registry.name={name}", *LENIENT_GATE, program="promote"))


@pytest.fixture(scope="session")
def store(promoted: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store of the shared server, whose champion is version 2. Tests leave this version as it is."""
    return copy_store(promoted, tmp_path_factory.mktemp("store"))


@pytest.fixture
def own_store(promoted: Path, tmp_path: Path) -> Store:
    """A store that a test may break."""
    return copy_store(promoted, tmp_path)


def copy_store(original: Path, folder: Path) -> Store:
    """Copy a store and its cache, replacing the paths that are written in them."""
    shutil.copytree(original, folder, dirs_exist_ok=True)
    with sqlite3.connect(folder / "mlflow.db") as database:
        dump = "\n".join(database.iterdump()).replace(str(original), str(folder))
    database.close()
    for path in folder.glob("mlflow.db*"):
        path.unlink()
    with sqlite3.connect(folder / "mlflow.db") as database:
        database.executescript(dump)
    database.close()
    for record in folder.glob(f"outputs/serving/*/{cache.RECORD}"):
        record.write_text(record.read_text().replace(str(original), str(folder)))
    return Store(folder)


@contextmanager
def serving(store: Store, *overrides: str, afresh: bool = False, **more: str) -> Iterator[Server]:
    """A server of a store on a free port; stopped at the end.

    Parameters
    ----------
    store
    *overrides
    afresh
        Whether its refresh process, too, has a Python of its own, for tests of that process.
    **more
        Environment variables.
    """
    python = preloaded_python.PYTHON if afresh else sys.executable
    number = len(list(store.folder.glob("serve-*.log")))
    log = store.folder / f"serve-{number}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [python, "-m", "wineexp.serve", "serve.port=0", "serve.poll_interval_seconds=0.2", *overrides],
            cwd=store.folder,
            env=environment(store.folder, **more),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    server = Server(process, "", log)
    try:
        server.until(lambda: '"listening"' in log.read_text() or process.poll() is not None, 150)
        listening = [line for line in server.lines() if line["event"] == "listening"]
        server.url = listening[0]["url"]
        server.until(lambda: _answers(server), 60)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(40)


def children(server: Server) -> list[int]:
    """Process ids of its children."""
    return children_of(server.process.pid)


def children_of(pid: int) -> list[int]:
    """Process ids of the children of a process."""
    pids: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        # It may have ended meanwhile.
        with suppress(FileNotFoundError):
            pids += map(int, (thread / "children").read_text().split())
    return pids


def _answers(server: Server) -> bool:
    try:
        return server.get("/livez").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def server(store: Store) -> Iterator[Server]:
    """A server that is shared by all tests that leave its version as it is."""
    # It lives as long as the tests, for which each look at the registry would take time of the processors.
    with serving(store, "serve.poll_interval_seconds=2") as running:
        running.until(lambda: not running.get("/readyz").json()["stale"])
        yield running


@pytest.fixture(scope="session")
def row(server: Server) -> dict[str, float]:
    """A row that the served model was trained on."""
    return dict(server.get("/model").json()["schema"]["samples"][0]["row"])


@pytest.fixture(scope="session")
def samples(server: Server) -> pd.DataFrame:
    """The rows that the served model gives as samples."""
    return pd.DataFrame([sample["row"] for sample in server.get("/model").json()["schema"]["samples"]])


@pytest.fixture(scope="session")
def expected_answers(samples: pd.DataFrame, store: Store) -> Any:
    """The stored model's labels and probabilities of the samples, computed by MLflow."""
    model = store.load(2)
    return model.predict(samples), model.predict_proba(samples)


@pytest.fixture(scope="module")
def driver() -> Iterator["webdriver.Chrome"]:
    """A browser that can only reach this machine."""
    from selenium import webdriver

    chromedriver = shutil.which("chromedriver")
    if chromedriver is None:
        pytest.skip("no chromedriver: install chromium and chromium-driver to test the page")
    options = webdriver.ChromeOptions()
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,900"),
        *("--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    yield driver
    driver.quit()
