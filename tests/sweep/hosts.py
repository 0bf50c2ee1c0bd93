"""Hosts of their own on one machine: each has a name, a network address and a folder that no other one sees.

A host is a network namespace behind a bridge, in which processes are started with a host name of their own.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests import preloaded_python
from tests.conftest import INHERITED, make_postgres

NETWORK = "10.177.0"
PORT = 5432
MLFLOW_PORT = 5000
START_SECONDS = 120
# What MLflow's log says when it answers.
MLFLOW_RUNS = "Uvicorn running on"


class Host:
    """One host."""

    def __init__(self, name: str, address: str, folder: Path) -> None:
        self.name, self.address, self.folder = name, address, folder
        folder.mkdir(parents=True)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a command, whose output goes to the file `log` of the host's folder."""
        inside = ["unshare", "--uts", "sh", "-c", f'hostname {self.name}; exec "$@"', "sh", *command]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *inside],
                cwd=self.folder,
                env={**INHERITED, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def kill_all(self) -> None:
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


@contextmanager
def connected_hosts(folder: Path, count: int) -> Iterator[list[Host]]:
    """So many hosts that reach each other, and nothing else; skips where this machine does not allow them."""
    if os.getuid() != 0 or shutil.which("ip") is None:
        pytest.skip("hosts of their own need root and the command ip")
    names = [f"wx{os.getpid()}-{index}" for index in range(count)]
    switch = f"wx{os.getpid()}-s"

    def ip(*words: str, inside: str = "") -> None:
        prefix = ["ip", "-n", inside] if inside else ["ip"]
        subprocess.run([*prefix, *words], check=True, capture_output=True)

    with ExitStack() as stack:
        try:
            for name in (switch, *names):
                ip("netns", "add", name)
                stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False, capture_output=True)
            ip("link", "add", "br0", "type", "bridge", inside=switch)
            ip("link", "set", "br0", "up", inside=switch)
            for index, name in enumerate(names):
                ip("link", "add", f"p{index}", "type", "veth", "peer", "name", "eth0", "netns", name, inside=switch)
                ip("link", "set", f"p{index}", "master", "br0", "up", inside=switch)
                ip("addr", "add", f"{NETWORK}.{index + 1}/24", "dev", "eth0", inside=name)
                ip("link", "set", "eth0", "up", inside=name)
                ip("link", "set", "lo", "up", inside=name)
            subprocess.run(["unshare", "--uts", "true"], check=True, capture_output=True)
        except (subprocess.CalledProcessError, OSError) as error:
            pytest.skip(f"network and UTS namespaces are not allowed here: {getattr(error, 'stderr', error)!r}")
        hosts = [Host(name, f"{NETWORK}.{index + 1}", folder / name) for index, name in enumerate(names)]
        stack.callback(lambda: [host.kill_all() for host in hosts])
        yield hosts


class Servers:
    """PostgreSQL and MLflow on one host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.home, self.command = make_postgres()
        with (self.home / "data/pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {NETWORK}.0/24 trust\n")
        self.url = f"postgresql+psycopg://tester@{host.address}:{PORT}/postgres"
        self.tracking = f"http://{host.address}:{MLFLOW_PORT}"
        self.start_postgres()

    def start_postgres(self) -> None:
        """Start PostgreSQL; after a kill it refuses for as long as processes of the killed one live."""
        options = ["-p", str(PORT), "-k", str(self.home), "-c", f"listen_addresses={self.host.address}"]
        deadline = time.monotonic() + START_SECONDS
        while True:
            self.postgres = self.host.start(*self.command, *options)
            while self.postgres.poll() is None:
                assert time.monotonic() < deadline, self.host.log
                ready = subprocess.run(["pg_isready", "-h", str(self.home), "-p", str(PORT)], capture_output=True)
                if ready.returncode == 0:
                    return
                time.sleep(0.2)

    def kill_postgres(self) -> None:
        """Kill PostgreSQL's main process, as a lack of memory would."""
        # The process is that of `ip`, which has become PostgreSQL's.
        os.kill(self.postgres.pid, signal.SIGKILL)
        self.postgres.wait(30)

    def start_mlflow(self) -> None:
        """Start MLflow, with its records and files on this host."""
        deadline = time.monotonic() + START_SECONDS
        n_running = self.host.log.count(MLFLOW_RUNS)
        self.mlflow = self._mlflow()
        while self.host.log.count(MLFLOW_RUNS) == n_running:
            assert time.monotonic() < deadline, self.host.log
            if self.mlflow.poll() is not None:
                self.mlflow = self._mlflow()
            time.sleep(0.2)

    def _mlflow(self) -> subprocess.Popen[bytes]:
        listens = ("--host", self.host.address, "--port", str(MLFLOW_PORT), "--workers", "1")
        return self.host.start(
            *preloaded_python.command("-m", "mlflow", "server", *listens),
            *("--backend-store-uri", f"sqlite:///{self.host.folder}/mlflow.db"),
            *("--artifacts-destination", str(self.host.folder / "artifacts"), "--allowed-hosts", "*"),
            environment={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )
