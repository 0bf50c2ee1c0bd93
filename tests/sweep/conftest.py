"""A toy program of Hydra's, swept through its command line in processes of its own."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tests.conftest import INHERITED, run_preloaded
from wineexp.sweep.lock import KernelLock

REPOSITORY = Path(__file__).parents[2]

PROGRAM = """
import time
import hydra
from wineexp.sweep import trial


@hydra.main(version_base=None, config_path="conf", config_name="app")
def main(cfg):
    me = trial.current()
    with open("ran.txt", "a") as ran:
        print(me.number, cfg.x, cfg.y, file=ran)
    time.sleep(cfg.sleep)
    if me.number in cfg.fails:
        raise ValueError("this one was told to fail")
    if me.number in cfg.nans:
        return float("nan")
    if me.number in cfg.exits:
        raise SystemExit(3)
    model = cfg.get("model") or {}
    value = cfg.x**2 + cfg.y**2 + model.get("depth", 0)
    scores = []
    for fold in range(cfg.folds):
        scores.append(value + fold / 10)
        me.report(scores[-1], fold)
        if me.should_prune():
            return sum(scores) / len(scores)
    me.set_user_attr("cost", abs(cfg.x))
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
    "conf/search/tree.yaml": "model.depth: int(interval(1, 8))\nmodel.leaf: tag(log, interval(0.01, 1))\n",
    "conf/search/bush.yaml": "model.depth: range(1, 4)\nmodel.shape: round, flat\n",
}

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
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "app.py", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def run(self, *arguments: str, code: int = 0) -> str:
        done = run_preloaded(["app.py", *arguments], self.folder, self.environment, 120, merge_streams=True)
        assert done.returncode == code, done.stdout
        return done.stdout

    def sweep(self, *arguments: str, code: int = 0) -> str:
        return self.run("-m", *arguments, code=code)

    def study(self, name: str = "app") -> optuna.Study:
        return study_in(self.folder / "multirun" / name, name)

    def ran(self) -> list[str]:
        file = self.folder / "ran.txt"
        return file.read_text().splitlines() if file.exists() else []

    def wait_for(self, number: int, name: str = "app", process: subprocess.Popen[str] | None = None) -> None:
        """Until the folder of this trial is there."""
        until = time.monotonic() + 60
        while not (self.folder / "multirun" / name / str(number)).exists():
            assert process is None or process.poll() is None, process.communicate()[0]
            assert time.monotonic() < until, "the trial did not begin"
            time.sleep(0.01)

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Kill the program and all that it started, without a chance to clean up."""
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def stop(self) -> None:
        for process in self._started:
            if process.poll() is None:
                self.kill(process)


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Toy]:
    program = Toy(tmp_path)
    yield program
    program.stop()
