"""Every command of the README and of docs/ works, and prints what the page says that it prints."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.shell import Shell, commands, differences, environment
from wineexp.core.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the working tree as a commit of its own, with the data that a first run rebuilds."""
    folder = tmp_path / "wineexp"
    listed = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    author = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    for arguments in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "The working tree"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder


@pytest.mark.journey
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_the_commands_of_a_page_work_and_print_what_it_says(page: Path, clone: Path) -> None:
    shell = Shell(clone, environment(clone, Path(sys.executable).parent))
    try:
        for command in commands(page):
            # The requirements are installed already: the test runs with them.
            text = command.text.replace("pip install -r requirements.txt && ", "")
            code, printed = shell.run(text)
            expects_failure = any(line.lower().startswith("error: ") for line in command.output or [])
            where = f"{page.name}:{command.line}: {text}"
            assert (code != 0) == expects_failure, f"{where} ended with {code}\n{printed}"
            if command.output:
                difference = differences(command.output, printed)
                assert difference is None, f"{where}: {difference}"
    finally:
        shell.close()


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
