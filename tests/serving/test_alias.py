"""The alias moves, versions break, the registry goes away: what is served stays right, and says what it is."""

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pandas as pd
import pytest

from tests.conftest import run
from tests.serving.conftest import Server, Store, copied, promote, serving
from tests.serving.test_predictions import problem
from wineexp.models import manifest
from wineexp.models.compiled import file_format


@pytest.fixture
def own(promoted: Path, tmp_path: Path) -> Store:
    """A store that a test may break."""
    return copied(promoted, tmp_path)


def version(server: Server) -> int:
    return int(server.get("/readyz").json()["model"]["version"])


def expected(store: Store, number: int, rows: list[dict[str, float]]) -> list[list[float]]:
    """The probabilities that a version gives."""
    mlflow.set_tracking_uri(store.uri)
    model = mlflow.sklearn.load_model(store.client.get_model_version("wine", str(number)).source)
    return [model.predict_proba(pd.DataFrame([each]))[0].tolist() for each in rows]


def test_the_server_follows_the_alias(own: Store) -> None:
    with serving(own) as server:
        samples = [sample["row"] for sample in server.get("/model").json()["schema"]["samples"]]
        for number in (1, 2, 1):
            own.point(number)
            server.until(lambda number=number: version(server) == number)
            found = server.post("/predict", samples).json()
            assert found["model"]["version"] == number
            given = [list(each["probabilities"].values()) for each in found["predictions"]]
            assert given == [pytest.approx(each, abs=1e-12) for each in expected(own, number, samples)]
        assert server.metric("wineexp_model_swaps_total") == 3
        assert server.metric("wineexp_model_info", version="1") == 1
        assert server.metric("wineexp_model_info", version="2") == 0
        # Version 1 multiplies its features, which overflows.
        found = problem(server.post("/predict", [samples[0], samples[0] | {"alcohol": 1e300, "hue": 1e300}]), 422)
        (fault,) = found["errors"]
        assert (fault["row"], fault["pointer"]) == (1, "/1")
        assert "alcohol, hue" in fault["detail"]


def damage(store: Store, what: str) -> str:
    """Break version 1 and give what its refusal says."""
    files, client = store.files(1), store.client
    if what == "bytes":
        with (files / "model.skops").open("ab") as file:
            file.write(b"x")
        return "has SHA-256"
    if what == "added":
        (files / "more.py").write_text("import os")
        return "more.py was added"
    if what == "seal":
        client.delete_model_version_tag("wine", "1", "model.files")
        return "no readable tag model.files"
    if what == "gone":
        shutil.move(files, files.with_name("elsewhere"))
        return "cannot be fetched"
    # Everything below is sealed anew: only what is in the files gives it away.
    extra = files / "extra_files"
    if what == "golden":
        golden = json.loads((extra / "golden.json").read_text())
        golden["probabilities"][0][0] += 2e-6
        (extra / "golden.json").write_text(json.dumps(golden))
        told = "off by 2e-06"
    elif what == "decision":
        golden = json.loads((extra / "golden.json").read_text())
        golden["decisions"][0] = (golden["decisions"][0] + 1) % 3
        (extra / "golden.json").write_text(json.dumps(golden))
        told = "its decisions on its golden rows are not those"
    elif what == "set":
        golden = json.loads((extra / "golden.json").read_text())
        golden["prediction_sets"] = [[True] * 3] * len(golden["rows"]["data"])
        (extra / "golden.json").write_text(json.dumps(golden))
        told = "its prediction sets on its golden rows are not those"
    elif what == "schema":
        schema = json.loads((extra / "schema.json").read_text())
        schema["classes"] = ["1", "2", "4"]
        (extra / "schema.json").write_text(json.dumps(schema))
        told = "the classes"
    elif what == "signature":
        text = (files / "MLmodel").read_text()
        (files / "MLmodel").write_text(text.replace('"name": "ash"', '"name": "cinders"'))
        told = "its signature"
    elif what == "compiled":
        plan, arrays = file_format.unpack((extra / manifest.COMPILED_MODEL_FILE).read_bytes())
        arrays["transformer0.fill"] = arrays["transformer0.fill"][1:]
        (extra / manifest.COMPILED_MODEL_FILE).write_bytes(file_format.pack(plan, arrays))
        told = "transformer0.fill of the compiled model"
    elif what == "otherwise":
        plan, arrays = file_format.unpack((extra / manifest.COMPILED_MODEL_FILE).read_bytes())
        arrays["classifier.offset"][0] += 1e-3
        (extra / manifest.COMPILED_MODEL_FILE).write_bytes(file_format.pack(plan, arrays))
        told = "its probabilities on its golden rows are off"
    elif what == "no schema":
        (extra / "schema.json").unlink()
        told = "has no schema.json"
    else:
        (files / "model.skops").write_bytes(b"PK no skops file")
        told = "no whole skops file"
    reseal(store)
    return told


