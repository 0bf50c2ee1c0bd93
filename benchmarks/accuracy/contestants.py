"""The two that are compared: how each is given a fold and a budget, and what it left there."""

import json
import os
import shutil
import subprocess
import sys
import time
import venv
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run

import wineexp.train  # noqa: F401  registers the frame of conf/train.yaml
from benchmarks.results.references import BENCHMARK, CONTESTANTS
from wineexp.data import task as learning
from wineexp.evaluation.metrics import Predictions
from wineexp.workflows.experiment import assemble

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGES = ["autogluon.tabular[catboost,lightgbm,xgboost]==1.6.3"]
OURS, THEIRS = CONTESTANTS


@dataclass(frozen=True)
class Goal:
    """What is predicted, and what both are told to be best at, each in its own words."""

    column: str
    ours: tuple[str, ...]
    theirs: str


BY_LOSS = ("target.metric=log_loss", "target.direction=minimize", "model.decision=quadratic_weighted_kappa")
GOALS = {
    "good": Goal("good", (), "roc_auc"),
    "grade": Goal("grade", BY_LOSS, "log_loss"),
    # Ours is not told of it: what its sweep of grade answers stands here, too.
    "kappa": Goal("grade", (), "quadratic_kappa"),
}
SWEEP = ["data=red", "model=selection", "feature=scaled,domain", "n_jobs=2"]
# By budget: three folds and the winner's own three take a minute by themselves.
N_SPLITS = {60: 2, 300: 3}
# Seconds of our budget that pass before the sweep's own clock starts, and after it has stopped.
AROUND = 12


@dataclass(frozen=True)
class Store:
    """A folder with the record of all that was measured."""

    folder: Path
    rivals: Path
    client: MlflowClient = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        object.__setattr__(self, "client", MlflowClient(self.uri, self.uri))

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    @property
    def experiments(self) -> list[str]:
        return [experiment.experiment_id for experiment in self.client.search_experiments()]

    def find(self, **tags: str) -> list[Run]:
        """Finished runs with such tags."""
        wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        return list(self.client.search_runs(self.experiments, f"{wanted} and attributes.status = 'FINISHED'"))


@dataclass(frozen=True)
class Task:
    """One fold, held out, of one of the goals, under one budget in seconds."""

    goal: str
    budget: int
    fold: int

    @property
    def name(self) -> str:
        return f"{self.goal}-{self.budget}-{self.fold}"

    def tags(self, contestant: str) -> dict[str, str]:
        """What the run is found by."""
        told = {"goal": self.goal, "budget": str(self.budget), "outer_fold": str(self.fold)}
        return {BENCHMARK: "accuracy", "contestant": contestant, **told}


@cache
def learning_task(target: str, fold: int) -> learning.Task:
    """The rows to learn from, and those that are held out."""
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return assemble(hydra.compose("train", ["data=red", f"target={target}", f"holdout.fold={fold}"])).task


def ours(store: Store, task: Task) -> None:
    """A sweep by the command, whose winner is tagged with what it took."""
    # What an interrupted call left would be a study that goes on, with more time than it should have.
    shutil.rmtree(store.folder / "multirun" / task.name, ignore_errors=True)
    goal = GOALS[task.goal]
    about = [f"target={goal.column}", *goal.ours, f"holdout.fold={task.fold}"]
    command = [sys.executable, "-m", "wineexp.train", "-m", *SWEEP, *about]
    study = [f"hydra.sweeper.study_name={task.name}", f"hydra.sweeper.timeout={task.budget - AROUND}"]
    seconds = _timed([*command, f"split.n_splits={N_SPLITS[task.budget]}", *study], store, task, OURS)
    parent = max(store.find(study=task.name), key=lambda run: run.info.start_time)
    below = store.find(**{"mlflow.parentRunId": parent.info.run_id})
    (winner,) = [run for run in below if any(name.startswith("holdout/") for name in run.data.metrics)]
    tags = {**task.tags(OURS), "seconds": f"{seconds:.1f}", "trials": str(len(below) - 1)}
    for name, value in tags.items():
        store.client.set_tag(winner.info.run_id, name, value)


def theirs(store: Store, task: Task) -> None:
    """AutoGluon on the same rows, given as files, its answers scored here and recorded."""
    goal = GOALS[task.goal]
    posed, folder = learning_task(goal.column, task.fold), store.folder / "autogluon" / task.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    posed.X.assign(label=posed.codes(posed.y)).to_csv(folder / "train.csv", index=False)
    posed.X_holdout.to_csv(folder / "test.csv", index=False)
    told = json.dumps({"metric": goal.theirs, "seconds": task.budget})
    seconds = _timed([python_of(store.rivals), str(HERE / "peer.py"), str(folder), told], store, task, THEIRS)
    record(store, task, THEIRS, posed.score_holdout(answers(posed, folder / "answers.csv")), seconds,
           json.loads((folder / "told.json").read_text()))  # fmt: skip
    shutil.rmtree(folder / "models", ignore_errors=True)


def answers(posed: learning.Task, file: Path) -> Predictions:
    """The answers in a file of a peer's; a class that it knows nothing of has probability 0."""
    table = pd.read_csv(file)
    codes = [str(code) for code in range(len(posed.classes))]
    probabilities = table.drop(columns="predicted").reindex(columns=codes, fill_value=0.0).to_numpy(dtype=float)
    return Predictions(
        posed.codes(posed.y_holdout), table["predicted"].to_numpy(), probabilities / probabilities.sum(1, keepdims=True)
    )


def record(
    store: Store, task: Task, contestant: str, scores: dict[str, float], seconds: float, told: dict[str, Any]
) -> None:
    """A run of its own, under the names that our runs have for the same figures."""
    name = f"accuracy-{contestant}"
    found = store.client.get_experiment_by_name(name)
    experiment = found.experiment_id if found else store.client.create_experiment(name)
    tags = {**task.tags(contestant), "seconds": f"{seconds:.1f}"}
    run = store.client.create_run(experiment, run_name=f"{contestant} {task.name}", tags=tags).info.run_id
    for key, value in {"budget": task.budget, "holdout.fold": task.fold, **told}.items():
        store.client.log_param(run, key, value)
    for key, value in scores.items():
        if np.isfinite(value):
            store.client.log_metric(run, f"holdout/{key}", value)
    store.client.set_terminated(run)


def python_of(rivals: Path) -> str:
    """The interpreter of AutoGluon's environment, which is made if it is missing."""
    home = rivals / THEIRS
    python, done = home / "bin" / "python", home / "installed"
    if not done.exists():
        print("installing AutoGluon", file=sys.stderr)
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PACKAGES], check=True)
        done.touch()
    return str(python)


def _timed(command: list[str], store: Store, task: Task, contestant: str) -> float:
    """Wall seconds of a whole process, which must succeed; what it says is kept beside its record."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if contestant == OURS:
        variables |= {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": store.uri}
    log = store.folder / f"{contestant}-{task.name}.log"
    began = time.perf_counter()
    with log.open("w") as out:
        done = subprocess.run(command, cwd=store.folder, env=variables, stdout=out, stderr=out, check=False)
    if done.returncode:
        sys.exit(f"{contestant} on {task.name} failed:\n{log.read_text()[-3000:]}")
    return time.perf_counter() - began
