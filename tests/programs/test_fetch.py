"""`python -m wineexp.fetch`: the data in place, verified, and linked to where that is asked for."""

from pathlib import Path

import pytest

from tests.conftest import Command
from wineexp.core.paths import ROOT


def test_it_tells_what_is_in_place_and_links_to_it_and_to_its_pin(command: Command, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "old.csv").symlink_to("nowhere")
    (links / "mine.txt").write_text("kept")
    done = command("fetch", f"links={links}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "data/raw/wine.data: 10782 bytes with md5 3e584720e6718d28509f86f05b7885a1, as pinned.\n"
    assert sorted(path.name for path in links.iterdir()) == ["mine.txt", "wine.data", "wine.data.pin"]
    assert (links / "wine.data").resolve() == ROOT / "data/raw/wine.data"
    assert (links / "wine.data.pin").read_text() == (ROOT / "data/raw/wine.data.dvc").read_text()


@pytest.mark.usefixtures("wine_quality")
def test_both_colours_are_fetched_together(command: Command) -> None:
    done = command("fetch", "data=quality")
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        "data/raw/winequality-red.csv",
        "data/raw/winequality-white.csv",
    ]


def test_a_mistake_is_told_in_one_message(command: Command) -> None:
    done = command("fetch", "data.pin_file=data/raw/wine.dvc")
    assert done.returncode == 1
    assert done.stderr.startswith("error: data/raw/wine.dvc: there is no such pin; pins under data/: data/raw/wine")
