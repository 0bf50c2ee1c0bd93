"""A small Hydra program, swept through its command line in processes of its own."""

import os
import runpy
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import optuna
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tests import preloaded
from tests.conftest import INHERITED, start_preloaded
from wineexp.sweep.lock import KernelLock

REPOSITORY = Path(__file__).parents[2]
TIMEOUT_SECONDS = 120

PROGRAM = """
import time
import hydra
from wineexp.sweep import trial


@hydra.main(version_base=None, config_path="conf", config_name="app")
def main(cfg):
    current = trial.current()
    with open("ran.txt", "a") as ran:
        print(current.number, cfg.x, cfg.y, file=ran)
    time.sleep(cfg.sleep)
    if current.number in cfg.fails:
        raise ValueError("this trial fails on request")
    if current.number in cfg.nans:
        return float("nan")
    if current.number in cfg.exits:
        raise SystemExit(3)
    model = cfg.get("model") or {}
    value = cfg.x**2 + cfg.y**2 + model.get("depth", 0)
    scores = []
    for fold in range(cfg.folds):
        scores.append(value + fold / 10)
        current.report(scores[-1], fold)
        if current.should_prune():
            return sum(scores) / len(scores)
    current.set_user_attr("cost", abs(cfg.x))
    if cfg.objectives == 2:
        return [value, (cfg.x - 2) ** 2]
    return value


if __name__ == "__main__":
    main()
"""

FILES = {
    "conf/app.yaml": f"""
        defaults:
          - model: null
          - _self_
          - override hydra/sweeper: optuna_schema
        hydra:
          searchpath: ["file://{REPOSITORY}/conf"]
        x: 1.0
        y: 1.0
        kind: null
        sleep: 0.0
        folds: 0
        objectives: 1
        fails: []
        nans: []
        exits: []
    """,
    "conf/model/tree.yaml": "depth: 3\nleaf: 0.5\n",
    "conf/model/bush.yaml": "depth: 2\nshape: round\n",
    "conf/model/stone.yaml": "weight: 1\n",
    "conf/model/deep/ok.yaml": "depth: 9\n",
    "conf/other/one.yaml": "size: 1\n",
    "conf/other/two.yaml": "size: 2\n",
    "conf/other/below/three.yaml": "size: 3\n",
    "conf/search/tree.yaml": "model.depth: int(interval(1, 8))\nmodel.leaf: tag(log, interval(0.01, 1))\n",
    "conf/search/bush.yaml": "model.depth: range(1, 4)\nmodel.shape: round, flat\n",
}

Task = Callable[[DictConfig], float]

# For a sweep in the process of the tests, whose logging it should leave alone.
NO_LOG = ("hydra/job_logging=none", "hydra/hydra_logging=none")
XY = ("x=interval(-5, 5)", "y=interval(-5, 5)")


def study_in(folder: Path, name: str = "s") -> optuna.Study:
    """The study in a folder's journal."""
    file = folder / "journal.log"
    # Optuna's own lock would take the sweep's lock file for its own, held by someone, and wait half a minute to write.
    backend = JournalFileBackend(str(file), lock_obj=KernelLock(f"{file}.lock"))
    return optuna.load_study(study_name=name, storage=JournalStorage(backend))


class Toy:
    """The program in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "app.py").write_text(PROGRAM)
        for name, text in FILES.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text))
        self.environment = {**INHERITED, "PYTHONPATH": str(REPOSITORY)}
        self._running: list[preloaded.Process] = []

    def start(self, *arguments: str) -> preloaded.Process:
        """Start the program, without waiting for its end; `wait` or `kill` must follow."""
        process = start_preloaded(["app.py", *arguments], self.folder, self.environment, merge_streams=True)
        self._running.append(process)
        return process

    def wait(self, process: preloaded.Process) -> tuple[int, str]:
        """The exit code and the output of a program that has been started."""
        self._running.remove(process)
        done = process.wait(TIMEOUT_SECONDS)
        return done.returncode, done.stdout

    def run(self, *arguments: str, code: int = 0) -> str:
        """The output of the program, which must end with this exit code."""
        returncode, output = self.wait(self.start(*arguments))
        assert returncode == code, output
        return output

    def sweep(self, *arguments: str, code: int = 0) -> str:
        """The output of a sweep."""
        return self.run("-m", *arguments, code=code)

    def sweep_in_process(self, *arguments: str, task: Task | None = None) -> Any:
        """What the sweeper returns; raises its errors. Runs in this process, with the folder as current folder."""
        with chdir(self.folder), initialize_config_dir(str(self.folder / "conf"), version_base=None, job_name="app"):
            program = GlobalHydra.instance().hydra
            try:
                return program.multirun("app", task or no_task, [*arguments, *NO_LOG], with_log_configuration=False)
            finally:
                HydraConfig.instance().cfg = None

    def sweep_quickly(self, *arguments: str) -> list[DictConfig]:
        """The configs of a sweep's trials, in their order; the task is in this process and returns x squared."""
        configs: list[DictConfig] = []

        def task(config: DictConfig) -> float:
            configs.append(config)
            return float(config.x) ** 2

        self.sweep_in_process(*arguments, task=task)
        return configs

    def run_in_process(self, *arguments: str) -> None:
        """Run the program as `python app.py <arguments>` does, in this process."""
        with chdir(self.folder), patch.object(sys, "argv", ["app.py", *arguments]):
            try:
                runpy.run_path("app.py", run_name="__main__")
            finally:
                HydraConfig.instance().cfg = None

    def study(self, name: str = "app") -> optuna.Study:
        """The study that a sweep has left."""
        return study_in(self.folder / "multirun" / name, name)

    def ran(self) -> list[str]:
        """A line for each run of the task: number, x and y."""
        file = self.folder / "ran.txt"
        return file.read_text().splitlines() if file.exists() else []

    def wait_for_trial(self, number: int, process: preloaded.Process, name: str = "app") -> None:
        """Wait until the folder of this trial exists."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not (self.folder / "multirun" / name / str(number)).exists():
            assert process.is_running(), self.wait(process)
            assert time.monotonic() < deadline, "the trial did not begin"
            time.sleep(0.01)

    def kill(self, process: preloaded.Process) -> None:
        """Kill the program and all that it has started, without a chance to clean up."""
        os.killpg(process.pid, signal.SIGKILL)
        self.wait(process)

    def kill_all(self) -> None:
        """Kill every program that still runs."""
        for process in list(self._running):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            self.wait(process)


def square(config: DictConfig) -> float:
    """The simplest task."""
    return float(config.x) ** 2


def refuse_bushes(config: DictConfig) -> list[str]:
    """Stand for the function that says what is wrong with a config before any trial."""
    is_wrong = (config.get("model") or {}).get("shape") == "flat"
    return [f"a flat bush is refused, with y={config.y}"] if is_wrong else []


def no_task(_: DictConfig) -> float:
    """Stand for the task of a sweep that does not get as far as to run it."""
    raise AssertionError("no trial should have begun")


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Toy]:
    program = Toy(tmp_path)
    yield program
    program.kill_all()
