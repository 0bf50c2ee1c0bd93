"""Pins: what is read from a `.dvc` file, and what is refused."""

from pathlib import Path

import pytest

from wineexp.core.errors import UserError
from wineexp.data import pin


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds None"),
        ("outs: [", "cannot be read as YAML"),
        ("\x00", "cannot be read as YAML"),
        ("wine", "holds 'wine'"),
        ("outs: []", "one md5"),
        ("outs:\n- md5: abc\n  size: 1\n  path: a\n", "'md5': 'abc'"),
        ("outs:\n- size: 1\n  path: a\n", "must hold outs: with one md5 of 32 hexadecimal digits"),
        (f"outs:\n- md5: {'0' * 31}a.dir\n  size: 1\n  path: a\n", ".dir"),
        (f"outs:\n- md5: {'a' * 32}\n  size: many\n  path: a\n", "'size': 'many'"),
        (f"outs:\n- md5: {'a' * 32}\n  size: 1\n  path: 5\n", "'path': 5"),
    ],
)
def test_a_broken_pin_is_named_with_what_it_holds(tmp_path: Path, text: str, reason: str) -> None:
    broken = tmp_path / "broken.dvc"
    broken.write_text(text)
    with pytest.raises(UserError) as caught:
        pin.read(broken)
    assert str(broken) in str(caught.value)
    assert reason in str(caught.value)


def test_a_large_file_that_is_no_pin_is_not_repeated(tmp_path: Path) -> None:
    table = tmp_path / "table.csv.dvc"
    table.write_text("7.4;0.7;5\n" * 10_000)
    with pytest.raises(UserError, match="not a pin of one file") as caught:
        pin.read(table)
    assert len(str(caught.value)) < 500 + len(str(table))


def test_a_pin_without_a_usable_source_has_none(tmp_path: Path) -> None:
    path = tmp_path / "a.dvc"
    path.write_text(f"outs:\n- md5: {'a' * 32}\n  size: 1\n  path: a\nmeta: none\n")
    assert pin.read(path).source_url is None


def test_a_missing_pin_is_named_with_those_there_are() -> None:
    with pytest.raises(UserError) as caught:
        pin.read("data/raw/rose.dvc")
    assert str(caught.value).startswith("data/raw/rose.dvc: there is no such pin; pins under data/: ")
    assert "data/raw/wine.data.dvc" in str(caught.value)
