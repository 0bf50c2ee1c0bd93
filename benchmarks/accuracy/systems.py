"""The two systems that are compared: how each is run on a fold with a budget, and how its scores are recorded."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
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
from benchmarks.results.references import BENCHMARK_TAG, DATA_TAG, SYSTEM_TAG, SYSTEMS
from wineexp.data import task as data_task
from wineexp.evaluation.predictions import NumberPredictions, Predictions
from wineexp.workflows.experiment import assemble

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGES = ["autogluon.tabular[catboost,lightgbm,xgboost]==1.6.3"]
WINEEXP, AUTOGLUON = SYSTEMS


@dataclass(frozen=True)
class Goal:
    """A target, and the metric to optimize: as overrides of wineexp, and by its name in AutoGluon.

    wineexp trains this model once, with its settings as they are, in whatever budget.
    """

    target: str
    overrides: tuple[str, ...]
    autogluon_metric: str
    model: str = "selection_with_kernel_ridge"


OPTIMIZE_LOG_LOSS = ("target.metric=log_loss", "target.direction=minimize", "model.decision=quadratic_weighted_kappa")
GOALS = {
    "good": Goal("good", ("model.metric=roc_auc",), "roc_auc"),
    "grade": Goal("grade", OPTIMIZE_LOG_LOSS, "log_loss"),
    # Only AutoGluon is run with this goal; it is compared with the run of wineexp for grade.
    "kappa": Goal("grade", (), "quadratic_kappa"),
    "score": Goal("score", (), "root_mean_squared_error", "trees_and_kernel_ridge"),
}
BUDGETS = (60, 300)  # seconds
# The folds of one shuffle of the rows; further folds are those of the next shuffle.
N_FOLDS = 5


@dataclass(frozen=True)
class Store:
    """A folder with the record of all results."""

    folder: Path
    environments: Path
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
        """Finished runs with these tags."""
        condition = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        return list(self.client.search_runs(self.experiments, f"{condition} and attributes.status = 'FINISHED'"))


@dataclass(frozen=True)
class Task:
    """A data set, a goal, a budget in seconds, and the number of the fold that is held out, over all shuffles."""

    data: str
    goal: str
    budget: int
    fold: int

    @property
    def name(self) -> str:
        return f"{self.data}-{self.goal}-{self.budget}-{self.fold}"

    def tags(self, system: str) -> dict[str, str]:
        """The tags that identify a system's run on this task."""
        task_tags = {DATA_TAG: self.data, "goal": self.goal, "budget": str(self.budget), "outer_fold": str(self.fold)}
        return {BENCHMARK_TAG: "accuracy", SYSTEM_TAG: system, **task_tags}


def holdout(fold: int) -> list[str]:
    """Overrides that hold out this fold."""
    return [f"holdout.seed={fold // N_FOLDS}", f"holdout.fold={fold % N_FOLDS}"]


@cache
def load_task(data: str, target: str, fold: int) -> data_task.Task:
    """The rows to train on, and those that are held out."""
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return assemble(hydra.compose("train", [f"data={data}", f"target={target}", *holdout(fold)])).task


def run_wineexp(store: Store, task: Task) -> None:
    """Train once, from the command line, and tag the run."""
    goal = GOALS[task.goal]
    setting = [f"data={task.data}", f"target={goal.target}", f"model={goal.model}", "feature=raw", "n_jobs=2"]
    setting += [*goal.overrides, *holdout(task.fold), "split.n_splits=2"]
    seconds = _timed([sys.executable, "-m", "wineexp.train", *setting], store, task, WINEEXP)
    experiment = store.client.get_experiment_by_name(f"{task.data}-{goal.target}")
    (newest,) = store.client.search_runs(
        [experiment.experiment_id], order_by=["attributes.start_time DESC"], max_results=1
    )
    for name, value in {**task.tags(WINEEXP), "seconds": f"{seconds:.1f}"}.items():
        store.client.set_tag(newest.info.run_id, name, value)


