"""An exported version: served without a registry, and refused where a byte of it was changed."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.conftest import run
from tests.serving.conftest import Server, Store, serving
from tests.serving.test_page import Page
from wineexp.core.errors import UserError
from wineexp.serving.model import export


@pytest.fixture(scope="module")
def exported(store: Store) -> Path:
    """The folder of an exported version."""
    done = run(store.folder, "promote", "export=exported", "note='From the cellar.'")
    assert done.returncode == 0, done.stderr
    assert "Serve it: python -m wineexp.serve serve.export_folder=exported" in done.stdout
    return store.folder / "exported"


@pytest.fixture(scope="module")
def export_server(store: Store, exported: Path) -> Iterator[Server]:
    """A server of the export, without any registry."""
    with serving(store, f"serve.export_folder={exported}", "tracking=off", MLFLOW_TRACKING_URI="") as running:
        yield running


@pytest.mark.journey
def test_the_export_is_served_like_the_version_in_the_registry(export_server: Server, server: Server) -> None:
    rows = [sample["row"] for sample in server.get("/model").json()["schema"]["samples"]]
    of_export, of_registry = export_server.get("/model").json(), server.get("/model").json()
    assert (of_export["source"]["kind"], of_export["source"]["note"]) == ("export", "From the cellar.")
    assert of_registry["source"]["kind"] == "registry"
    for key in ("model", "schema", "params", "metrics", "card", "golden_max_difference"):
        assert of_export[key] == of_registry[key]
    predictions = [each.post("/predict", rows).json()["predictions"] for each in (export_server, server)]
    assert predictions[0] == predictions[1]
    attributions = [each.post("/explain", rows[0]).json()["attribution"] for each in (export_server, server)]
    assert attributions[0] == attributions[1]


@pytest.mark.journey
def test_the_page_says_that_an_export_is_served(export_server: Server, driver: webdriver.Chrome) -> None:
    text = Page(driver, export_server).text("lineage")
    assert "From the cellar. Exported on " in text
    assert text.endswith("this server follows no registry.")


def test_an_export_needs_no_registry(export_server: Server) -> None:
    ready = export_server.post("/refresh", {}).json()
    assert (ready["registry"], ready["stale"], ready["refused"]) == ("none", False, None)
    assert "wineexp_registry_up NaN" in export_server.get("/metrics").text


def test_the_address_of_the_registry_is_left_out(store: Store, exported: Path) -> None:
    assert store.uri not in (exported / export.RECORD).read_text()


def test_a_registry_in_the_environment_wins(store: Store, exported: Path) -> None:
    with serving(store, f"serve.export_folder={exported}") as server:
        assert server.get("/model").json()["source"]["kind"] == "registry"


def change_a_file(folder: Path) -> None:
    golden = folder / "files/extra_files/golden.json"
    golden.write_text(golden.read_text().replace("0.9", "0.8"))


def add_a_file(folder: Path) -> None:
    (folder / "files/more.py").touch()


def change_the_record(folder: Path) -> None:
    record = folder / export.RECORD
    record.write_text(record.read_text().replace("champion", "campion"))


def list_fewer_files(folder: Path) -> None:
    record = folder / export.RECORD
    content = json.loads(record.read_text())
    content["export"]["version"]["files"].popitem()
    record.write_text(json.dumps(content))


def delete_the_record(folder: Path) -> None:
    (folder / export.RECORD).unlink()


def cut_the_record(folder: Path) -> None:
    record = folder / export.RECORD
    record.write_bytes(record.read_bytes()[:-10])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_a_file, "extra_files/golden.json in the stored model has SHA-256"),
        (add_a_file, "more.py was added"),
        (change_the_record, "export.json was changed after it was written"),
        (list_fewer_files, "export.json lists other files than were registered"),
        (delete_the_record, "holds no export.json"),
        (cut_the_record, "export.json cannot be read"),
    ],
)
def test_a_changed_export_is_refused(
    exported: Path, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(exported, changed)
    change(changed)
    with pytest.raises(UserError, match=message):
        export.read(changed)


def test_a_server_of_a_changed_export_does_not_start(store: Store, exported: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(exported, changed)
    add_a_file(changed)
    done = run(store.folder, "serve", f"serve.export_folder={changed}", "serve.port=0", MLFLOW_TRACKING_URI="")
    assert done.returncode == 1
    assert "more.py was added" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.journey
@pytest.mark.usefixtures("exported")
def test_an_existing_folder_is_not_written_over(store: Store) -> None:
    done = run(store.folder, "promote", "export=exported")
    assert done.returncode == 1
    assert "export=exported: it is there already" in done.stderr
    unknown = run(store.folder, "promote", "export=other", "alias=champoin")
    assert unknown.returncode == 1
    assert "did you mean champion?" in unknown.stderr
    assert not (store.folder / "other").exists()
