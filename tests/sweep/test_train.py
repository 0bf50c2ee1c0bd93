"""Sweeps of the train program: every model has a space, and what a sweep of real models leaves."""

import copy
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution

from tests.conftest import ONLY_OF_NUMBERS, Command, composed, installed_models
from tests.sweep.conftest import REPOSITORY, study_in
from tests.sweep.test_workers import needs_joblib
from wineexp.core import instantiation
from wineexp.core.paths import CONF
from wineexp.sweep._hydra import apply_overrides
from wineexp.sweep.sweep_syntax import format_value, to_parameter

MODELS = {file.stem for file in CONF.glob("model/*.yaml")}
SEARCHES = {file.stem for file in CONF.glob("search/*.yaml")}


def test_every_model_but_the_baselines_has_a_space() -> None:
    # `linear` is of another kind of model for classes than for numbers: `logreg` and `ridge` have spaces.
    assert MODELS - {"majority", "linear"} == SEARCHES


@pytest.mark.parametrize("model", sorted(SEARCHES & {*installed_models(), *ONLY_OF_NUMBERS}))
def test_a_space_fits_its_model(model: str) -> None:
    """The ends and choices of every parameter are keys and values that the model's constructor takes."""
    config = composed(f"model={model}", f"target={'score' if model in ONLY_OF_NUMBERS else 'grade'}")
    search = OmegaConf.load(CONF / "search" / f"{model}.yaml")
    lines = [f"{key}={format_value(value)}" for key, value in search.items()]
    for override in OverridesParser.create().parse_overrides(lines):
        parameter = to_parameter(override, None)
        dist = parameter.distribution
        values = dist.choices if isinstance(dist, CategoricalDistribution) else (dist.low, dist.high)
        for value in values:
            changed = copy.deepcopy(config)
            apply_overrides([parameter.override(value)], changed)
            assert instantiation.check_node("model", changed.model) == [], parameter.override(value).input_line


def test_a_store_that_is_not_there_ends_a_sweep_before_its_first_trial(command: Command) -> None:
    store = "http://127.0.0.1:9"
    done = command("train", "-m", "model=logreg", "hydra.sweeper.n_trials=2", MLFLOW_TRACKING_URI=store)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: tracking.uri={store}")
    assert "Traceback" not in done.stdout + done.stderr
    assert "trial 0" not in done.stdout


def test_a_parameter_that_the_model_does_not_have_is_named(command: Command) -> None:
    result = command("train", "-m", "model=xgb", "model.max_dept=2,3", "tracking=off")
    assert result.returncode == 1
    assert "model.max_dept: no such key in the config; did you mean model.max_depth?" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.journey
@pytest.mark.filterwarnings("ignore")
def test_a_sweep_over_models_is_one_parent_with_its_trials_and_its_refitted_winner(
    command: Command, tmp_path: Path
) -> None:
    mlflow = pytest.importorskip("mlflow")
    result = command("train", "-m", "model=logreg,forest", "model.n_estimators=20", "hydra.sweeper.n_trials=5",
                     "hydra.sweeper.folder=study", "hydra/sweeper/pruner=wilcoxon")  # fmt: skip
    assert result.returncode == 1, "logreg has no n_estimators"
    result = command("train", "-m", "model=logreg,svm", "hydra.sweeper.n_trials=5", "hydra.sweeper.folder=study")
    assert result.returncode == 0, result.stderr
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("cultivar-cultivar").experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parent.data.tags["study"] == "cultivar-cultivar-logreg+svm"
    trials = {run.data.tags["trial"]: run for run in runs if "trial" in run.data.tags}
    assert set(trials) == {"0", "1", "2", "3", "4"}
    for number, run in trials.items():
        assert run.info.status == "FINISHED"
        assert run.data.metrics["value"] == run.data.metrics["cv/accuracy"]
        config = yaml.safe_load((tmp_path / f"study/{number}/.hydra/config.yaml").read_text())
        assert run.data.params["model._target_"] == config["model"]["_target_"]
        assert not any(name.startswith("holdout/") for name in run.data.metrics), "no trial sees the holdout"
    others = {run.info.run_name.partition(":")[0]: run for run in runs if run not in (parent, *trials.values())}
    winner, default = others["winner"], others["default"]
    assert default.data.tags["split.sha256"] == winner.data.tags["split.sha256"], "they can be compared in pairs"
    assert default.data.metrics["cv/accuracy"] == parent.data.metrics["default_value"]
    assert winner.data.metrics["cv/accuracy"] == parent.data.metrics["refit_value"]
    assert "holdout/accuracy" in winner.data.metrics


