"""Fixtures: the commands as a user gives them, each in a folder and a tracking store of its own."""

import atexit
import functools
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig, OmegaConf

import wineexp.train  # noqa: F401  registers the frame of conf/train.yaml
from tests import zygote
from wineexp.core import config
from wineexp.core.errors import UserError
from wineexp.core.paths import ROOT
from wineexp.data import pin

# OpenMP, which the tests and their commands load later, finds it: threads that wait leave the cores to other processes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What a command inherits: nothing of what libraries write into the environment while the tests use them.
INHERITED = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that hold a journey come first: they take longest, and none should be left when all others are done."""
    longest = {item.path for item in items if item.get_closest_marker("journey")}
    items.sort(key=lambda item: item.path not in longest)


@pytest.fixture(scope="session")
def wine_quality() -> None:
    """Skip where the wine quality data cannot be had: no DVC remote is configured, and UCI is out of reach."""
    for colour in ("red", "white"):
        try:
            pin.load(pin.read(f"data/raw/winequality-{colour}.csv.dvc"))
        except UserError as error:
            pytest.skip(f"no wine quality data: {str(error).splitlines()[0]}")


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a command that keeps its hands off the project's own folders."""
    return INHERITED | {
        "PYTHONPATH": str(pin.ROOT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "COLUMNS": "200",
        **more,
    }


def run(
    folder: Path, *arguments: str, timeout: float = 280, afresh: bool = False, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run `python -m wineexp.<arguments>` in a folder and wait for it; afresh where its start is what matters."""
    program, *overrides = arguments
    command, its_own = ["-m", f"wineexp.{program}", *overrides], environment(folder, **more)
    # A server chooses what it imports, and how many threads those libraries start.
    if afresh or program == "serve" or zygote.settled(its_own) != zygote.settled(INHERITED):
        return subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env=its_own,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    store = folder / "mlflow.db"
    records = its_own["MLFLOW_TRACKING_URI"] == f"sqlite:///{store}" and "tracking=off" not in overrides
    # Other programs are to find a store, or none.
    if program == "train" and records and not store.exists():
        shutil.copy(empty_store(), store)
    return imported().run(command, folder, its_own, timeout)


def at_once(folder: Path, commands: list[tuple[str, ...]], **more: str) -> list[subprocess.CompletedProcess[str]]:
    """As `run`, each in a process of its own, all at the same time."""
    imported()
    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(lambda arguments: run(folder, *arguments, **more), commands))


@functools.cache
def empty_store() -> Path:
    """A store as the first command that records makes it, for which MLflow takes a second each time."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    subprocess.run(
        [sys.executable, "-c", f"from wineexp.tracking import store; store.connect('sqlite:///{folder}/mlflow.db')"],
        env=environment(folder),
        check=True,
    )
    return folder / "mlflow.db"


@functools.cache
def imported() -> zygote.Zygote:
    """The process of this one's that has imported the libraries."""
    return zygote.Zygote(zygote.settled(INHERITED))


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """`command("train", "model=xgb")` runs a program in tmp_path, recording in `tmp_path/mlflow.db`."""

    def call(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return run(tmp_path, *arguments, **more)

    return call


@functools.cache
def composed(*overrides: str) -> DictConfig:
    """The config of `python -m wineexp.train <overrides>`, composed once: to be read only."""
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return hydra.compose("train", list(overrides))


def choices(group: str) -> list[str]:
    """The files of a config group, so that a new one is tested without anyone remembering."""
    found = sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))
    assert found, f"conf/{group} holds no file"
    return found


def installed_models() -> list[str]:
    """The models whose package is here: some are optional."""
    return [name for name in choices("model") if importlib.util.find_spec(_package(name))]


def trees(model: str) -> list[str]:
    """The keys that say how many trees a model has, or each of those within it."""
    keys = config.flatten_config(composed(f"model={model}"))
    return [key for key in keys if key.startswith("model.") and key.endswith("n_estimators")]


def _package(model: str) -> str:
    target: str = OmegaConf.load(ROOT / "conf/model" / f"{model}.yaml")._target_
    return target.partition(".")[0]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path, *arguments: str, **more: str) -> Iterator[str]:
    """The address of `mlflow <arguments>` on a free port, once it answers; killed at the end, its log in the folder."""
    port = more.get("MLFLOW_PORT") or str(free_port())
    its_own = environment(folder, **{"MLFLOW_PORT": port, "MLFLOW_TRACKING_URI": "", **more})
    address, log = f"http://127.0.0.1:{port}", folder / "mlflow.log"
    with log.open("a") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *arguments],
            cwd=folder, env=its_own, stdout=told, stderr=told, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """The URL of a database of its own."""
    with database(tmp_path) as url:
        yield url


@contextmanager
def database(folder: Path) -> Iterator[str]:
    """The URL of a PostgreSQL database on a free port, gone afterwards; its log is in the folder."""
    missing = [name for name in ("initdb", "postgres") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not found")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("the package psycopg is not installed")
    # PostgreSQL refuses to run as root.
    as_nobody = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"] if os.getuid() == 0 else []
    home = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))  # nobody cannot enter pytest's folders
    if as_nobody:
        shutil.chown(home, "nobody")
    port = free_port()
    where = ["-D", str(home / "data")]
    subprocess.run([*as_nobody, "initdb", *where, "-U", "tester", "-A", "trust", "--no-sync"], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    options = ["-p", str(port), "-k", str(home), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    with (folder / "postgres.log").open("w") as log:
        server = subprocess.Popen([*as_nobody, "postgres", *where, *options], stdout=log, stderr=log)
        try:
            until = time.monotonic() + 30
            while (home / f".s.PGSQL.{port}").exists() is False:
                assert time.monotonic() < until, "the server did not start"
                time.sleep(0.1)
            yield f"postgresql+psycopg://tester@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait(30)
            shutil.rmtree(home)
