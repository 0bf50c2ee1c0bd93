"""What answers is lean: a compiled version in a process without the libraries that made it, and alone."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.serving.conftest import Server, Store, children, copied, promote, serving

HEAVY = re.compile(r"/(pandas|sklearn|scikit_learn\.libs|xgboost|mlflow|skops|scipy|matplotlib|sqlalchemy|pyarrow)/")


def loaded(pid: int) -> set[str]:
    """Libraries in a process's memory that a lean one goes without."""
    return set(HEAVY.findall(Path(f"/proc/{pid}/maps").read_text()))


def resident(pid: int) -> float:
    """Megabytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def examiner(server: Server) -> int:
    """Its process id: the only child of the server, if it is there."""
    server.until(lambda: children(server), 30)
    (found,) = children(server)
    return found


@pytest.fixture(scope="module")
def predictor(store: Store) -> Any:
    """A server that has answered every kind of question, from a cache that was there."""
    with serving(store):
        pass
    with serving(store) as server:
        row = server.get("/model").json()["schema"]["samples"][0]["row"]
        # What explains has started then.
        server.until(lambda: not server.get("/readyz").json()["stale"], 120)
        for path, body in {
            "/predict": [row] * 200,
            "/explain": row,
            "/invocations": {"dataframe_records": [row]},
        }.items():
            assert server.post(path, body).status_code == 200
        for path in ("/", "/model", "/card", "/schema", "/docs", "/metrics", "/readyz", "/v2/models/wine"):
            assert server.get(path).status_code == 200
        yield server


def test_a_compiled_version_is_served_without_the_libraries_that_made_it(predictor: Server) -> None:
    assert predictor.get("/readyz").json()["form"] == predictor.get("/model").json()["form"] == "compiled"
    assert loaded(predictor.process.pid) == set()
    assert resident(predictor.process.pid) < 100
    # That the pattern finds them where they are.
    assert {"pandas", "sklearn", "xgboost"} <= loaded(examiner(predictor))


def test_what_a_server_imports_is_light() -> None:
    code = (
        "import sys; import wineexp.serving.app, wineexp.serving.server;"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pandas", "sklearn", "xgboost", "mlflow", "skops", "scipy", "sqlalchemy"} & set(told.stdout.split())


def test_what_is_heavy_ends_when_idle_and_is_started_for_what_comes(own: Store) -> None:
    with serving(own, "serve.verifier_idle_timeout_seconds=1") as server:
        row = server.get("/model").json()["schema"]["samples"][0]["row"]
        server.until(lambda: not children(server))
        ready = server.get("/readyz").json()
        assert (ready["stale"], ready["registry"], ready["refused"]) == (False, "reachable", None)
        assert server.metric("wineexp_registry_up") == 1
        # All of its processes, as it goes on.
        assert resident(server.process.pid) < 100
        assert server.post("/explain", row).json()["model"]["version"] == 2
        server.until(lambda: not children(server))
        # What is known stays known from one to the next: what was refused, and how often.
        damaged = next(own.files(1).glob("model.skops"))
        whole = damaged.read_bytes()
        damaged.write_bytes(whole + b"x")
        own.point(1)
        server.until(lambda: server.get("/readyz").json()["refused"])
        refused = server.get("/readyz").json()["refused"]
        server.until(lambda: not children(server))
        server.get("/readyz")
        assert server.post("/refresh", "").json()["refused"] == refused
        assert server.post("/predict", row).json()["model"]["version"] == 2
        assert server.metric("wineexp_model_refusals_total") == server.metric("wineexp_model_load_failures_total") == 1
        damaged.write_bytes(whole)
        own.point(2)
        server.until(lambda: server.get("/readyz").json()["refused"] is None)
        own.client.delete_registered_model_alias("wine", "champion")
        server.until(lambda: server.get("/readyz").json()["refused"])
        own.point(1)
        server.until(lambda: server.get("/readyz").json()["model"]["version"] == 1)
        server.until(lambda: not children(server))
        assert server.metric("wineexp_model_swaps_total") == 1
        # An explanation does without the registry, and without the cache as long as there is one.
        shutil.rmtree(own.folder / "outputs/serving")
        assert server.post("/explain", row).json()["model"]["version"] == 1


def test_what_cannot_be_had_yet_is_asked_for_again(own: Store) -> None:
    with serving(own, "serve.verifier_idle_timeout_seconds=0.1") as server:
        server.until(lambda: not children(server))
        files = own.files(1)
        shutil.move(files, files.with_name("elsewhere"))
        own.point(1)
        server.until(lambda: server.get("/readyz").json()["refused"])
        assert server.get("/readyz").json()["refused"]["final"] is False
        # Nothing changes in the registry.
        shutil.move(files.with_name("elsewhere"), files)
        server.until(lambda: server.get("/readyz").json()["model"]["version"] == 1)
        server.until(lambda: not children(server))


def test_an_examiner_that_dies_at_work_is_told_of_and_comes_back(own: Store) -> None:
    with serving(own, "serve.verifier_idle_timeout_seconds=1") as server:
        row = server.get("/model").json()["schema"]["samples"][0]["row"]
        server.until(lambda: not children(server))
        own.point(1)
        before = examiner(server)
        os.kill(before, signal.SIGKILL)
        server.until(lambda: server.get("/readyz").json()["stale"])
        ready = server.get("/readyz").json()
        assert ready["ready"] is True
        assert "has ended; it is started again" in ready["registry"]
        assert server.metric("wineexp_registry_up") == 0
        assert server.post("/predict", row).json()["model"]["version"] == 2
        server.until(lambda: not server.get("/readyz").json()["stale"], 120)
        server.until(lambda: server.get("/readyz").json()["model"]["version"] == 1)
        assert [line["pid"] for line in server.lines() if line["event"] == "refresh process died"] == [before]
        assert server.post("/explain", row).json()["model"]["version"] == 1
        last = examiner(server)
        assert last != before
        assert server.stop() == 0
        server.until(lambda: not Path(f"/proc/{last}").exists())


def test_an_examiner_does_not_outlive_a_server_that_is_killed(own: Store) -> None:
    with serving(own) as server:
        left = examiner(server)
        server.process.kill()
        server.process.wait()
        server.until(lambda: not Path(f"/proc/{left}").exists())


def test_what_was_not_compiled_is_served_by_its_pipeline_and_says_why(own: Store) -> None:
    promote(own.folder, "model=svm", name="other")
    assert "model.form" in own.client.get_model_version("other", "1").tags
    with serving(own, "registry.name=other", "serve.cache_folder=null") as server:
        found = server.get("/model").json()
        assert "CalibratedClassifierCV" in found["form"]
        assert server.get("/readyz").json()["form"] == found["form"]
        assert server.post("/predict", found["schema"]["samples"][0]["row"]).status_code == 200
        assert "sklearn" in loaded(server.process.pid)
    assert not (own.folder / "outputs/serving").exists()


@pytest.fixture
def own(promoted: Path, tmp_path: Path) -> Store:
    """A store that a test may break."""
    return copied(promoted, tmp_path)
