"""Fixtures: a model that is trained, stored and registered once, for every test that needs one."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest

from tests.conftest import composed, new_database
from wineexp.models import manifest, persistence
from wineexp.tracking.names import MODEL_FILES
from wineexp.tracking.registry import Registry, Version
from wineexp.tracking.run import Run
from wineexp.workflows.experiment import assemble


@dataclass(frozen=True)
class Stored:
    """A registered model `wine` whose version 1 is a logistic regression, and the folder of its files."""

    registry: Registry
    version: Version
    files: Path

    def with_new_checksums(self) -> Version:
        """The version with the checksums of whatever its files are now, as an attacker could write them."""
        checksums = json.dumps(manifest.create(self.files))
        self.registry.client.set_model_version_tag("wine", "1", MODEL_FILES, checksums)
        return self.registry.version("1")


@pytest.fixture(scope="session")
def stored_once(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    folder = tmp_path_factory.mktemp("registry")
    new_database(folder)
    (folder / "files").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        registry = Registry(f"sqlite:///{folder}/mlflow.db", "wine")
    experiment = assemble(composed("model=logreg"))
    fitted = experiment.fit()
    run = Run(registry.uri, "cultivar-cultivar", "logreg", {}, folder / "files")
    with run:
        files = {manifest.GOLDEN_ROWS_FILE: persistence.write_golden_rows(fitted, experiment.task.X.head())}
        model_id = str(run.log_model(fitted, experiment.task.X, files))
    version = registry.register(str(run.id), model_id, registry.verify_stored_model(model_id, lambda _: None))
    location = mlflow.MlflowClient().get_logged_model(model_id).artifact_location
    return Stored(registry, version, Path(location.removeprefix("file://")))


@pytest.fixture
def stored(stored_once: Stored, tmp_path: Path) -> Iterator[Stored]:
    """The stored model, whose files and tags are as they were after each test."""
    mlflow.set_tracking_uri(stored_once.registry.uri)
    copy = tmp_path / "copy-of-files"
    shutil.copytree(stored_once.files, copy)
    yield stored_once
    shutil.rmtree(stored_once.files, ignore_errors=True)
    shutil.copytree(copy, stored_once.files)
    client, version = stored_once.registry.client, stored_once.version
    client.set_model_version_tag("wine", "1", MODEL_FILES, version.tags[MODEL_FILES])


@pytest.fixture
def registry(stored_once: Stored, request: pytest.FixtureRequest) -> Registry:
    """A registered model of the test's own, whose version 1 is the stored one."""
    mlflow.set_tracking_uri(stored_once.registry.uri)
    name = re.sub(r"\W+", "-", request.node.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        registry = Registry(stored_once.registry.uri, name, lease_seconds=0.5)
    version = stored_once.version
    registry.register(version.run_id, version.source.removeprefix("models:/"), version.tags)
    return registry


@pytest.fixture
def run_id(stored_once: Stored) -> str:
    """The run of the stored model."""
    return stored_once.version.run_id
