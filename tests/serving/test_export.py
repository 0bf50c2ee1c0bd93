"""A version as a folder: served without a registry, and refused where a byte of it was changed."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.conftest import run
from tests.serving.conftest import Server, Store, serving
from tests.serving.test_page import Page, driver  # noqa: F401  the fixture
from wineexp.serving.model import export


@pytest.fixture(scope="module")
def folder(store: Store) -> Path:
    done = run(store.folder, "promote", "export=exported", "note='From the cellar.'")
    assert done.returncode == 0, done.stderr
    assert "Serve it: python -m wineexp.serve serve.export_folder=exported" in done.stdout
    return store.folder / "exported"


@pytest.fixture(scope="module")
def alone(store: Store, folder: Path) -> Iterator[Server]:
    """A server that no registry is named to."""
    with serving(store, f"serve.export_folder={folder}", "tracking=off", MLFLOW_TRACKING_URI="") as running:
        yield running


def test_it_answers_as_the_registry_s_version_does(alone: Server, server: Server) -> None:
    rows = [sample["row"] for sample in server.get("/model").json()["schema"]["samples"]]
    ours, theirs = alone.get("/model").json(), server.get("/model").json()
    assert (ours["source"]["kind"], ours["source"]["note"]) == ("export", "From the cellar.")
    assert theirs["source"]["kind"] == "registry"
    for key in ("model", "schema", "params", "metrics", "card", "golden_max_difference"):
        assert ours[key] == theirs[key]
    assert alone.post("/predict", rows).json()["predictions"] == server.post("/predict", rows).json()["predictions"]
    assert (
        alone.post("/explain", rows[0]).json()["attribution"] == server.post("/explain", rows[0]).json()["attribution"]
    )


def test_the_page_says_so(alone: Server, driver: webdriver.Chrome) -> None:  # noqa: F811
    told = Page(driver, alone).text("lineage")
    assert "From the cellar. Exported on " in told
    assert told.endswith("this server follows no registry.")


def test_no_registry_is_asked_or_missed(alone: Server) -> None:
    ready = alone.post("/refresh", {}).json()
    assert (ready["registry"], ready["stale"], ready["refused"]) == ("none", False, None)
    assert "wineexp_registry_up NaN" in alone.get("/metrics").text


def test_the_note_tells_nobody_where_the_registry_is(store: Store, folder: Path) -> None:
    assert store.uri not in (folder / export.RECORD).read_text()


def test_a_registry_in_the_environment_wins(store: Store, folder: Path) -> None:
    with serving(store, f"serve.export_folder={folder}") as server:
        assert server.get("/model").json()["source"]["kind"] == "registry"


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("model", "extra_files/golden.json in the stored model has SHA-256"),
        ("added", "more.py was added"),
        ("note", "export.json was changed after it was written"),
        ("list", "export.json lists other files than were registered"),
        ("gone", "holds no export.json"),
        ("cut", "export.json cannot be read"),
    ],
)
def test_a_changed_one_is_refused(store: Store, folder: Path, tmp_path: Path, what: str, told: str) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    note = changed / export.RECORD
    if what == "model":
        golden = changed / "files" / "extra_files" / "golden.json"
        golden.write_text(golden.read_text().replace("0.9", "0.8"))
    elif what == "added":
        (changed / "files" / "more.py").touch()
    elif what == "note":
        note.write_text(note.read_text().replace("champion", "campion"))
    elif what == "list":
        said = json.loads(note.read_text())
        said["export"]["version"]["files"].popitem()
        note.write_text(json.dumps(said))
    elif what == "gone":
        note.unlink()
    else:
        note.write_bytes(note.read_bytes()[:-10])
    done = run(store.folder, "serve", f"serve.export_folder={changed}", "serve.port=0", MLFLOW_TRACKING_URI="")
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("folder")
def test_what_is_there_is_not_written_over(store: Store) -> None:
    done = run(store.folder, "promote", "export=exported")
    assert done.returncode == 1
    assert "export=exported: it is there already" in done.stderr
    none = run(store.folder, "promote", "export=other", "alias=champoin")
    assert none.returncode == 1
    assert "did you mean champion?" in none.stderr
    assert not (store.folder / "other").exists()