def run_autogluon(store: Store, task: Task) -> None:
    """Run AutoGluon on the same rows, as files; score its predictions and record the scores."""
    goal = GOALS[task.goal]
    data, folder = load_task(task.data, goal.target, task.fold), store.folder / "autogluon" / task.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data.X.assign(label=data.encoded(data.y)).to_csv(folder / "train.csv", index=False)
    data.X_holdout.to_csv(folder / "test.csv", index=False)
    arguments = json.dumps({"metric": goal.autogluon_metric, "seconds": task.budget})
    command = [autogluon_python(store.environments), str(HERE / "fit_autogluon.py"), str(folder), arguments]
    seconds = _timed(command, store, task, AUTOGLUON)
    scores = data.score_holdout(read_predictions(data, folder / "predictions.csv"))
    record(store, task, AUTOGLUON, scores, seconds, json.loads((folder / "params.json").read_text()))
    shutil.rmtree(folder / "models", ignore_errors=True)


def read_predictions(data: data_task.Task, file: Path) -> Predictions | NumberPredictions:
    """The predictions in a file of AutoGluon; a class that was not in its training rows has probability 0."""
    table = pd.read_csv(file)
    if data.target.is_number:
        return NumberPredictions(data.encoded(data.y_holdout), table["predicted"].to_numpy(dtype=float))
    codes = [str(code) for code in range(len(data.classes))]
    probabilities = table.drop(columns="predicted").reindex(columns=codes, fill_value=0.0).to_numpy(dtype=float)
    return Predictions(
        data.encoded(data.y_holdout), table["predicted"].to_numpy(), probabilities / probabilities.sum(1, keepdims=True)
    )


def record(
    store: Store, task: Task, system: str, scores: dict[str, float], seconds: float, params: dict[str, Any]
) -> None:
    """Record scores in a run of their own, under the names of metrics that the runs of wineexp have."""
    name = f"accuracy-{system}"
    existing = store.client.get_experiment_by_name(name)
    experiment = existing.experiment_id if existing else store.client.create_experiment(name)
    tags = {**task.tags(system), "seconds": f"{seconds:.1f}"}
    run = store.client.create_run(experiment, run_name=f"{system} {task.name}", tags=tags).info.run_id
    of_holdout = dict(override.split("=") for override in holdout(task.fold))
    for key, value in {"budget": task.budget, **of_holdout, **params}.items():
        store.client.log_param(run, key, value)
    for key, value in scores.items():
        if np.isfinite(value):
            store.client.log_metric(run, f"holdout/{key}", value)
    store.client.set_terminated(run)


def add_environments_option(parser: argparse.ArgumentParser) -> None:
    """Let the user say where AutoGluon's environment is made."""
    parser.add_argument(
        "--environments",
        type=Path,
        default=Path(tempfile.gettempdir()) / "accuracy-environments",
        help="folder of the virtual environment of AutoGluon",
    )


def use_two_cores() -> None:
    """Run this process, and all that it starts, on the same two cores, however many the machine has."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])


def autogluon_python(environments: Path) -> str:
    """The interpreter of AutoGluon's environment, which is made if it is missing."""
    home = environments / AUTOGLUON
    python, marker = home / "bin" / "python", home / "installed"
    if not marker.exists():
        print("installing AutoGluon", file=sys.stderr)
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PACKAGES], check=True)
        marker.touch()
    return str(python)


def _timed(command: list[str], store: Store, task: Task, system: str) -> float:
    """Wall seconds of a process, which must succeed; its output is written to a log in the store's folder."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if system == WINEEXP:
        variables |= {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": store.uri}
    log = store.folder / f"{system}-{task.name}.log"
    began = time.perf_counter()
    with log.open("w") as out:
        done = subprocess.run(command, cwd=store.folder, env=variables, stdout=out, stderr=out, check=False)
    if done.returncode:
        sys.exit(f"{system} on {task.name} failed:\n{log.read_text()[-3000:]}")
    return time.perf_counter() - began
