"""A process that checks an alias: versions that fail a check are refused, what cannot be had is tried again."""

import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from mlflow.exceptions import MlflowException

from tests.serving.conftest import Store, composed_settings, server_settings
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
