"""The registry: only the files that were registered are loaded."""

import os
import pickle
import shutil
from pathlib import Path

import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from tests.conftest import composed
from tests.tracking.conftest import Stored
from wineexp.core.errors import UserError
from wineexp.models import manifest, persistence
from wineexp.tracking.names import MODEL_FILES, MODEL_SHA256
from wineexp.tracking.registry import Registry
from wineexp.tracking.store import UnavailableError
from wineexp.workflows.experiment import assemble


class Bomb:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (os.system, (f"touch {self.path}",))


def test_a_loaded_version_predicts_its_golden_rows(stored: Stored, tmp_path: Path) -> None:
    folder = stored.registry.fetch(stored.version, tmp_path / "fetched")
    assert persistence.pipeline_golden_rows_gap(stored.registry.load(stored.version), folder) == 0
    assert persistence.MODEL_FILE in stored.version.files
    assert stored.version.tags[MODEL_SHA256] == manifest.digest(stored.version.files)


def test_another_model_is_refused_by_its_checksum(stored: Stored) -> None:
    other = assemble(composed("model=logreg", "model.C=0.01")).fit()
    skops.io.dump(other, stored.files / persistence.MODEL_FILE)
    with pytest.raises(UserError, match=r"model\.skops in the stored model has SHA-256"):
        stored.registry.load(stored.version)


def test_a_truncated_model_is_refused_even_with_a_checksum_of_its_own(stored: Stored) -> None:
    model = stored.files / persistence.MODEL_FILE
    model.write_bytes(model.read_bytes()[:1000])
    with pytest.raises(UserError, match="has SHA-256"):
        stored.registry.load(stored.version)
    with pytest.raises(UserError, match="no whole skops file"):
        stored.registry.load(stored.with_new_checksums())


def test_a_pickle_is_not_executed(stored: Stored, tmp_path: Path) -> None:
    (stored.files / persistence.MODEL_FILE).write_bytes(pickle.dumps(Bomb(tmp_path / "bang")))
    with pytest.raises(UserError, match="no whole skops file"):
        stored.registry.load(stored.with_new_checksums())
    assert not (tmp_path / "bang").exists()


@pytest.mark.parametrize("listed", [False, True])
def test_a_type_that_is_not_trusted_is_refused_by_name(stored: Stored, tmp_path: Path, listed: bool) -> None:
    model = LogisticRegression()
    model.bomb = Bomb(tmp_path / "bang")
    skops.io.dump(model, stored.files / persistence.MODEL_FILE)
    if listed:
        # What the artifact itself says about trusted types does not count.
        description = stored.files / "MLmodel"
        text = description.read_text()
        changed = text.replace("- numpy.dtype", "- numpy.dtype\n    - tests.tracking.test_registry.Bomb")
        assert changed != text
        description.write_text(changed)
    with pytest.raises(UserError, match=r"tests\.tracking\.test_registry\.Bomb"):
        stored.registry.load(stored.with_new_checksums())
    assert not (tmp_path / "bang").exists()


@pytest.mark.parametrize("name", ["added.py", "extra_files/added.json"])
def test_an_added_file_is_refused_and_nothing_is_left_of_the_download(
    stored: Stored, tmp_path: Path, name: str
) -> None:
    (stored.files / name).write_text("1")
    folder = tmp_path / "fetched"
    folder.mkdir()
    with pytest.raises(UserError, match="was added"):
        stored.registry.fetch(stored.version, folder)
    assert list(folder.iterdir()) == []


def test_a_missing_file_is_refused(stored: Stored) -> None:
    (stored.files / persistence.MODEL_FILE).unlink()
    with pytest.raises(UserError, match=r"model\.skops is missing"):
        stored.registry.load(stored.version)


def test_a_link_that_leads_out_of_the_artifact_is_refused(stored: Stored, tmp_path: Path) -> None:
    outside = tmp_path / "outside.skops"
    skops.io.dump(LogisticRegression(), outside)
    (stored.files / persistence.MODEL_FILE).unlink()
    (stored.files / persistence.MODEL_FILE).symlink_to(outside)
    with pytest.raises(UserError, match="cannot be fetched"):
        stored.registry.load(stored.version)
    with pytest.raises(UserError, match="leads elsewhere"):
        manifest.create(stored.files)


def test_a_version_whose_source_is_another_folder_is_refused(stored: Stored, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").write_text("1")
    client, version = stored.registry.client, stored.version
    other = client.create_model_version("wine", f"file://{tmp_path}/other", version.run_id, version.tags)
    with pytest.raises(UserError, match="missing"):
        stored.registry.load(stored.registry.version(str(other.version)))


def test_files_that_are_gone_are_unavailable(stored: Stored) -> None:
    shutil.rmtree(stored.files)
    with pytest.raises(UnavailableError, match="there are none"):
        stored.registry.load(stored.version)


def test_a_version_without_checksums_is_not_loaded(stored: Stored) -> None:
    stored.registry.client.delete_model_version_tag("wine", "1", MODEL_FILES)
    with pytest.raises(UserError, match=r"no readable tag model\.files"):
        stored.registry.load(stored.registry.version("1"))


def test_a_model_that_predicts_differently_after_it_was_stored_is_not_verified(stored: Stored) -> None:
    golden = stored.files / manifest.EXTRA_FOLDER / manifest.GOLDEN_ROWS_FILE
    golden.write_text(golden.read_text().replace("0.", "0.1", 40))
    with pytest.raises(UserError, match="golden rows differently"):
        stored.registry.verify_stored_model(stored.version.source.removeprefix("models:/"), lambda _: None)


def test_an_unknown_alias_is_answered_with_the_known_ones(stored: Stored) -> None:
    stored.registry.client.set_registered_model_alias("wine", "champion", "1")
    with pytest.raises(UserError, match=r"did you mean champion\?"):
        stored.registry.version("champoin")


@pytest.mark.parametrize("name", ["team/wine", "wine:1", " "])
def test_a_name_that_mlflow_would_refuse_is_refused_at_once(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"registry.name={name}: .* has no / and no :"):
        Registry(f"sqlite:///{tmp_path}/mlflow.db", name)
    assert not list(tmp_path.iterdir())
