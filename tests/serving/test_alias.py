"""The served version follows the alias; while one is refused or the registry is away, the served one stays."""

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from tests.conftest import free_port, mlflow_server, run
from tests.serving.conftest import Server, Store, children, copy_store, promote, serving
from tests.serving.test_alias_checker import change_a_decision
from tests.serving.test_predictions import problem


def served_version(server: Server) -> int:
    return int(server.get("/readyz").json()["model"]["version"])


def refused(server: Server) -> Any:
    return server.get("/readyz").json()["refused"]


def stored_predictions(store: Store, number: int, rows: list[dict[str, float]]) -> list[list[float]]:
    """The probabilities that the stored pipeline of a version gives."""
    model = store.load(number)
    return [model.predict_proba(pd.DataFrame([row]))[0].tolist() for row in rows]


@pytest.fixture(scope="module")
def moved_store(promoted: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store whose alias tests move, and move back to version 2."""
    return copy_store(promoted, tmp_path_factory.mktemp("moved"))


@pytest.fixture(scope="module")
def following_server(moved_store: Store) -> Iterator[Server]:
    """A server of the store whose alias moves."""
    with serving(moved_store) as running:
        yield running


def test_the_server_follows_the_alias(moved_store: Store, following_server: Server) -> None:
    server = following_server
    # It has started from its cache, before the registry was asked.
    assert "registry unreachable" not in [line["event"] for line in server.lines()]
    samples = [sample["row"] for sample in server.get("/model").json()["schema"]["samples"]]
    swaps = server.metric("wineexp_model_swaps_total")
    for number in (1, 2):
        moved_store.point(number)
        server.until(lambda number=number: served_version(server) == number)
        response = server.post("/predict", samples).json()
        assert response["model"]["version"] == number
        probabilities = [list(prediction["probabilities"].values()) for prediction in response["predictions"]]
        expected = stored_predictions(moved_store, number, samples)
        assert probabilities == [pytest.approx(row, abs=1e-12) for row in expected]
        assert server.metric("wineexp_model_info", version=str(number)) == 1
        assert server.metric("wineexp_model_info", version=str(3 - number)) == 0
        if number == 1:
            # This version multiplies its features, which overflows.
            refusal = server.post("/predict", [samples[0], samples[0] | {"alcohol": 1e300, "hue": 1e300}])
            (fault,) = problem(refusal, 422)["errors"]
            assert (fault["row"], fault["pointer"]) == (1, "/1")
            assert "alcohol, hue" in fault["detail"]
    assert server.metric("wineexp_model_swaps_total") == swaps + 2


@pytest.mark.journey
def test_a_registry_that_cannot_be_reached_ends_the_start(own_store: Store) -> None:
    done = run(own_store.folder, "serve", "serve.cache_folder=null", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "cannot be opened" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_server_goes_on_while_a_version_is_refused(moved_store: Store, following_server: Server) -> None:
    server = following_server
    row = server.get("/model").json()["schema"]["samples"][0]["row"]
    predictions = server.post("/predict", row).json()["predictions"]
    change_a_decision(moved_store)
    moved_store.point(1)
    server.until(lambda: refused(server))
    assert refused(server)["version"] == 1
    assert "its decisions on its golden rows are not those" in refused(server)["why"][0]
    response = server.post("/predict", row).json()
    assert (response["model"]["version"], response["predictions"]) == (2, predictions)
    assert server.metric("wineexp_model_refusals_total") == 1
    assert [line["version"] for line in server.lines() if line["event"] == "version refused"] == [1]
    moved_store.point(2)
    server.until(lambda: refused(server) is None)
    moved_store.client.delete_registered_model_alias("wine", "champion")
    server.until(lambda: refused(server))
    assert server.post("/predict", row).status_code == 200


@pytest.mark.journey
def test_a_server_starts_from_its_cache_while_the_registry_is_down(
    own_store: Store, server: Server, row: dict[str, float]
) -> None:
    predictions = server.post("/predict", row).json()["predictions"]
    database, saved = own_store.folder / "mlflow.db", own_store.folder / "saved.db"
    database.rename(saved)
    database.write_bytes(b"no database" * 1000)
    with serving(own_store) as own_server:
        ready = own_server.get("/readyz").json()
        assert (ready["ready"], ready["stale"]) == (True, True)
        assert "since" in ready["registry"]
        assert own_server.get("/model").json()["stale"] is True
        assert own_server.post("/predict", row).json()["predictions"] == predictions
        assert own_server.metric("wineexp_registry_up") == 0
        database.unlink()
        saved.rename(database)
        own_server.until(lambda: own_server.get("/readyz").json()["stale"] is False)
        own_store.point(1)
        own_server.until(lambda: served_version(own_server) == 1)
        # A database that is deleted is not made again, and one that is put back is read as it is.
        database.rename(saved)
        for left in own_store.folder.glob("mlflow.db-*"):
            left.unlink()
        own_server.until(lambda: own_server.get("/readyz").json()["stale"])
        assert "there is no such database" in own_server.get("/readyz").json()["registry"]
        assert [path.name for path in own_store.folder.glob("mlflow.db*") if path.suffix != ".lock"] == []
        saved.rename(database)
        own_server.until(lambda: own_server.get("/readyz").json()["stale"] is False)
        assert served_version(own_server) == 1


@pytest.mark.journey
def test_a_server_reads_a_registry_that_it_cannot_write(promoted: Path, disk: Path, tmp_path: Path) -> None:
    store = copy_store(promoted, disk / "store")
    before = sorted(store.folder.rglob("*"))
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with serving(Store(tmp_path), MLFLOW_TRACKING_URI=store.uri) as server:
        assert server.get("/readyz").json()["registry"] == "reachable"
        assert served_version(server) == 2
    assert sorted(store.folder.rglob("*")) == before


@pytest.mark.journey
def test_a_changed_cache_is_not_served(own_store: Store) -> None:
    (own_store.folder / "mlflow.db").write_bytes(b"no database" * 1000)
    (model,) = own_store.cache.rglob("model.skops")
    model.write_bytes(model.read_bytes() + b"x")
    done = run(own_store.folder, "serve", "serve.port=0")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "holds no version of wine" in done.stderr


@pytest.mark.journey
@pytest.mark.usefixtures("wine_quality")
def test_a_model_of_another_data_set_is_served(own_store: Store) -> None:
    promote(own_store.folder, "data=quality", "target=good", "model=xgb", "model.n_estimators=20", name="good")
    with serving(own_store, "registry.name=good") as server:
        description = server.get("/model").json()
        features = {feature["name"]: feature for feature in description["schema"]["features"]}
        assert set(features["colour"]["values"]) == {"red", "white"}
        row = description["schema"]["samples"][0]["row"]
        (prediction,) = server.post("/predict", row).json()["predictions"]
        assert set(prediction["probabilities"]) == {"ordinary", "good"}
        # A category that no training row has counts as a missing one, and is said.
        (unknown,) = server.post("/predict", row | {"colour": "rosé"}).json()["predictions"]
        (missing,) = server.post("/predict", row | {"colour": None}).json()["predictions"]
        assert unknown == missing
        assert "colour" in unknown["out_of_range"]
        text = pd.DataFrame([row]).to_csv(index=False)
        assert server.post("/invocations", text, headers={"content-type": "text/csv"}).json() == {
            "predictions": [prediction["class"]]
        }


@contextmanager
def mlflow_registry(store: Store, port: int) -> Iterator[None]:
    """MLflow's server over a store, killed at the end."""
    folders = ["--backend-store-uri", store.uri, "--artifacts-destination", str(store.folder / "artifacts")]
    with mlflow_server(store.folder, "server", *folders, MLFLOW_PORT=str(port)):
        yield


@pytest.mark.journey
def test_a_registry_that_dies_is_reported_and_followed_again_when_it_is_back(own_store: Store) -> None:
    port = free_port()
    with ExitStack() as up:
        up.enter_context(mlflow_registry(own_store, port))
        address = f"http://127.0.0.1:{port}"
        with serving(own_store, "serve.verifier_idle_timeout_seconds=1", MLFLOW_TRACKING_URI=address) as server:
            row = server.get("/model").json()["schema"]["samples"][0]["row"]
            # While nothing changes, the registry is polled without the refresh process.
            server.until(lambda: not children(server))
            assert server.get("/readyz").json()["registry"] == "reachable"
            own_store.point(1)
            server.until(lambda: served_version(server) == 1)
            server.until(lambda: not children(server))
            predictions = server.post("/predict", row).json()["predictions"]
            assert server.metric("wineexp_registry_up") == 1
            up.close()
            server.until(lambda: server.get("/readyz").json()["stale"])
            # It is said at once that the registry is away, and why as soon as MLflow's client has found it out.
            server.until(lambda: "refused" in server.get("/readyz").json()["registry"])
            reason = server.get("/readyz").json()["registry"]
            assert re.match(r"since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", reason)
            assert server.metric("wineexp_registry_up") == 0
            assert server.post("/predict", row).json()["predictions"] == predictions
            # While it is away, it is polled without the refresh process, too.
            server.until(lambda: not children(server))
            assert server.get("/readyz").json()["registry"] == reason
            with mlflow_registry(own_store, port):
                server.until(lambda: not server.get("/readyz").json()["stale"])
                assert server.metric("wineexp_registry_up") == 1
                own_store.point(2)
                server.until(lambda: served_version(server) == 2)
                server.until(lambda: not children(server))
            events = [line["event"] for line in server.lines()]
            # Once more where the reason was not known at first.
            assert events.count("registry unreachable") in (1, 2)
            assert "failed" not in events


@pytest.mark.journey
@pytest.mark.timeout(1200)
def test_no_request_fails_while_the_alias_flips_twenty_times(own_store: Store) -> None:
    with serving(own_store, "serve.poll_interval_seconds=0.05") as server:
        samples = [sample["row"] for sample in server.get("/model").json()["schema"]["samples"]]
        expected = {number: stored_predictions(own_store, number, samples) for number in (1, 2)}
        stopping = threading.Event()
        responses: list[Any] = []

        def send_requests() -> None:
            with httpx.Client(base_url=server.url, timeout=30) as client:
                position = 0
                while not stopping.is_set():
                    position = (position + 1) % len(samples)
                    response = client.post("/predict", json=samples[position])
                    responses.append((position, response.status_code, response.json()))
                    # Leaves time on the cores for the swaps.
                    stopping.wait(0.01)

        threads = [threading.Thread(target=send_requests) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for flip in range(20):
                number = 1 + flip % 2
                own_store.point(number)
                server.until(lambda number=number: served_version(server) == number)
        finally:
            stopping.set()
            for thread in threads:
                thread.join()
        assert server.metric("wineexp_model_swaps_total") == 20
        assert {status for _, status, _ in responses} == {200}
        for position, _, response in responses:
            (prediction,) = response["predictions"]
            probabilities = list(prediction["probabilities"].values())
            assert probabilities == pytest.approx(expected[response["model"]["version"]][position], abs=1e-12)
        assert {response["model"]["version"] for _, _, response in responses} == {1, 2}
        assert len(responses) > 500
