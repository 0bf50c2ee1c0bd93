"""Fixtures and helpers: commands as a user gives them, each in a folder and with an MLflow store of its own."""

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
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig, OmegaConf
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

import wineexp.train  # noqa: F401  registers the structured config that conf/train.yaml names
from tests import preloaded, preloaded_python
from wineexp.core import config
from wineexp.core.errors import UserError
from wineexp.core.paths import CONF, ROOT
from wineexp.data import pin, pinned_file

# Read by OpenMP when it is loaded, here and in commands: threads that wait leave the cores to other processes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The environment that commands inherit: without what libraries write into it while the tests use them.
INHERITED = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}

STORE_VARIABLE = "MLFLOW_TRACKING_URI"

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with journeys first: they take longest, and a worker that begins one last would finish long after."""
    long_files = {item.path for item in items if item.get_closest_marker("journey")}
    items.sort(key=lambda item: item.path not in long_files)


def pytest_collection_finish() -> None:
    """Before the first test, once pytest and the tests are imported."""
    preloaded.spare_garbage_collector()


class Scheduler(LoadFileScheduling):
    """Gives all tests of a file to one worker, since they share what they set up; so it does the files on containers,
    which share images.
    """

    def _split_scope(self, nodeid: str) -> str:
        containers = "tests/container"
        return containers if nodeid.startswith(containers) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduler:
    """The scheduler of pytest-xdist."""
    return Scheduler(config, log)


@pytest.fixture(autouse=True, scope="session")
def preloaded_executable() -> Iterator[None]:
    """Let processes that the project starts find the libraries imported: a promotion starts two."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sys, "executable", str(preloaded_python.folder() / "python"))
        yield


@pytest.fixture(autouse=True, scope="module")
def store_variable_of_a_file() -> Iterator[None]:
    """Take back `MLFLOW_TRACKING_URI` before and after a file's tests: MLflow writes it whenever a store is chosen."""
    _set_store_variable(INHERITED.get(STORE_VARIABLE))
    yield
    _set_store_variable(INHERITED.get(STORE_VARIABLE))


@pytest.fixture(autouse=True)
def store_variable_of_a_test() -> Iterator[None]:
    """Take back after a test what it has made of `MLFLOW_TRACKING_URI`; fixtures of its file may have set it."""
    before = os.environ.get(STORE_VARIABLE)
    yield
    _set_store_variable(before)


def _set_store_variable(value: str | None) -> None:
    if value is None:
        os.environ.pop(STORE_VARIABLE, None)
    else:
        os.environ[STORE_VARIABLE] = value


