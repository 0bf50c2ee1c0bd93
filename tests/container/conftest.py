"""The image, built by Docker from the Dockerfile on a base image made here, and containers of it.

It needs no image registry. Where no Docker daemon runs, root starts one for the session.
"""

import configparser
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from tests.conftest import free_port, mlflow_server, postgres_server
from tests.serving.conftest import Server, promote
from wineexp.core.paths import ROOT

CA = Path("/etc/ssl/certs/ca-certificates.crt")
# Names that no other images have.
BASE, IMAGE, SUITE = "wineexp-test-base", "wineexp-test", "bookworm"

# The options that docs/deployment.md recommends: a read-only file system and no privileges.
HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


@dataclass
class Docker:
    """The command line of a running daemon."""

    program: str
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str, check: bool = True, **more: Any) -> str:
        done = subprocess.run(
            [self.program, *arguments],
            env=os.environ | {"DOCKER_BUILDKIT": "1"} | self.environment,
            text=True,
            check=False,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more,
        )
        assert not check or done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def inspect(self, name: str, path: str) -> Any:
        return json.loads(self("inspect", "-f", f"{{{{json {path}}}}}", name))


def program() -> str:
    """The path of a Docker command line with BuildKit; Debian's has it, even if another one precedes it in PATH."""
    for path in ("/usr/bin/docker", shutil.which("docker") or ""):
        if path and os.access(path, os.X_OK):
            return path
    pytest.skip("containers are not tested: docker is not installed")


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """Docker: the daemon that runs already, or one that is started here and stopped when the last worker is done."""
    docker = Docker(program())
    if docker("info", "-f", "{{.ServerVersion}}", check=False):
        yield docker
        return
    if os.getuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("containers are not tested: no Docker daemon runs, and starting one takes root and dockerd")
    home = shared_folder(tmp_path_factory) / "dockerd"
    home.mkdir(exist_ok=True)
    docker.environment = {"DOCKER_HOST": f"unix://{home}/socket"}
    with (home / "users").open("w") as users:
        with (home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            fcntl.flock(users, fcntl.LOCK_SH)
            process = None if (home / "log").exists() else start_daemon(docker, home)
        if not docker("info", "-f", "{{.ServerVersion}}", check=False):
            message = (home / "log").read_text().strip().splitlines()[-1][-300:]
            pytest.skip(f"containers are not tested: dockerd does not start: {message}")
        yield docker
        if process is not None:
            # Wait for the other workers.
            fcntl.flock(users, fcntl.LOCK_EX)
            process.terminate()
            process.wait(60)
            # Deleting can take minutes, so it is not awaited.
            os.spawnlp(os.P_NOWAIT, "rm", "rm", "-rf", str(home))


def start_daemon(docker: Docker, home: Path) -> "subprocess.Popen[bytes]":
    """Start a daemon whose files are in one folder."""
    folders = [f"--data-root={home}/data", f"--exec-root={home}/exec", f"--pidfile={home}/pid"]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            ["dockerd", *folders, f"--host=unix://{home}/socket"], stdout=log, stderr=log, start_new_session=True
        )
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if docker("info", "-f", "{{.ServerVersion}}", check=False):
            break
        time.sleep(0.5)
    return process


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder that the workers of this session share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@contextmanager
def once(factory: pytest.TempPathFactory, name: str) -> Iterator[bool]:
    """Gives whether this worker is the first one; the others wait until it is done."""
    with (shared_folder(factory) / f"{name}.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.tell() == 0
        lock.write("done\n")


@pytest.fixture(scope="session")
def base(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A base image: Debian's own Python, made from the machine's mirror of Debian."""
    with once(tmp_path_factory, "base"):
        if docker("images", "-q", BASE):
            return BASE
        if shutil.which("mmdebstrap") is None or os.getuid() != 0:
            pytest.skip(f"containers are not tested: making {BASE} takes root and mmdebstrap")
        archive = tmp_path_factory.mktemp("base") / "base.tar"
        exclusions = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
        done = subprocess.run(
            ["mmdebstrap", "--variant=minbase", "--include=ca-certificates,python3,python3-venv", *exclusions,
             SUITE, archive, *mirror()],
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        if done.returncode != 0:
            pytest.skip(f"containers are not tested: mmdebstrap failed: {done.stderr.strip().splitlines()[-1:]}")
        docker("import", str(archive), BASE)
        archive.unlink()
    return BASE


def mirror() -> list[str]:
    """The address of this machine's mirror of Debian; [] lets mmdebstrap choose one."""
    lists = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    content = "\n".join(path.read_text() for path in lists if path.is_file())
    addresses = re.findall(r"^(?:URIs:|deb(?: \[.*\])?) (http\S+/debian/?)(?:\s|$)", content, re.MULTILINE)
    return addresses[:1]


def pip_settings(folder: Path) -> Path:
    """This machine's settings of pip as a file for the build, without paths on this machine."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    parser = configparser.ConfigParser(interpolation=None)
    parser["global"] = {}
    for name, value in re.findall(r"^(?:global|install|:env:)\.([\w-]+)='(.*)'$", listing.stdout, re.MULTILINE):
        words = [word for word in value.split() if not word.startswith(("/", "file:"))]
        if words and name != "config-file":
            parser["global"][name.lower()] = " ".join(words)
    path = folder / "pip.conf"
    with path.open("w") as file:
        parser.write(file)
    return path


def build(
    docker: Docker, factory: pytest.TempPathFactory, name: str, base: str, *options: str, context: Path = ROOT
) -> str:
    """Build an image from the Dockerfile, with this machine's settings of pip as secrets."""
    secrets = [f"id=pip_conf,src={pip_settings(factory.mktemp('pip'))}"]
    secrets += [f"id=ca_bundle,src={CA}"] if CA.exists() else []
    docker(
        *("build", "--network", "host", "--tag", name, "--build-arg", f"BASE_IMAGE={base}"),
        *(word for secret in secrets for word in ("--secret", secret)),
        *options,
        str(context),
    )
    return name


@pytest.fixture(scope="session")
def image(docker: Docker, base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image that `docker build .` makes."""
    with once(tmp_path_factory, "image") as first:
        return build(docker, tmp_path_factory, IMAGE, base) if first else IMAGE


@dataclass
class Container(Server):
    """A server in a container."""

    docker: Docker
    name: str

    def logs(self) -> str:
        """Its standard output and error."""
        return self.docker("logs", self.name, stderr=subprocess.STDOUT, stdout=subprocess.PIPE)

    @property
    def health(self) -> str:
        return str(self.docker.inspect(self.name, ".State.Health.Status"))

    def wait(self) -> int:
        """Wait until it exits; returns its exit code."""
        return int(self.docker("wait", self.name))

    def execute(self, *command: str, check: bool = True) -> str:
        return self.docker("exec", self.name, *command, check=check)


@contextmanager
def run_container(docker: Docker, image: str, *options: str, command: tuple[str, ...] = ()) -> Iterator[Container]:
    """A hardened container of an image, with its port published; removed afterwards."""
    name = f"wineexp-{uuid.uuid4().hex[:8]}"
    docker("run", "--detach", "--name", name, "--publish", "127.0.0.1::8000", *HARDENED, *options, image, *command)
    try:
        port = docker("port", name, "8000").rpartition(":")[2]
        yield Container(None, f"http://127.0.0.1:{port}", Path(os.devnull), docker, name)  # type: ignore[arg-type]
    finally:
        docker("rm", "--force", "--volumes", name)


@dataclass
class Tracking:
    """An MLflow server on PostgreSQL, started as by compose.yaml: its address on this machine and in a container."""

    here: str
    there: str

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.here, self.here)

    def options(self, address: str = "host-gateway") -> tuple[str, ...]:
        """Options of `docker run` that set its address, or another where nothing listens."""
        return ("--env", f"MLFLOW_TRACKING_URI={self.there}", "--add-host", f"mlflow:{address}")


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    """An empty registry."""
    folder, port = tmp_path_factory.mktemp("tracking"), free_port()
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["mlflow"]
    # Of two equal options the later one counts.
    options = [f"--port={port}", f"--allowed-hosts=mlflow:{port},127.0.0.1:{port}", f"--artifacts-destination={folder}"]
    with postgres_server(folder) as url:
        variables = service["environment"] | {"MLFLOW_BACKEND_STORE_URI": url, "MLFLOW_PORT": str(port)}
        with mlflow_server(folder, *service["command"][1:], *options, **variables) as here:
            yield Tracking(here, f"http://mlflow:{port}")


@pytest.fixture(scope="session")
def registry(tracking: Tracking, tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    """The registry with two versions of wine; the champion is version 2."""
    folder = tmp_path_factory.mktemp("training")
    for model in ("logreg", "xgb"):
        promote(folder, f"model={model}", MLFLOW_TRACKING_URI=tracking.here)
    return tracking


def wait_until_healthy(container: Container) -> Container:
    """Wait until a container is healthy; returns it."""
    container.until(lambda: container.health == "healthy" or not is_running(container), 90)
    assert is_running(container), container.docker("logs", container.name)
    return container


def is_running(container: Container) -> bool:
    return bool(container.docker.inspect(container.name, ".State.Running"))