def reseal(store: Store) -> None:
    from wineexp.tracking.names import MODEL_FILES, MODEL_SHA256

    files = manifest.create(store.files(1))
    store.client.set_model_version_tag("wine", "1", MODEL_FILES, json.dumps(files))
    store.client.set_model_version_tag("wine", "1", MODEL_SHA256, manifest.digest(files))


def test_a_version_that_fails_a_check_is_refused_and_the_old_one_answers(own: Store) -> None:
    whole = own.folder / "whole"
    shutil.copytree(own.files(1), whole)
    with serving(own) as server:
        row = server.get("/model").json()["schema"]["samples"][0]["row"]
        before = server.post("/predict", row).json()["predictions"]
        kinds = ["bytes", "added", "golden", "schema", "signature", "no schema", "model", "seal"]
        kinds += ["compiled", "otherwise", "decision", "set"]
        for count, what in enumerate(kinds, 1):
            told = damage(own, what)
            own.point(1)
            server.until(lambda: server.get("/readyz").json()["refused"])
            refused = server.get("/readyz").json()["refused"]
            assert refused["version"] == 1
            assert any(told in why for why in refused["why"]), (what, refused)
            found = server.post("/predict", row).json()
            assert (found["model"]["version"], found["predictions"]) == (2, before)
            assert server.metric("wineexp_model_refusals_total") == count
            own.point(2)
            server.until(lambda: server.get("/readyz").json()["refused"] is None)
            shutil.rmtree(own.files(1))
            shutil.copytree(whole, own.files(1))
            reseal(own)
        refusals = [line for line in server.lines() if line["event"] == "version refused"]
        assert len(refusals) == len(kinds)
        # What can be mended is served once it is.
        damage(own, "gone")
        own.point(1)
        server.until(lambda: server.get("/readyz").json()["refused"])
        assert server.metric("wineexp_model_refusals_total") == len(kinds)
        files = own.files(1)
        shutil.move(files.with_name("elsewhere"), files)
        server.until(lambda: version(server) == 1)
        # An alias that is taken away takes nothing with it.
        own.client.delete_registered_model_alias("wine", "champion")
        server.until(lambda: server.get("/readyz").json()["refused"])
        assert server.post("/predict", row).status_code == 200


def test_a_server_starts_from_its_cache_while_the_registry_is_down(own: Store) -> None:
    with serving(own) as server:
        row = server.get("/model").json()["schema"]["samples"][0]["row"]
        answers = server.post("/predict", row).json()["predictions"]
    database, kept = own.folder / "mlflow.db", own.folder / "kept.db"
    for path in own.folder.glob("mlflow.db-*"):
        path.unlink()
    database.rename(kept)
    database.write_bytes(b"no database" * 1000)
    with serving(own) as server:
        ready = server.get("/readyz").json()
        assert (ready["ready"], ready["stale"]) == (True, True)
        assert "since" in ready["registry"]
        assert server.get("/model").json()["stale"] is True
        assert server.post("/predict", row).json()["predictions"] == answers
        assert server.metric("wineexp_registry_up") == 0
        database.unlink()
        kept.rename(database)
        server.until(lambda: server.get("/readyz").json()["stale"] is False)
        own.point(1)
        server.until(lambda: version(server) == 1)
    # A cache that was changed is none.
    database.rename(kept)
    database.write_bytes(b"no database" * 1000)
    (model,) = (own.folder / "outputs/serving").rglob("model.skops")
    model.write_bytes(model.read_bytes() + b"x")
    done = run(own.folder, "serve", "serve.port=0")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "holds no version of wine" in done.stderr


