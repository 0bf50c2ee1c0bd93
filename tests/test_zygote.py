"""A command that a zygote forks is like one that is started afresh."""

import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import imported, run

SECONDS = re.compile(r"fitted in [\d.]+ s")


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "model.max_dept=3"],
        ["train", "model=majority", "tracking=off", "hydra.run.dir=out"],
    ],
)
def test_it_says_the_same(arguments: list[str], tmp_path: Path) -> None:
    ways = {}
    for afresh in (False, True):
        folder = tmp_path / str(afresh)
        folder.mkdir()
        done = run(folder, *arguments, afresh=afresh)
        told = [SECONDS.sub("", text.replace(str(folder), "")) for text in (done.stdout, done.stderr)]
        ways[afresh] = (done.returncode, *told)
    assert ways[False] == ways[True]
    assert ways[False][1] + ways[False][2]


def test_it_closes_at_its_end_what_it_opened(tmp_path: Path) -> None:
    assert "Recorded as run" in run(tmp_path, "train", "model=majority").stdout
    assert not (tmp_path / "mlflow.db-wal").exists()


def test_one_that_takes_too_long_is_killed_and_the_next_one_answers(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run(tmp_path, "train", "model=forest", "model.n_estimators=1000000", timeout=1)
    assert run(tmp_path, "train", "--cfg", "job").returncode == 0
    # Of the one that was killed nothing is left.
    children, until = Path(f"/proc/{imported().pid}/task/{imported().pid}/children"), time.monotonic() + 10
    while children.read_text():
        assert time.monotonic() < until
        time.sleep(0.01)
