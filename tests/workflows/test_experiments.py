"""Named experiments: every one composes, says how it is run, and keeps to its protocol."""

import re
from pathlib import Path

import mlflow
import numpy as np
import pytest

from tests.conftest import Command, choices, composed
from wineexp.core import config, instantiation
from wineexp.core.paths import ROOT
from wineexp.data.datasets import WINE_QUALITY_MEASUREMENTS, snake_case
from wineexp.workflows.experiment import Experiment, assemble

BEST = [name for name in choices("experiment") if name.startswith("best_")]


@pytest.mark.parametrize("name", choices("experiment"))
def test_a_file_says_how_it_is_run_and_fits_its_callables(name: str) -> None:
    first, *rest = (ROOT / "conf/experiment" / f"{name}.yaml").read_text().splitlines()
    assert first == "# @package _global_"
    assert any(re.match(rf"# .*python -m wineexp\.train (-m )?experiment={name}( |$)", line) for line in rest)
    cfg = composed(f"experiment={name}")
    for group in config.GROUPS:
        assert instantiation.check_node(group, cfg[group]) == []


ABLATION = choices("experiment/ablation")


@pytest.mark.parametrize("name", ABLATION)
def test_an_ablation_changes_one_thing(name: str) -> None:
    whole, changed = (composed("experiment=ablation", f"+experiment/ablation={each}") for each in ("whole", name))
    different = [key for key in whole if whole[key] != changed[key]]
    assert different == [] if name == "whole" else different in (["feature"], ["model"])
    for group in config.GROUPS:
        assert instantiation.check_node(group, changed[group]) == []


def test_each_measurement_is_left_out_once() -> None:
    left_out = [
        name
        for each in ABLATION
        for name in composed("experiment=ablation", f"+experiment/ablation={each}").feature.get("columns", [])
    ]
    assert sorted(left_out) == sorted(snake_case(name) for name in WINE_QUALITY_MEASUREMENTS)


def copies_on_both_sides(experiment: Experiment) -> int:
    task = experiment.task
    rows = [tuple(row) for row in task.X.itertuples(index=False)]
    return max(len({rows[i] for i in train} & {rows[i] for i in test}) for train, test in task.folds)


@pytest.mark.usefixtures("wine_quality")
@pytest.mark.parametrize("name", BEST)
def test_the_best_are_leak_free_repeated_and_leave_the_holdout_alone(name: str) -> None:
    assert composed(f"experiment={name}").split.n_repeats == 5
    experiment = assemble(composed(f"experiment={name}", "split.n_repeats=1"))
    assert copies_on_both_sides(experiment) == 0
    assert len(experiment.task.folds) == 5
    assert len(experiment.task.y_holdout) > 0.19 * len(experiment.task.dataset.frame)
    beside = assemble(composed(f"experiment={name}", "split=stratified"))
    assert copies_on_both_sides(beside) > 20
    assert beside.cfg.model == experiment.cfg.model
    assert not set(experiment.task.rows_holdout) & set(experiment.task.rows)


@pytest.mark.usefixtures("wine_quality")
@pytest.mark.parametrize(
    ("name", "paper"),
    [
        (
            "paper_red",
            {"mean_absolute_error": 0.46, "accuracy": 0.624, "accuracy_within_1": 0.890, "cohen_kappa": 0.387},
        ),
        (
            "paper_white",
            {"mean_absolute_error": 0.45, "accuracy": 0.646, "accuracy_within_1": 0.868, "cohen_kappa": 0.439},
        ),
    ],
)
def test_a_run_of_the_papers_protocol_beats_the_paper(name: str, paper: dict[str, float]) -> None:
    few = ["model.estimator.n_estimators=40", "split.n_repeats=1"]
    assert composed(f"experiment={name}").split.n_repeats == 20
    experiment = assemble(composed(f"experiment={name}", *few))
    task = experiment.task
    assert len(task.y) == len(task.dataset.frame)
    tested = np.concatenate([test for _, test in task.folds])
    assert sorted(tested) == list(range(len(task.y)))
    folds = list(experiment.cross_validate())
    for metric, figure in paper.items():
        ours = float(np.mean([fold.scores[metric] for fold in folds]))
        assert (ours < figure) if metric == "mean_absolute_error" else (ours > figure), metric


@pytest.mark.usefixtures("wine_quality")
def test_the_chemistry_alone_tells_the_colour() -> None:
    experiment = assemble(composed("experiment=colour", "split.n_repeats=1"))
    assert "colour" not in experiment.task.X
    assert experiment.task.X.shape[1] == 11
    folds = list(experiment.cross_validate())
    assert np.mean([fold.scores["accuracy"] for fold in folds]) > 0.994


def test_a_run_remembers_which_named_experiment_it_was(command: Command, tmp_path: Path) -> None:
    few = ["split.n_splits=2", "split.n_repeats=1"]
    for arguments in (["experiment=cultivar", *few], ["model=logreg"]):
        done = command("train", *arguments)
        assert done.returncode == 0, done.stderr
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (held,) = [each for each in client.search_experiments() if each.name == "cultivar-cultivar"]
    second, first = client.search_runs([held.experiment_id])
    assert (first.data.tags["experiment"], first.data.params["model"]) == ("cultivar", "extratrees")
    assert "experiment" not in second.data.tags


def test_a_misspelt_name_is_told(command: Command) -> None:
    done = command("train", "experiment=paper_rad")
    assert done.returncode == 1
    assert "paper_rad" in done.stderr
    assert "did you mean paper_red?" in done.stderr
