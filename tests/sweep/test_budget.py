"""How many trials a sweep runs: its budget, its time, and sets of parameters that were tried."""

import math

import pytest

from tests.sweep.conftest import XY, Toy
from tests.sweep.test_command import COMPLETE, states
from wineexp.sweep.worker import has_time_for_trial


@pytest.mark.journey
def test_timeout_ends_a_sweep_and_the_next_call_goes_on(toy: Toy) -> None:
    arguments = (*XY, "sleep=0.3", "hydra.sweeper.n_trials=100", "hydra.sweeper.timeout=1")
    toy.sweep(*arguments)
    first = len(toy.study().trials)
    assert 1 <= first <= 5
    toy.sweep(*arguments)
    assert first < len(toy.study().trials) <= 2 * first + 2


def test_no_trial_starts_that_would_leave_no_time_for_the_refit(toy: Toy) -> None:
    arguments = (*XY, "sleep=0.5", "hydra.sweeper.n_trials=9", "hydra.sweeper.timeout=1.9")
    toy.sweep(*arguments, "hydra.sweeper.refit_seed=kind")
    study = toy.study()
    assert len(study.trials) == 1, "with a second trial, the refit would end after more than 1.9 seconds"
    assert study.user_attrs["refit"]["trial"] == 0


@pytest.mark.parametrize(
    ("seconds_left", "longest_trial_seconds", "n_refits", "expected"),
    [
        (10.0, 0.0, 1, True),
        (10.0, 3.0, 1, True),
        (10.0, 3.0, 2, False),
        (10.0, 4.0, 1, False),
        (10.0, 4.0, 0, True),
        (10.0, 10.0, 0, False),
        (-1.0, 0.0, 0, False),
        (math.inf, 99.0, 2, True),
    ],
)
def test_a_trial_and_the_refit_must_end_in_the_time_left(
    seconds_left: float, longest_trial_seconds: float, n_refits: int, expected: bool
) -> None:
    assert has_time_for_trial(seconds_left, longest_trial_seconds, n_refits) is expected


def test_a_repeated_parameter_set_is_not_run_again(toy: Toy) -> None:
    configs = toy.sweep_quickly("x=range(1, 12)", "hydra.sweeper.n_trials=10", "hydra/sweeper/sampler=random")
    study = toy.study()
    assert states(study) == [COMPLETE] * 10
    assert len(configs) == len({config.x for config in configs}) < 10
    for trial in study.trials:
        assert trial.value == trial.params["x"] ** 2


@pytest.mark.journey
def test_a_space_of_few_points_has_one_trial_at_each(toy: Toy) -> None:
    configs = toy.sweep_quickly("x=1,2", "y=3,4")
    assert [(config.x, config.y) for config in configs] == [(1, 3), (1, 4), (2, 3), (2, 4)]
    assert len(toy.study().trials) == 4
    assert toy.sweep_quickly("x=1,2", "y=3,4", "hydra.sweeper.n_trials=9") == []
    assert len(toy.sweep_quickly("x=1,2", "hydra.sweeper.dedupe=false", "hydra.sweeper.n_trials=3", "kind=b",
                                 "hydra.sweeper.study_name=noisy")) == 3  # fmt: skip


def test_a_study_that_did_not_visit_each_point_goes_on_with_those_that_are_left(toy: Toy) -> None:
    first = toy.sweep_quickly("x=range(1, 8)", "hydra.sweeper.n_trials=3")
    rest = toy.sweep_quickly("x=range(1, 8)")
    assert sorted(config.x for config in (*first, *rest)) == list(range(1, 8))
