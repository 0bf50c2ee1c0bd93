"""Every command of docs/sweeps.md works, and prints what the page says that it prints."""

from pathlib import Path

import pytest

from tests.conftest import new_database
from tests.docs.shell import check_page
from wineexp.core.paths import ROOT


@pytest.mark.journey
@pytest.mark.timeout(900)
def test_the_commands_of_the_page_work_and_print_what_it_says(clone: Path) -> None:
    new_database(clone)
    check_page(ROOT / "docs/sweeps.md", clone)
