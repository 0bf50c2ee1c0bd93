"""A study whose sampler knows the trials of earlier ones."""

import pytest
import yaml
from hydra.errors import CompactHydraException

from tests.sweep.conftest import XY, Toy

WARM = "hydra.sweeper.warm_start=old"


def old_study(toy: Toy, *arguments: str) -> None:
    toy.sweep_quickly(*(arguments or XY), "hydra.sweeper.study_name=old", "hydra.sweeper.n_trials=20")


@pytest.mark.journey
def test_a_sampler_knows_earlier_trials_which_fill_no_slot_and_are_never_the_best(toy: Toy) -> None:
    old_study(toy)
    new = (*XY[:1], "y=interval(-4, 4)", WARM, "hydra.sweeper.enqueue_defaults=false", "hydra.sweeper.n_trials=2")
    (first,) = toy.sweep_quickly(*new[:-1], "hydra.sweeper.n_trials=1")
    (second,) = toy.sweep_quickly(*new)
    study, old = toy.study(), toy.study("old")
    inside = [trial for trial in old.trials if abs(trial.params["y"]) <= 4]
    known, own = study.trials[:-2], study.trials[-2:]
    assert 0 < len(inside) < 20
    assert [(trial.params, trial.values) for trial in known] == [(trial.params, trial.values) for trial in inside]
    assert {trial.user_attrs["taken_over_from"] for trial in known} == {"old"}
    assert study.user_attrs["taken_over"] == {"old": len(inside)}, "taken over once"
    assert [trial.user_attrs["slot"] for trial in own] == [0, 1], "they fill no slot"
    best = min(own, key=lambda trial: trial.value)
    results = yaml.safe_load((toy.folder / "multirun/app/optimization_results.yaml").read_text())
    assert results["best_value"] == best.value > min(trial.value for trial in known), "they are never the best"
    toy.sweep_quickly(*new[:2], *new[3:], "hydra.sweeper.study_name=cold")
    cold = [trial.params["x"] for trial in toy.study("cold").trials]
    assert [first.x, second.x] != cold, "the sampler knows them"


def test_studies_that_do_not_compare_are_refused_by_name_before_a_trial(toy: Toy) -> None:
    old_study(toy)
    for arguments, words in (
        ((*XY, "folds=2"), "folds was 0 there and is 2 here"),
        ((*XY, "hydra.sweeper.direction=maximize"), "its direction is minimize, and here it is maximize"),
        ((*XY, "sleep=0,1"), "sleep does not vary in it"),
        (("x=interval(7, 9)", XY[1]), "none of its 20 trials that are complete or pruned lies in this study's space"),
        ((*XY, "hydra/sweeper/sampler=random"), "RandomSampler does not learn from trials"),
        (("x=1,2", "y=1"), "the budget is enough for each point"),
    ):
        with pytest.raises(CompactHydraException, match=words):
            toy.sweep_in_process(*arguments, WARM)
    for setting, words in (
        ("ol", "no file multirun/ol/journal.log"),
        ("{study:ol,storage:multirun/old/journal.log}", "did you mean old"),
        ("[{storage:a},5]", "(?s)lacks the study's name.*5 is no study"),
    ):
        with pytest.raises(CompactHydraException, match=words):
            toy.sweep_in_process(*XY, f"hydra.sweeper.warm_start={setting}")
    assert not (toy.folder / "multirun/app/journal.log").read_text(), "no study was created"
