"""Named experiments: every one composes, says how it is run, and keeps to its protocol."""

import re
from pathlib import Path

import mlflow
import numpy as np
import pytest
from sklearn.model_selection import KFold

from tests.conftest import choices, composed, new_database
from wineexp import UserError, compose, train
from wineexp.core import config, instantiation
from wineexp.core.paths import ROOT
from wineexp.data.schema import snake_case
from wineexp.workflows.experiment import Experiment, assemble

MEASUREMENTS = [name for name in composed("data=red").data.columns if name != "quality"]
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
    whole, changed = (composed("experiment=ablation", f"+experiment/ablation={choice}") for choice in ("whole", name))
    different = [key for key in whole if whole[key] != changed[key]]
    assert different == [] if name == "whole" else different in (["feature"], ["model"])
    for group in config.GROUPS:
        assert instantiation.check_node(group, changed[group]) == []


def test_each_measurement_is_left_out_once() -> None:
    left_out = [
        name
        for choice in ABLATION
        for name in composed("experiment=ablation", f"+experiment/ablation={choice}").feature.get("columns", [])
    ]
    assert sorted(left_out) == sorted(snake_case(name) for name in MEASUREMENTS)


def copies_on_both_sides(experiment: Experiment) -> int:
    """The largest number, over the folds, of different rows that are in both training and test."""
    task = experiment.task
    row_codes = task.X.groupby(list(task.X), dropna=False, observed=True).ngroup().to_numpy()
    return max(len(np.intersect1d(row_codes[train], row_codes[test])) for train, test in task.folds)


@pytest.mark.parametrize("name", BEST)
def test_the_best_are_repeated_on_grouped_folds_with_the_same_holdout(name: str) -> None:
    cfg, same_data = composed(f"experiment={name}"), composed(f"experiment={name.rpartition('_')[0]}_grade")
    assert cfg.split.n_repeats == 5
    assert (cfg.split, cfg.holdout, cfg.data) == (same_data.split, same_data.holdout, same_data.data)


# The split is the same for all targets of a data set; one target for each says that it does not leak.
LEAK_FREE = [pytest.param(name, marks=() if name.endswith("_good") else pytest.mark.journey) for name in BEST]


@pytest.mark.usefixtures("wine_quality")
@pytest.mark.parametrize("name", LEAK_FREE)
def test_the_best_are_free_of_leaks_and_leave_the_holdout_alone(name: str) -> None:
    experiment = assemble(composed(f"experiment={name}", "split.n_repeats=1"))
    assert copies_on_both_sides(experiment) == 0
    assert len(experiment.task.folds) == 5
    assert len(experiment.task.y_holdout) > 0.19 * len(experiment.task.dataset.frame)
    assert not set(experiment.task.rows_holdout) & set(experiment.task.rows)
    # Without groups there would be leaks.
    ungrouped = assemble(composed(f"experiment={name}", "split=stratified", "holdout.size=0"))
    assert copies_on_both_sides(ungrouped) > 20
    assert ungrouped.cfg.model == experiment.cfg.model


TABARENA = ["tabarena_wine", "tabarena_wine_grouped"]

PAPER = {
    "paper_red": {"mean_absolute_error": 0.46, "accuracy": 0.624, "accuracy_within_1": 0.890, "cohen_kappa": 0.387},
    "paper_white": {"mean_absolute_error": 0.45, "accuracy": 0.646, "accuracy_within_1": 0.868, "cohen_kappa": 0.439},
}


@pytest.mark.usefixtures("wine_quality")
@pytest.mark.parametrize("name", PAPER)
def test_the_papers_protocol_tests_every_row_once_in_each_of_twenty_runs(name: str) -> None:
    assert composed(f"experiment={name}").split.n_repeats == 20
    task = assemble(composed(f"experiment={name}", "split.n_repeats=1")).task
    assert len(task.y) == len(task.dataset.frame)
    tested = np.concatenate([test for _, test in task.folds])
    assert sorted(tested) == list(range(len(task.y)))


@pytest.mark.journey
@pytest.mark.usefixtures("wine_quality")
@pytest.mark.parametrize("name", PAPER)
def test_a_run_of_the_papers_protocol_beats_the_paper(name: str) -> None:
    experiment = assemble(composed(f"experiment={name}", "model.estimator.n_estimators=40", "split.n_repeats=1"))
    folds = list(experiment.cross_validate())
    for metric, published in PAPER[name].items():
        mean = float(np.mean([fold.scores[metric] for fold in folds]))
        assert (mean < published) if metric == "mean_absolute_error" else (mean > published), metric


@pytest.mark.journey
@pytest.mark.usefixtures("wine_quality")
def test_tabarenas_protocol_has_nine_folds_of_named_seeds_with_and_without_copies_on_both_sides() -> None:
    plain, grouped = (assemble(composed(f"experiment={name}", "seed=7")).task for name in TABARENA)
    assert [len(task.X) for task in (plain, grouped)] == [6497, 6497]
    assert list(plain.X) == list(grouped.X)
    assert "colour" in plain.X
    splitters = [KFold(3, shuffle=True, random_state=seed) for seed in (0, 1, 2)]
    named = [fold for splitter in splitters for fold in splitter.split(plain.X)]
    assert len(named) == len(plain.folds) == len(grouped.folds) == 9
    for (train_rows, test), (wanted_train_rows, wanted_test) in zip(plain.folds, named, strict=True):
        assert np.array_equal(train_rows, wanted_train_rows)
        assert np.array_equal(test, wanted_test)
    assert plain.leaks["copies"] == pytest.approx(0.24, abs=0.01)
    assert grouped.leaks["copies"] == 0


@pytest.mark.journey
@pytest.mark.usefixtures("wine_quality")
def test_the_colour_is_predicted_from_the_measurements_alone() -> None:
    experiment = assemble(composed("experiment=colour", "split.n_repeats=1"))
    assert sorted(experiment.task.X) == sorted(map(snake_case, MEASUREMENTS))
    fold = next(experiment.cross_validate())
    assert fold.scores["accuracy"] > 0.99


def test_a_run_has_a_tag_with_the_named_experiment_that_it_was_started_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_database(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    few = ("split.n_splits=2", "split.n_repeats=1", "model.n_estimators=5")
    named = train(compose("experiment=cultivar", *few))
    plain = train(compose("model=logreg", "split.n_splits=2"))
    runs = [mlflow.get_run(result.run_id).data for result in (named, plain)]
    assert [run.tags.get("experiment") for run in runs] == ["cultivar", None]
    assert runs[0].params["model"] == "extratrees"


def test_a_misspelt_experiment_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match=r"paper_rad: .*did you mean paper_red\?"):
        compose("experiment=paper_rad")
