"""The served version follows the alias; versions that fail a check are refused, and the served one stays."""

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import httpx
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from tests.conftest import free_port, mlflow_server, run
from tests.serving.conftest import (
    Server,
    Store,
    children,
    composed_settings,
    copy_store,
    promote,
    server_settings,
    serving,
)
from tests.serving.test_predictions import problem
from wineexp.core.config import Tracking
from wineexp.models import manifest
from wineexp.models.compiled import file_format
from wineexp.serving.model.cache import Cache
from wineexp.serving.refresh.alias_checker import AliasChecker
from wineexp.serving.refresh.messages import AliasState
from wineexp.serving.refresh.verifier import Verifier
from wineexp.tracking.names import MODEL_FILES, MODEL_SHA256
from wineexp.tracking.registry import Registry, Version
from wineexp.tracking.store import UnavailableError


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


def reseal(store: Store) -> None:
    """Register the files of version 1 as they are now, so that their digests do not give a change away."""
    digests = manifest.create(store.files(1))
    store.client.set_model_version_tag("wine", "1", MODEL_FILES, json.dumps(digests))
    store.client.set_model_version_tag("wine", "1", MODEL_SHA256, manifest.digest(digests))


def append_a_byte(store: Store) -> None:
    with (store.files(1) / "model.skops").open("ab") as file:
        file.write(b"x")


def add_a_file(store: Store) -> None:
    (store.files(1) / "more.py").write_text("import os")


def delete_the_digests(store: Store) -> None:
    store.client.delete_model_version_tag("wine", "1", "model.files")


def hide_the_files(store: Store) -> None:
    files = store.files(1)
    shutil.move(files, files.with_name("hidden"))


def bring_the_files_back(store: Store) -> None:
    files = store.files(1)
    shutil.move(files.with_name("hidden"), files)


def edit_json(store: Store, name: str, edit: Callable[[dict[str, Any]], None]) -> None:
    path = store.files(1) / "extra_files" / name
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    reseal(store)


def change_a_probability(store: Store) -> None:
    def edit(golden: dict[str, Any]) -> None:
        golden["probabilities"][0][0] += 2e-6

    edit_json(store, "golden.json", edit)


def change_a_decision(store: Store) -> None:
    def edit(golden: dict[str, Any]) -> None:
        golden["decisions"][0] = (golden["decisions"][0] + 1) % 3

    edit_json(store, "golden.json", edit)


def add_prediction_sets(store: Store) -> None:
    def edit(golden: dict[str, Any]) -> None:
        golden["prediction_sets"] = [[True] * 3] * len(golden["rows"]["data"])

    edit_json(store, "golden.json", edit)


def rename_a_class(store: Store) -> None:
    edit_json(store, "schema.json", lambda schema: schema.update(classes=["1", "2", "4"]))


def rename_a_feature_in_the_signature(store: Store) -> None:
    path = store.files(1) / "MLmodel"
    path.write_text(path.read_text().replace('"name": "ash"', '"name": "cinders"'))
    reseal(store)


def delete_the_schema(store: Store) -> None:
    (store.files(1) / "extra_files/schema.json").unlink()
    reseal(store)


def replace_the_pipeline(store: Store) -> None:
    (store.files(1) / "model.skops").write_bytes(b"PK no skops file")
    reseal(store)


def edit_compiled_model(store: Store, edit: Callable[[dict[str, Any]], None]) -> None:
    path = store.files(1) / "extra_files" / manifest.COMPILED_MODEL_FILE
    plan, arrays = file_format.unpack(path.read_bytes())
    edit(arrays)
    path.write_bytes(file_format.pack(plan, arrays))
    reseal(store)


def cut_an_array_of_the_compiled_model(store: Store) -> None:
    def edit(arrays: dict[str, Any]) -> None:
        arrays["transformer0.fill"] = arrays["transformer0.fill"][1:]

    edit_compiled_model(store, edit)


def change_the_compiled_model(store: Store) -> None:
    def edit(arrays: dict[str, Any]) -> None:
        arrays["classifier.offset"][0] += 1e-3

    edit_compiled_model(store, edit)


DAMAGES: list[tuple[Callable[[Store], None], str]] = [
    (append_a_byte, "has SHA-256"),
    (add_a_file, "more.py was added"),
    (delete_the_digests, "no readable tag model.files"),
    (change_a_probability, "off by 2e-06"),
    (change_a_decision, "its decisions on its golden rows are not those"),
    (add_prediction_sets, "its prediction sets on its golden rows are not those"),
    (rename_a_class, "the classes"),
    (rename_a_feature_in_the_signature, "its signature"),
    (delete_the_schema, "has no schema.json"),
    (replace_the_pipeline, "no whole skops file"),
    (cut_an_array_of_the_compiled_model, "transformer0.fill of the compiled model"),
    (change_the_compiled_model, "its predictions on its golden rows are off"),
]


@dataclass
class Checked:
    """A store whose alias is checked in this process, and the state before version 1 is broken."""

    store: Store
    checker: AliasChecker
    state: AliasState


@pytest.fixture
def checked(own_store: Store, monkeypatch: pytest.MonkeyPatch) -> Checked:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    checker = AliasChecker(server_settings(own_store), own_store.cache)
    state = checker.check(AliasState())
    assert state.version is not None
    assert state.version.number == 2
    return Checked(own_store, checker, state)


