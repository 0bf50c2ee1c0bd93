"""`python -m wineexp.fetch`: the files are in place and verified, and linked to if asked."""

from pathlib import Path

import pytest

from tests.conftest import Command
from wineexp import UserError, compose, fetch
from wineexp.core.paths import ROOT


def test_files_are_listed_and_linked_to_with_their_pins(command: Command, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "old.csv").symlink_to("nowhere")
    (links / "mine.txt").write_text("not a link")
    done = command("fetch", f"links={links}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "data/raw/wine.data: 10782 bytes with md5 3e584720e6718d28509f86f05b7885a1, as pinned.\n"
    assert sorted(path.name for path in links.iterdir()) == ["mine.txt", "wine.data", "wine.data.pin"]
    assert (links / "wine.data").resolve() == ROOT / "data/raw/wine.data"
    assert (links / "wine.data.pin").read_text() == (ROOT / "data/raw/wine.data.dvc").read_text()


@pytest.mark.usefixtures("wine_quality")
def test_both_colours_are_fetched_together(tmp_path: Path) -> None:
    dataset = fetch(compose("data=quality", f"hydra.run.dir={tmp_path}", program="fetch"))
    assert [pin.name for pin in dataset.pins] == [
        "data/raw/winequality-red.csv",
        "data/raw/winequality-white.csv",
    ]


def test_a_missing_pin_is_refused_with_a_list_of_the_others(tmp_path: Path) -> None:
    cfg = compose("data.path=data/raw/wine.dvc", f"hydra.run.dir={tmp_path}", program="fetch")
    with pytest.raises(UserError, match=r"^data/raw/wine\.dvc: there is no such pin; pins under data/: data/raw/wine"):
        fetch(cfg)
