"""Every command of the README and of docs/ works, and prints what the page says that it prints."""

import re
from pathlib import Path

import pytest

from tests.conftest import new_database
from tests.docs.shell import check_page, commands, differences
from wineexp.core.paths import ROOT

# Pages whose commands take long have files of their own, which other workers run.
LONG_PAGES = ("questions", "pipeline", "sweeps")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHORT_PAGES = [page for page in PAGES if page.stem not in LONG_PAGES]


@pytest.mark.journey
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", [page for page in SHORT_PAGES if commands(page)], ids=lambda page: page.stem)
def test_the_commands_of_a_page_work_and_print_what_it_says(page: Path, clone: Path) -> None:
    if page.name != "README.md":
        # The first command of a page would make it as the README's does.
        new_database(clone)
    check_page(page, clone)


def test_a_difference_is_seen() -> None:
    assert differences(["accuracy 0.97", "..."], "accuracy 0.97\nmore\n") is None
    assert differences(["accuracy 0.97"], "accuracy  0.97\n") is None
    assert differences(["run 96014779e14f4337a358962f39774fa3"], "run 2f7009eb4c254eaca1c8c9e6fe8c6839\n") is None
    assert differences(["accuracy 0.98"], "accuracy 0.97\n") is not None
    assert differences(["one", "two"], "one\n") is not None


def test_a_command_that_cannot_be_run_says_why(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- not run: it needs Docker -->\n```bash\ndocker ps\n```\n```bash\nls  # all\n```\n")
    assert [command.text for command in commands(page)] == ["ls  # all"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    broken = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert broken == []