@pytest.fixture(scope="session")
def wine_quality() -> None:
    """Skip the test if the wine quality data can be had neither from a DVC remote nor from UCI."""
    for colour in ("red", "white"):
        try:
            pinned_file.load(pin.read(f"data/raw/winequality-{colour}.csv.dvc"))
        except UserError as error:
            pytest.skip(f"no wine quality data: {str(error).splitlines()[0]}")


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a command that records in a folder's `mlflow.db` and finds the project's modules."""
    return INHERITED | {
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "COLUMNS": "200",
        **more,
    }


def run(
    folder: Path, *arguments: str, timeout: float = 280, afresh: bool = False, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run `python -m wineexp.<arguments>` in a folder and wait for it.

    Parameters
    ----------
    folder
        The working directory.
    *arguments
        The program's name and its overrides.
    timeout
        Seconds after which the command is killed.
    afresh
        Whether to start a new Python, for tests of what happens at its start; otherwise a preloaded process runs it.
    **more
        Environment variables beside or instead of those of `environment`.
    """
    program, *overrides = arguments
    command, variables = ["-m", f"wineexp.{program}", *overrides], environment(folder, **more)
    as_inherited = preloaded.read_at_import(variables) == preloaded.read_at_import(INHERITED)
    # A server chooses what it imports, and how many threads those libraries start.
    if afresh or program == "serve" or not as_inherited:
        python = sys.executable if as_inherited and not afresh else preloaded_python.PYTHON
        return subprocess.run(
            [python, *command],
            cwd=folder,
            env=variables,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    store = folder / "mlflow.db"
    records = variables["MLFLOW_TRACKING_URI"] == f"sqlite:///{store}" and "tracking=off" not in overrides
    # For other programs it matters whether there is one.
    if program == "train" and records:
        new_database(folder)
    return run_preloaded(command, folder, variables, timeout)


def run_preloaded(
    command: list[str], folder: Path, variables: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run `python <command>` in a process that has imported the libraries, and wait for it; see `preloaded.Process`."""
    return start_preloaded(command, folder, variables).wait(timeout)


def start_preloaded(
    command: list[str], folder: Path, variables: Mapping[str, str], *, merge_streams: bool = False
) -> preloaded.Process:
    """As `run_preloaded`, without waiting; the caller calls `wait`, which kills what has not ended by then."""
    start_fork_server()
    return preloaded.Process(command, folder, variables, merge_streams=merge_streams)


def run_concurrently(
    folder: Path, commands: list[tuple[str, ...]], **more: str
) -> list[subprocess.CompletedProcess[str]]:
    """Run several commands as `run` does, all at the same time; their results in the same order."""
    start_fork_server()
    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(lambda arguments: run(folder, *arguments, **more), commands))


@functools.cache
def start_fork_server() -> None:
    """Start the server that forks preloaded processes, once."""
    preloaded.start_server(INHERITED)


@functools.cache
def empty_store() -> Path:
    """An MLflow database as the first command that records makes it, made once since it takes a second."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    script = f"from wineexp.tracking import store; store.connect('sqlite:///{folder}/mlflow.db')"
    (folder / "script.py").write_text(script)
    done = run_preloaded(["script.py"], folder, environment(folder), timeout=200)
    assert done.returncode == 0, done.stderr
    return folder / "mlflow.db"


def new_database(folder: Path) -> str:
    """The address of the MLflow database of a folder, which is made without MLflow if there is none."""
    if not (folder / "mlflow.db").exists():
        shutil.copy(empty_store(), folder / "mlflow.db")
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """`command("train", "model=xgb")` runs a program in tmp_path, recording in `tmp_path/mlflow.db`."""

    def call(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return run(tmp_path, *arguments, **more)

    return call


@functools.cache
def composed(*overrides: str) -> DictConfig:
    """The config of `python -m wineexp.train <overrides>`, composed once: to be read only."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("train", list(overrides))


def choices(group: str) -> list[str]:
    """The choices of a config group, so that a new one is tested without being listed anywhere."""
    names = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    assert names, f"conf/{group} holds no file"
    return names


# The choices of conf/model that predict numbers and cannot predict classes.
ONLY_OF_NUMBERS = {
    *("ridge", "svr", "extratrees_of_products", "kernel_ridge"),
    *("selection_of_numbers", "stack_of_numbers", "trees_and_kernel_ridge"),
}


def models_of_classes() -> list[str]:
    """The choices of conf/model that predict classes, and those that can."""
    return [name for name in choices("model") if name not in ONLY_OF_NUMBERS]


def installed_models() -> list[str]:
    """Those of `models_of_classes` whose package is installed: some are optional."""
    targets = {name: OmegaConf.load(CONF / f"model/{name}.yaml")._target_ for name in models_of_classes()}
    return [name for name, target in targets.items() if importlib.util.find_spec(target.partition(".")[0])]


def tree_count_keys(model: str) -> list[str]:
    """The config keys that say how many trees a model has, or each of the models within it."""
    keys = config.flatten_config(composed(f"model={model}"))
    return [key for key in keys if key.startswith("model.") and key.endswith("n_estimators")]


def free_port() -> int:
    """A port that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path, *arguments: str, **more: str) -> Iterator[str]:
    """The address of `mlflow <arguments>` on a free port, once it answers; killed at the end, its log in the folder."""
    port = more.get("MLFLOW_PORT") or str(free_port())
    # One process, where MLflow would start several that each take seconds to import it.
    processes = {"MLFLOW_WORKERS": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    variables = environment(folder, **{"MLFLOW_PORT": port, "MLFLOW_TRACKING_URI": "", **processes, **more})
    address, log = f"http://127.0.0.1:{port}", folder / "mlflow.log"
    with log.open("a") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *arguments],
            cwd=folder, env=variables, stdout=output, stderr=output, start_new_session=True,
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
        # The process that listens is another one, which ends with it.
        while is_open(int(port)):
            time.sleep(0.01)


def is_open(port: int) -> bool:
    """Whether a process listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    with postgres_server(tmp_path) as url:
        yield url


def make_postgres() -> tuple[Path, list[str]]:
    """A new folder with the files of a PostgreSQL server, in `data`, and the command that starts it."""
    # PostgreSQL refuses to run as root, and the user nobody cannot enter pytest's folders.
    as_user = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"] if os.getuid() == 0 else []
    home = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    if as_user:
        shutil.chown(home, "nobody")
    data = ["-D", str(home / "data")]
    subprocess.run([*as_user, "initdb", *data, "-U", "tester", "-A", "trust", "--no-sync"], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    return home, [*as_user, "postgres", *data, "-c", "fsync=off"]


@contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """The URL of an empty database of a PostgreSQL server on a free port, stopped at the end; its log in the folder."""
    missing = [name for name in ("initdb", "postgres") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not found")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("the package psycopg is not installed")
    home, command = make_postgres()
    port = free_port()
    options = ["-p", str(port), "-k", str(home), "-c", "listen_addresses=127.0.0.1"]
    with (folder / "postgres.log").open("w") as log:
        server = subprocess.Popen([*command, *options], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 30
            while not (home / f".s.PGSQL.{port}").exists():
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.1)
            yield f"postgresql+psycopg://tester@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait(30)
            shutil.rmtree(home)
