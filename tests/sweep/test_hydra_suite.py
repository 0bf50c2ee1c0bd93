"""Hydra's own tests of sweeps and launchers, with one key that varies, since a study needs something to vary."""

import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hydra.test_utils.launcher_common_tests import IntegrationTestSuite

from tests.sweep.conftest import NO_LOG, REPOSITORY

CONFIG = {"defaults": ["_self_", {"override hydra/sweeper": "optuna_schema"}], "varied": 0}
# The suite's names of folders are made of the other overrides.
FLAGS = ["-m", "varied=choice(1)", "hydra.job.config.override_dirname.exclude_keys=[varied,seed]",
         f"hydra.searchpath=[file://{REPOSITORY}/conf]", *NO_LOG]  # fmt: skip


@pytest.fixture(autouse=True)
def run_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the suite run its programs in this process, with tasks that return a number."""

    def check_call(command: list[str], env: Mapping[str, str]) -> None:
        del env
        # A test that runs two programs means two sweeps, not one that is resumed.
        for journal in Path.cwd().rglob("journal.log"):
            journal.unlink()
        program = Path(command[1])
        program.write_text(program.read_text().replace("\nif __name__", "    return 1.0\n\nif __name__"))
        monkeypatch.setattr(sys, "argv", command[1:])
        runpy.run_path(str(program), run_name="__main__")

    monkeypatch.setattr(subprocess, "check_call", check_call)


@pytest.mark.journey
@pytest.mark.parametrize(("task_launcher_cfg", "extra_flags"), [(CONFIG, FLAGS)], ids=["optuna"])
class TestOptunaSweeper(IntegrationTestSuite):
    """The suite for the sweeper."""
