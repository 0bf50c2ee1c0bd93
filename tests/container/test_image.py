"""The image: what is in it, and what a container of it does."""

import json
import shutil
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import mlflow
import pandas as pd
import pytest

from tests.conftest import run
from tests.container.conftest import (
    IMAGE,
    Container,
    Docker,
    Tracking,
    build,
    is_running,
    run_container,
    wait_until_healthy,
)
from wineexp.core.paths import ROOT

pytestmark = [pytest.mark.journey, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def alone(docker: Docker, image: str) -> "Container":
    """A container without options."""
    with run_container(docker, image) as container:
        assert container.health == "starting"
        yield wait_until_healthy(container)


@pytest.fixture(scope="module")
def export(registry: Tracking, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The champion, exported to a folder."""
    folder = tmp_path_factory.mktemp("exported")
    done = run(folder, "promote", "export=wine", "note=From the cellar.", MLFLOW_TRACKING_URI=registry.here)
    assert done.returncode == 0, done.stderr
    return folder / "wine"


def samples(container: Container) -> list[dict[str, float]]:
    return [sample["row"] for sample in container.get("/model").json()["schema"]["samples"]]


def probabilities(container: Container, rows: list[dict[str, float]]) -> list[list[float]]:
    predictions = container.post("/predict", rows).json()["predictions"]
    return [list(prediction["probabilities"].values()) for prediction in predictions]


def test_without_options_the_model_of_the_build_is_served(alone: Container) -> None:
    source = alone.get("/model").json()["source"]
    assert source["kind"] == "export"
    assert source["note"] == "It was trained when this image was built, on the wines that scikit-learn carries."
    assert alone.get("/readyz").json()["registry"] == "none"
    assert alone.get("/").status_code == 200
    assert alone.get("/docs").status_code == 200
    rows = samples(alone)
    classes = [prediction["class"] for prediction in alone.post("/predict", rows).json()["predictions"]]
    # The base image has a Python of its own, which once refused arrays within objects.
    answer = alone.post("/invocations", {"dataframe_records": rows}).json()
    assert [str(label) for label in answer["predictions"]] == classes


def test_the_image_has_what_the_server_needs_and_nothing_else(
    alone: Container, docker: Docker, image: str, base: str
) -> None:
    assert alone.execute("id", "-u") == "65532"
    assert alone.execute("sh", "-c", "command -v cc gcc g++ clang ld as make pip pip3 uv", check=False) == ""
    for module in ("pip", "ensurepip", "setuptools"):
        assert alone.execute("python", "-c", f"import importlib.util as i; print(i.find_spec('{module}'))") == "None"
    code = "from wineexp.models.compiled import kernel; print(kernel.library_path().exists())"
    assert alone.execute("python", "-c", code) == "True"
    # Only the cache of versions is writable.
    assert alone.execute("sh", "-c", "touch /srv/x /tmp/x /x; touch /var/cache/wineexp/x && echo there") == "there"
    assert alone.execute("sh", "-c", "cat /proc/1/status | grep CapBnd").split()[1].strip("0") == ""
    uncompiled = (
        "from importlib.util import cache_from_source as c; from pathlib import Path\n"
        "print(*(p for p in Path('/srv').rglob('*.py') if not Path(c(str(p))).exists()))"
    )
    assert len(alone.execute("python", "-c", uncompiled).split()) < 5
    settings = docker.inspect(image, ".Config")
    assert {"MLFLOW_DISABLE_TELEMETRY=true", "DO_NOT_TRACK=1"} <= set(settings["Env"])
    assert settings["Labels"]["org.opencontainers.image.title"] == "wineexp"
    assert settings["Labels"]["org.opencontainers.image.base.name"] == base
    assert settings["StopSignal"] == "SIGTERM"


def test_no_layer_contains_the_settings_of_pip(alone: Container, docker: Docker, image: str) -> None:
    assert alone.execute("sh", "-c", "ls /etc/pip.conf /root/.config /root/.pip 2> /dev/null", check=False) == ""
    metadata = docker("history", "--no-trunc", image) + json.dumps(docker.inspect(image, "."))
    assert "index" not in metadata
    assert "BEGIN CERTIFICATE" not in metadata


def test_versions_of_the_registry_predict_bit_for_bit_as_in_mlflow_and_the_alias_is_followed(
    docker: Docker, image: str, registry: Tracking
) -> None:
    with run_container(docker, image, *registry.options(), command=("serve.poll_interval_seconds=0.2",)) as container:
        rows = samples(wait_until_healthy(container))
        assert container.get("/model").json()["source"]["kind"] == "registry"
        for number in (2, 1, 2):
            registry.client.set_registered_model_alias("wine", "champion", str(number))
            container.until(lambda number=number: container.get("/readyz").json()["model"]["version"] == number)
            assert container.get("/model").json()["golden_max_difference"] == 0
            mlflow.set_tracking_uri(registry.here)
            model = mlflow.sklearn.load_model(registry.client.get_model_version("wine", str(number)).source)
            assert probabilities(container, rows) == model.predict_proba(pd.DataFrame(rows)).tolist()
        assert len(docker("inspect", "-f", "{{.RestartCount}}", container.name)) == 1


def test_a_container_starts_from_its_cache_while_the_registry_is_down(
    docker: Docker, image: str, registry: Tracking, tmp_path: Path
) -> None:
    volume = f"wineexp-{tmp_path.name}"
    options = ("--volume", f"{volume}:/var/cache/wineexp")
    try:
        with run_container(docker, image, *registry.options(), *options) as container:
            rows = samples(wait_until_healthy(container))
            before = probabilities(container, rows)
        # No registry listens at this address within the container.
        with run_container(docker, image, *registry.options("127.0.0.1"), *options) as container:
            ready = wait_until_healthy(container).get("/readyz").json()
            assert ready["stale"]
            assert ready["registry"].startswith("since ")
            assert probabilities(container, rows) == before
        with run_container(docker, image, *registry.options("127.0.0.1")) as container:
            assert container.wait() == 1
            assert "holds no version of wine behind champion to start from" in container.logs()
    finally:
        docker("volume", "rm", "--force", volume)


def test_an_export_is_served_from_the_image_and_refused_once_it_is_changed(
    docker: Docker, base: str, image: str, export: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    context = tmp_path / "context"
    for name in ("conf", "data", "hydra_plugins", "wineexp"):
        shutil.copytree(ROOT / name, context / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Dockerfile", ".dockerignore", "requirements.txt", "requirements-serve.txt"):
        shutil.copy(ROOT / name, context)
    shutil.copytree(export, context / "export")
    baked = build(docker, tmp_path_factory, f"{IMAGE}-baked", base, "--build-arg", "EXPORT=export", context=context)
    with run_container(docker, baked) as container:
        model = wait_until_healthy(container).get("/model").json()
        assert model["model"]["version"] == 2
        assert model["golden_max_difference"] == 0
        assert (model["source"]["kind"], model["source"]["note"]) == ("export", "From the cellar.")

    changed = tmp_path / "changed"
    shutil.copytree(export, changed)
    with (changed / "files" / "model.skops").open("ab") as file:
        file.write(b"x")
    with run_container(docker, image, "--volume", f"{changed}:/srv/wineexp/model:ro") as container:
        assert container.wait() == 1
        assert "model.skops in the stored model has SHA-256" in container.logs()


def test_a_server_is_unhealthy_while_it_hangs(docker: Docker, image: str) -> None:
    with run_container(docker, image) as container:
        wait_until_healthy(container)
        docker("kill", "--signal", "STOP", container.name)
        container.until(lambda: container.health == "unhealthy", 60)
        docker("kill", "--signal", "CONT", container.name)
        container.until(lambda: container.health == "healthy", 60)


def test_sigterm_under_load_drops_no_request(docker: Docker, image: str) -> None:
    with run_container(docker, image) as container:
        rows = samples(wait_until_healthy(container))
        # Docker's proxy would accept connections even after the server stopped.
        address = docker.inspect(container.name, ".NetworkSettings.IPAddress")
        outcomes: Counter[str] = Counter()
        stopped = threading.Event()

        def send_requests(_: int) -> None:
            while not stopped.is_set():
                try:
                    response = httpx.post(f"http://{address}:8000/predict", json=rows * 20, timeout=60)
                    outcomes[str(response.status_code)] += 1
                except httpx.ConnectError:
                    outcomes["not accepted"] += 1
                    return
                except httpx.TransportError as error:
                    outcomes[f"dropped: {error!r}"] += 1
                    return

        with ThreadPoolExecutor(8) as pool:
            clients = [pool.submit(send_requests, number) for number in range(8)]
            container.until(lambda: outcomes["200"] > 50)
            docker("stop", "--time", "40", container.name)
            stopped.set()
            for client in clients:
                client.result()
        assert set(outcomes) <= {"200", "not accepted"}, outcomes
        assert container.wait() == 0
        assert '"stopped"' in container.logs()


def test_memory_stays_within_its_limit_under_load(docker: Docker, image: str) -> None:
    with run_container(docker, image, "--memory", "384m", "--memory-swap", "384m") as container:
        rows = samples(wait_until_healthy(container))
        many = (rows * 10_000)[:10_000]
        with ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(lambda _: container.post("/predict", many).status_code, range(24)))
        assert statuses == [200] * 24
        assert is_running(container)
        assert not docker.inspect(container.name, ".State.OOMKilled")
