"""The cache of verified versions: atomic, verified when it is read, and of this version of the project alone."""

import json
import os
from pathlib import Path

import pytest

from wineexp.models import manifest
from wineexp.serving.model import cache
from wineexp.serving.model.cache import Cache, CachedVersion

URI = "sqlite:///mlflow.db"


def store_version(folder: Path, number: int) -> tuple[Cache, CachedVersion]:
    of_alias = Cache(folder, URI, "wine", "champion")
    files = of_alias.make_scratch_folder() / "model"
    files.mkdir()
    (files / "MLmodel").write_text(f"version {number}")
    digests = manifest.create(files)
    version = CachedVersion(
        URI, "wine", number, "run", manifest.digest(digests), digests, ["champion"], "compiled", "", {}, {}, {}
    )
    return of_alias, of_alias.store(files, version)


def test_the_last_version_is_read_and_earlier_files_are_removed(tmp_path: Path) -> None:
    of_alias, first = store_version(tmp_path, 1)
    assert of_alias.read() == first
    of_alias, second = store_version(tmp_path, 2)
    assert of_alias.read() == second
    assert (of_alias.files(second) / "MLmodel").read_text() == "version 2"
    assert not of_alias.files(first).exists()
    # The same version again, as a second server stores it.
    _, again = store_version(tmp_path, 2)
    assert of_alias.read() == again == second


def test_a_scratch_folder_that_was_left_is_removed_after_an_hour(tmp_path: Path) -> None:
    of_alias, _ = store_version(tmp_path, 1)
    fresh, left = of_alias.make_scratch_folder(), of_alias.make_scratch_folder()
    os.utime(left, (0, 0))
    store_version(tmp_path, 2)
    assert fresh.exists()
    assert not left.exists()


def test_only_the_folder_of_the_alias_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    of_alias, _ = store_version(tmp_path, 1)
    of_alias.folder.chmod(0o755)
    store_version(tmp_path, 2)
    assert of_alias.folder.stat().st_mode & 0o7777 == 0o700
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


def test_changed_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of_alias, version = store_version(tmp_path, 1)
    (of_alias.files(version) / "MLmodel").write_text("version 3")
    assert of_alias.read() is None
    assert "has SHA-256" in capsys.readouterr().out


def test_another_store_alias_or_folder_is_not_read(tmp_path: Path) -> None:
    of_alias, _ = store_version(tmp_path, 1)
    assert Cache(tmp_path, "sqlite:///other.db", "wine", "champion").read() is None
    assert Cache(tmp_path, URI, "wine", "challenger").read() is None
    record = of_alias.folder / cache.RECORD
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"folder": "../elsewhere"}))
    assert of_alias.read() is None


def test_a_cache_of_another_layout_is_not_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of_alias, version = store_version(tmp_path, 1)
    record = of_alias.folder / cache.RECORD
    # As version 0.1 of the project named it.
    record.rename(of_alias.folder / "served.json")
    assert of_alias.read() is None
    record.write_text('{"number": 1}')
    assert of_alias.read() is None
    assert capsys.readouterr().out == ""
    _, stored = store_version(tmp_path, 1)
    assert of_alias.read() == stored == version