@pytest.mark.journey
def test_the_best_file_runs_the_winner(command: Command, tmp_path: Path) -> None:
    sweep = ("train", "-m", "model=logreg", "tracking=off", "hydra.sweeper.folder=study", "hydra.sweeper.n_trials=3")
    assert command(*sweep).returncode == 0
    line = next(line for line in (tmp_path / "study/best.yaml").read_text().splitlines() if "Run it" in line)
    python, *arguments = shlex.split(line.removeprefix("# Run it: "))
    assert (python, arguments[:2]) == ("python", ["-m", "wineexp.train"])
    program = [sys.executable, *arguments, "--cfg", "job"]
    environment = {"PYTHONPATH": str(REPOSITORY)}
    shown = subprocess.run(program, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout
    best = yaml.safe_load((tmp_path / "study/best.yaml").read_text())
    assert yaml.safe_load(shown)["model"]["C"] == best["model"]["C"]


@needs_joblib
@pytest.mark.journey
def test_two_workers_train_real_models(command: Command, tmp_path: Path) -> None:
    sweep = (
        "train",
        "-m",
        "model=logreg,xgb",
        "tracking=off",
        "hydra.sweeper.folder=study",
        "hydra.sweeper.n_trials=6",
    )
    result = command(*sweep, "hydra/launcher=joblib", "hydra.sweeper.n_workers=2", "hydra.sweeper.refit_seed=null")
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "study").iterdir() if path.name.isdigit()} == set("012345")
    assert (tmp_path / "study/best.yaml").exists()


@pytest.mark.journey
def test_a_hopeless_trial_ends_by_xgboosts_own_rounds(command: Command, tmp_path: Path) -> None:
    result = command("train", "-m", "model=xgb", "model._target_=wineexp.sweep.rounds.PrunedXGBClassifier",
                     "hydra/sweeper/pruner=rounds", "hydra.sweeper.pruner.n_startup_trials=2", "tracking=off",
                     "hydra.sweeper.folder=study", "hydra.sweeper.n_trials=12",
                     "hydra.sweeper.study_name=s")  # fmt: skip
    assert result.returncode == 0, result.stderr
    study = study_in(tmp_path / "study")
    pruned = [trial for trial in study.trials if trial.state.name == "PRUNED"]
    assert pruned
    for trial in pruned:
        assert 10 <= trial.last_step < trial.params["model.n_estimators"] - 1, "in the middle of its rounds"
    whole = next(trial for trial in study.trials if trial.state.name == "COMPLETE")
    assert len(whole.intermediate_values) == whole.params["model.n_estimators"]


@pytest.mark.journey
def test_the_jobs_of_a_grid_have_names_of_their_own_and_the_best_is_named(command: Command, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    grid = ("model=logreg", "model.C=0.00001,1", "split.n_splits=2")
    result = command("train", "-m", "hydra/sweeper=basic", *grid)
    assert result.returncode == 0, result.stderr
    assert re.search(
        r"best of 2 jobs on cultivar · cultivar: job 1, accuracy 0\.9\d+, with .*model\.C=1", result.stdout
    )
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("cultivar-cultivar").experiment_id])
    names = [
        f"job {job}: model.C={value} split.n_splits=2 logreg scaled grouped" for job, value in ((0, "1e-05"), (1, 1))
    ]
    assert sorted(run.info.run_name for run in runs) == names


@pytest.mark.journey
def test_a_job_with_its_folder_as_the_current_one_records_where_the_variable_says(
    command: Command, tmp_path: Path
) -> None:
    result = command("train", "-m", "hydra/sweeper=basic", "model=majority,logreg", "split.n_splits=2",
                     "hydra.job.chdir=true", MLFLOW_TRACKING_URI="sqlite:///own.db")  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert [file.parent for file in tmp_path.rglob("own.db")] == [tmp_path]