def test_an_unreachable_server_of_mlflow_is_told_at_once(own: Store) -> None:
    began = time.monotonic()
    done = run(own.folder, "serve", "serve.cache_folder=null", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "cannot be opened" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert time.monotonic() - began < 60


def test_another_model_is_a_word_of_conf(own: Store) -> None:
    promote(own.folder, "model=forest", "model.n_estimators=3", "feature=domain", name="other")
    own.client.set_registered_model_alias("other", "challenger", "1")
    with serving(own, "registry.name=other", "serve.alias=challenger") as server:
        found = server.get("/model").json()
        assert (found["model"]["name"], found["model"]["alias"]) == ("other", "challenger")
        answers = server.post("/predict", [sample["row"] for sample in found["schema"]["samples"]]).json()[
            "predictions"
        ]
        assert len(answers) == len(found["schema"]["samples"])


@pytest.mark.journey
@pytest.mark.usefixtures("wine_quality")
def test_another_data_set_is_a_word_of_conf(own: Store) -> None:
    promote(own.folder, "data=quality", "target=good", "model=xgb", "model.n_estimators=20", name="good")
    with serving(own, "registry.name=good") as server:
        found = server.get("/model").json()
        features = {feature["name"]: feature for feature in found["schema"]["features"]}
        assert set(features["colour"]["values"]) == {"red", "white"}
        row = found["schema"]["samples"][0]["row"]
        (answer,) = server.post("/predict", row).json()["predictions"]
        assert set(answer["probabilities"]) == {"ordinary", "good"}
        (fault,) = problem(server.post("/predict", row | {"colour": "rosé"}), 422)["errors"]
        assert "one of red, white is wanted" in fault["detail"]
        text = pd.DataFrame([row]).to_csv(index=False)
        assert server.post("/invocations", text, headers={"content-type": "text/csv"}).json() == {
            "predictions": [answer["class"]]
        }


@pytest.mark.journey
@pytest.mark.timeout(1200)
def test_no_request_fails_while_the_alias_flips_a_hundred_times(own: Store) -> None:
    with serving(own, "serve.poll_interval_seconds=0.05") as server:
        samples = [sample["row"] for sample in server.get("/model").json()["schema"]["samples"]]
        truth = {number: expected(own, number, samples) for number in (1, 2)}
        over = threading.Event()
        seen: list[Any] = []

        def ask() -> None:
            with httpx.Client(base_url=server.url, timeout=30) as client:
                place = 0
                while not over.is_set():
                    place = (place + 1) % len(samples)
                    response = client.post("/predict", json=samples[place])
                    seen.append((place, response.status_code, response.json()))
                    # The cores are for those who swap, too.
                    over.wait(0.01)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for flip in range(100):
                number = 1 + flip % 2
                own.point(number)
                server.until(lambda number=number: version(server) == number)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert server.metric("wineexp_model_swaps_total") == 100
        assert {status for _, status, _ in seen} == {200}
        for place, _, found in seen:
            (answer,) = found["predictions"]
            given = list(answer["probabilities"].values())
            assert given == pytest.approx(truth[found["model"]["version"]][place], abs=1e-12)
        assert {found["model"]["version"] for _, _, found in seen} == {1, 2}
        assert len(seen) > 1000
