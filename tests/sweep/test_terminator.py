"""A study that ends before its budget is spent, since its trials have stopped to improve."""

import logging

import pytest
from hydra.errors import CompactHydraException
from optuna.trial import TrialState, create_trial

from tests.sweep.conftest import Toy
from tests.sweep.test_slots import trial
from wineexp.sweep.slots import ERROR, Slots

GRID = ("x=5,4,3,2,1.95,1.9,1.85,1.8,0", "hydra.sweeper.n_trials=9", "hydra/sweeper/sampler=grid")
TERMINATOR = "hydra.sweeper.terminator={patience:3,min_delta:0.7}"


def test_a_study_ends_when_trials_in_a_row_are_no_better_and_a_resumed_one_agrees(
    toy: Toy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "wineexp")
    configs = toy.sweep_quickly(*GRID, TERMINATOR)
    assert [config.x for config in configs] == [5, 4, 3, 2, 1.95, 1.9, 1.85], "1.85 squared is 0.6 below 2 squared"
    line = "ends before its budget is spent: none of 3 trials in a row was better by more than 0.7"
    assert line in caplog.text
    # What the last trial of another worker gives does not begin the study again.
    study = toy.study()
    params, distributions = {"x": study.trials[0].distributions["x"].choices[-1]}, study.trials[0].distributions
    study.add_trial(create_trial(value=0, params=params, distributions=distributions, user_attrs={"slot": 7}))
    caplog.clear()
    assert toy.sweep_quickly(*GRID, TERMINATOR) == []
    assert line in caplog.text
    assert "a higher hydra.sweeper.n_trials" not in caplog.text
    assert [config.x for config in toy.sweep_quickly(*GRID)] == [1.8], "without a terminator it goes on"


def test_failed_trials_are_no_sign_of_a_plateau() -> None:
    slots = Slots(0, None)
    ends = [(TrialState.COMPLETE, None), *[(TrialState.FAIL, ERROR)] * 3, (TrialState.PRUNED, None)]
    slots.update([trial(number, number, *end) for number, end in enumerate(ends)])
    assert slots.n_stale == 1


def test_a_terminator_that_means_nothing_is_refused_with_all_its_faults(toy: Toy) -> None:
    with pytest.raises(CompactHydraException, match=r"(?s)patience must be 1 trial.*min_delta must be"):
        toy.sweep_in_process("x=1,2", "hydra.sweeper.terminator={patience:0,min_delta:-1}")
    with pytest.raises(CompactHydraException, match="takes one direction, and 2 are stated"):
        toy.sweep_in_process(
            "x=1,2", "hydra.sweeper.terminator.patience=3", "hydra.sweeper.directions=[minimize,minimize]"
        )
