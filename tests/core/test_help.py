"""Descriptions of choices in `--help`, from the comments of their files."""

from pathlib import Path

import pytest

from tests.conftest import choices, run
from wineexp.core.config import GROUPS
from wineexp.core.help import described, first_comment


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("# Which cultivar.\n_target_: x\n", "Which cultivar"),
        ("# @package _global_\n# One sentence,\n# on two lines. And another.\nkey: 1\n", "One sentence, on two lines"),
        ("# What Cortez et al. 2009 did.\n", "What Cortez et al. 2009 did"),
        ("# A sentence\n#\n# that an empty comment ends.\n", "A sentence"),
        ("key: 1\n# A comment that is not at the beginning.\n", ""),
    ],
)
def test_a_description_is_the_first_sentence_of_the_file(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "choice.yaml").write_text(text)
    assert first_comment(tmp_path / "choice.yaml") == sentence


def test_the_first_folder_on_the_search_path_describes_a_choice(tmp_path: Path) -> None:
    for folder, name in (("first", "b"), ("second", "b"), ("second", "a")):
        path = tmp_path / folder / f"model/{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# From the {folder}.\n")
    descriptions = described("model", [tmp_path / "first", tmp_path / "second"])
    assert list(descriptions.items()) == [("a", "From the second"), ("b", "From the first")]


def test_help_lists_the_choices_of_every_group_and_marks_the_default(tmp_path: Path) -> None:
    done = run(tmp_path, "train", "--help", afresh=True)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    groups = [line.removesuffix("=") for line in lines if line.endswith("=")]
    assert groups[: len(GROUPS)] == list(GROUPS)
    models = lines[lines.index("model=") + 1 :][: len(choices("model"))]
    assert [line[4:].split()[0] for line in models] == choices("model")
    assert [line[4:].split()[0] for line in models if line.startswith("  * ")] == ["xgb"]