@pytest.mark.journey
def test_a_damaged_version_is_refused_once_and_the_accepted_one_stays(checked: Checked) -> None:
    store, state = checked.store, checked.state
    whole = store.folder / "whole"
    shutil.copytree(store.files(1), whole)
    for count, (damage, reason) in enumerate(DAMAGES, 1):
        damage(store)
        store.point(1)
        state = checked.checker.check(state)
        assert state.refusal is not None, damage.__name__
        assert (state.refusal.version, state.refusal.final) == (1, True)
        assert any(reason in why for why in state.refusal.why), (damage.__name__, state.refusal.why)
        assert state.version == checked.state.version
        assert (state.refusals, state.load_failures) == (count, count)
        # Another process that goes on from this state does not try the version again.
        assert AliasChecker(server_settings(store), store.cache).check(state) == state
        store.point(2)
        state = checked.checker.check(state)
        assert state.refusal is None
        shutil.rmtree(store.files(1))
        shutil.copytree(whole, store.files(1))
        reseal(store)
    store.point(1)
    state = checked.checker.check(state)
    assert state.version is not None
    assert (state.version.number, state.refusal) == (1, None)


def test_files_that_cannot_be_had_are_tried_again(checked: Checked) -> None:
    hide_the_files(checked.store)
    checked.store.point(1)
    first = checked.checker.check(checked.state)
    assert first.refusal is not None
    assert (first.refusal.version, first.refusal.final) == (1, False)
    assert "cannot be fetched" in first.refusal.why[0]
    second = checked.checker.check(first)
    assert (second.load_failures, second.refusals) == (2, 0)
    assert second.refusal == first.refusal
    bring_the_files_back(checked.store)
    third = checked.checker.check(second)
    assert third.version is not None
    assert (third.version.number, third.refusal) == (1, None)


def assert_served_from_fallback(store: Store, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fallback = store.folder / "fallback"
    state = AliasChecker(server_settings(store), cache, fallback).check(AliasState())
    assert state.version is not None, state.faults
    assert (Path(state.version.folder) / "MLmodel").is_file()
    assert Path(state.version.folder).is_relative_to(fallback)
    assert "cache not usable, so that a restart needs the registry" in capsys.readouterr().out


def test_a_version_is_served_although_the_cache_cannot_be_written(
    own_store: Store, disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with suppress(OSError):
        # As much as the disk takes.
        (disk / "full").write_bytes(bytes(2**26))
    assert_served_from_fallback(own_store, disk / "cache", capsys)


def test_a_version_is_served_although_a_file_is_in_the_place_of_the_cache(
    own_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (own_store.folder / "file").touch()
    assert_served_from_fallback(own_store, own_store.folder / "file/cache", capsys)


@pytest.mark.parametrize(
    ("why", "attempts"),
    [(MlflowException("timed out"), 1), (MlflowException("##### File a #####\n[Errno 28] No space left on device"), 2)],
)
def test_a_version_is_fetched_once_more_only_where_the_disk_fails(
    tmp_path: Path, why: Exception, attempts: int
) -> None:
    folders: list[Path] = []

    class Failing:
        def fetch(self, _: Version, folder: Path) -> Path:
            folders.append(folder)
            raise UnavailableError("the files cannot be fetched") from why

    caches = [Cache(tmp_path / name, "uri", "wine", "champion") for name in ("cache", "fallback")]
    verifier = Verifier(composed_settings(), *caches)
    with pytest.raises(UnavailableError):
        verifier.from_registry(cast(Registry, Failing()), cast(Version, None))
    assert [folder.parent for folder in folders] == [cache.folder for cache in caches][:attempts]


def test_a_deleted_alias_is_a_refusal(checked: Checked) -> None:
    checked.store.client.delete_registered_model_alias("wine", "champion")
    state = checked.checker.check(checked.state)
    assert state.version == checked.state.version
    assert state.refusal is not None
    assert "names nothing any more" in state.refusal.why[0]
    # A server that starts without a cached version has nothing to serve.
    fresh = AliasChecker(server_settings(checked.store), checked.store.folder / "empty").check(AliasState())
    assert fresh.version is None
    assert any("has no version or alias of this name" in fault for fault in fresh.faults)


def test_a_verified_version_is_explained_from_wherever_it_still_is(checked: Checked) -> None:
    version = checked.state.version
    assert version is not None
    assert checked.checker.verified_version(version).version == version
    # By a later process: from the cache, then from the registry.
    assert AliasChecker(server_settings(checked.store), checked.store.cache).verified_version(version) is not None
    shutil.rmtree(checked.store.cache)
    later = AliasChecker(server_settings(checked.store), checked.store.cache)
    assert later.verified_version(version).version.identity == version.identity
    shutil.rmtree(checked.store.cache)
    checked.store.point(1)
    with pytest.raises(Exception, match="neither in the cache nor behind the alias"):
        AliasChecker(server_settings(checked.store), checked.store.cache).verified_version(version)


def test_a_registry_that_cannot_be_reached_is_reported_at_once(
    own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    start = time.monotonic()
    settings = replace(server_settings(own_store), tracking=Tracking("http://127.0.0.1:9"))
    state = AliasChecker(settings, own_store.folder / "empty").check(AliasState())
    assert time.monotonic() - start < 20
    assert state.version is None
    assert state.unreachable is not None
    assert "cannot be opened" in state.unreachable
    assert "holds no version of wine behind champion to start from" in state.faults[0]


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
