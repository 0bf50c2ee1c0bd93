"""The server process imports neither pandas nor MLflow. The refresh process does, and is there only when needed."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.conftest import Server, Store, children, promote, serving
from tests.serving.test_alias import refused, served_version, stored_predictions
from tests.serving.test_alias_checker import bring_the_files_back, hide_the_files, reseal
from wineexp.models import manifest
from wineexp.tracking.names import MODEL_FORM
from wineexp.tracking.registry import Registry

HEAVY_LIBRARIES = re.compile(
    r"/(pandas|sklearn|scikit_learn\.libs|xgboost|mlflow|skops|scipy|matplotlib|sqlalchemy|pyarrow)/"
)

# With this, the refresh process ends as soon as it has nothing to do.
SHORT_IDLE = "serve.verifier_idle_timeout_seconds=0.5"


def loaded_libraries(pid: int) -> set[str]:
    """Those of the heavy libraries whose files a process has mapped into its memory."""
    return set(HEAVY_LIBRARIES.findall(Path(f"/proc/{pid}/maps").read_text()))


def resident_megabytes(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def refresh_process(server: Server) -> int:
    """The process id of the only child of a server, once it is there."""
    server.until(lambda: children(server), 30)
    (pid,) = children(server)
    return pid


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_the_server_module_imports_no_heavy_library() -> None:
    code = (
        "import sys; import wineexp.serving.app, wineexp.serving.server;"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "litestar" in done.stdout.split()
    assert not {"pandas", "sklearn", "xgboost", "mlflow", "skops", "scipy", "sqlalchemy"} & set(done.stdout.split())


@pytest.mark.journey
def test_the_refresh_process_comes_and_goes_while_the_server_stays_small(own_store: Store) -> None:
    with serving(own_store, SHORT_IDLE, afresh=True) as server:
        row = server.get("/model").json()["schema"]["samples"][0]["row"]
        for path, body in {"/predict": [row] * 200, "/invocations": {"dataframe_records": [row]}}.items():
            assert server.post(path, body).status_code == 200
        for path in ("/", "/model", "/card", "/schema", "/docs", "/metrics", "/readyz", "/v2/models/wine"):
            assert server.get(path).status_code == 200
        assert server.get("/readyz").json()["form"] == server.get("/model").json()["form"] == "compiled"
        server.until(lambda: not server.get("/readyz").json()["stale"])
        # It ends when idle; what is known about the alias stays known.
        server.until(lambda: not children(server))
        ready = server.get("/readyz").json()
        assert (ready["stale"], ready["registry"], ready["refused"]) == (False, "reachable", None)
        assert server.metric("wineexp_registry_up") == 1
        # It is started for a new version. Killed at work, it is started again, and the server goes on meanwhile.
        own_store.point(1)
        killed = refresh_process(server)
        os.kill(killed, signal.SIGKILL)
        server.until(lambda: server.get("/readyz").json()["stale"])
        ready = server.get("/readyz").json()
        assert ready["ready"] is True
        assert "has ended; it is started again" in ready["registry"]
        assert server.metric("wineexp_registry_up") == 0
        assert server.post("/predict", row).json()["model"]["version"] == 2
        server.until(lambda: served_version(server) == 1)
        server.until(lambda: not server.get("/readyz").json()["stale"])
        assert [line["pid"] for line in server.lines() if line["event"] == "refresh process died"] == [killed]
        assert server.metric("wineexp_model_swaps_total") == 1
        # It is started for an explanation, which needs neither the registry nor the cache while one of them is there.
        shutil.rmtree(own_store.cache)
        explaining = []

        def is_explained() -> bool:
            response = server.post("/explain", row)
            explaining.extend(children(server))
            # While the process starts, a busy machine may let the request time out.
            return response.status_code == 200 and response.json()["model"]["version"] == 1

        server.until(is_explained)
        assert {"pandas", "sklearn"} <= loaded_libraries(explaining[-1])
        assert loaded_libraries(server.process.pid) == set()
        assert resident_megabytes(server.process.pid) < 100
        assert server.stop() == 0
        assert not is_running(explaining[-1])


@pytest.mark.journey
def test_the_refresh_process_does_not_outlive_a_server_that_is_killed(own_store: Store) -> None:
    with serving(own_store, afresh=True) as server:
        pid = refresh_process(server)
        server.process.kill()
        server.process.wait()
        server.until(lambda: not is_running(pid))


@pytest.mark.journey
def test_a_version_of_another_model_that_is_not_compiled_is_served_by_its_pipeline(
    own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own_store.files(1) / "extra_files" / manifest.COMPILED_MODEL_FILE).unlink()
    reseal(own_store)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    original = Registry(own_store.uri, "wine").version("1")
    tags = original.tags | {MODEL_FORM: "of a type that is not compiled"}
    Registry(own_store.uri, "other").register(original.run_id, original.source.removeprefix("models:/"), tags)
    own_store.client.set_registered_model_alias("other", "challenger", "1")
    shutil.rmtree(own_store.cache)
    overrides = ("registry.name=other", "serve.alias=challenger", "serve.cache_folder=null")
    with serving(own_store, *overrides) as server:
        description = server.get("/model").json()
        assert (description["model"]["name"], description["model"]["alias"]) == ("other", "challenger")
        assert description["form"] == server.get("/readyz").json()["form"] == "of a type that is not compiled"
        rows = [sample["row"] for sample in description["schema"]["samples"]]
        probabilities = [
            list(prediction["probabilities"].values())
            for prediction in server.post("/predict", rows).json()["predictions"]
        ]
        assert probabilities == [pytest.approx(row, abs=1e-12) for row in stored_predictions(own_store, 1, rows)]
        assert "sklearn" in loaded_libraries(server.process.pid)
    assert not own_store.cache.exists()


@pytest.mark.journey
def test_a_promoted_model_of_a_type_that_is_not_compiled_says_so(own_store: Store) -> None:
    promote(own_store.folder, "model=svm", "model.estimator.kernel=linear", name="other")
    assert "model.form" in own_store.client.get_model_version("other", "1").tags
    with serving(own_store, "registry.name=other", "serve.cache_folder=null") as server:
        description = server.get("/model").json()
        assert "a SVC with kernel=linear" in description["form"]
        assert server.post("/predict", description["schema"]["samples"][0]["row"]).status_code == 200


@pytest.mark.journey
def test_what_was_known_stays_known_to_later_refresh_processes(own_store: Store) -> None:
    with serving(own_store, SHORT_IDLE) as server:
        row = server.get("/model").json()["schema"]["samples"][0]["row"]
        server.until(lambda: not children(server))
        # What was refused, and how often.
        model = own_store.files(1) / "model.skops"
        whole = model.read_bytes()
        model.write_bytes(whole + b"x")
        own_store.point(1)
        server.until(lambda: refused(server))
        refusal = refused(server)
        server.until(lambda: not children(server))
        assert server.post("/refresh", "").json()["refused"] == refusal
        assert server.post("/predict", row).json()["model"]["version"] == 2
        assert server.metric("wineexp_model_refusals_total") == server.metric("wineexp_model_load_failures_total") == 1
        model.write_bytes(whole)
        own_store.point(2)
        server.until(lambda: refused(server) is None)
        own_store.client.delete_registered_model_alias("wine", "champion")
        server.until(lambda: refused(server))
        own_store.point(1)
        server.until(lambda: served_version(server) == 1)
        server.until(lambda: not children(server))
        assert server.metric("wineexp_model_swaps_total") == 1
        # Files that cannot be had are asked for again, although nothing changes in the registry.
        hide_the_files(own_store)
        own_store.point(2)
        server.until(lambda: served_version(server) == 2)
        own_store.point(1)
        server.until(lambda: refused(server))
        assert refused(server)["final"] is False
        bring_the_files_back(own_store)
        server.until(lambda: served_version(server) == 1)
        server.until(lambda: not children(server))
