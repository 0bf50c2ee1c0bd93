"""What the sweeper relies on in Optuna beyond its public interface."""

from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.samplers import BruteForceSampler, RandomSampler, TPESampler
from optuna.search_space import IntersectionSearchSpace
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from wineexp.sweep import _optuna

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture
def study() -> Study:
    return optuna.create_study(storage=InMemoryStorage(), sampler=RandomSampler(seed=0))


def new_trial(study: Study, user_attrs: dict | None = None, fixed_params: dict | None = None) -> optuna.Trial:
    template = _optuna.trial_template(user_attrs or {}, fixed_params or {})
    storage = _optuna.storage_of(study)
    study_id = storage.get_study_id_from_name(study.study_name)
    return _optuna.start_trial(study, storage.create_new_trial(study_id, template))


def test_a_started_trial_suggests_its_fixed_parameters_and_then_the_samplers(study: Study) -> None:
    trial = new_trial(study, {"slot": 4}, {"x": 0.25})
    assert trial.suggest_float("x", 0, 1) == 0.25
    assert 0 <= trial.suggest_float("y", 0, 1) <= 1
    (stored,) = study.trials
    assert stored.state is TrialState.RUNNING
    assert stored.user_attrs == {"slot": 4}
    assert stored.params["x"] == 0.25
    assert _optuna.fixed_params(stored) == {"x": 0.25}
    assert stored.datetime_start is not None


def test_a_started_trial_sees_what_other_processes_have_finished(study: Study) -> None:
    first = new_trial(study)
    storage = _optuna.storage_of(study)
    storage.set_trial_state_values(_optuna.trial_id(first), TrialState.COMPLETE, [1.0])
    new_trial(study)
    assert [trial.state for trial in study._get_trials(use_cache=True)] == [TrialState.COMPLETE, TrialState.RUNNING]


def test_the_id_of_a_trial_is_its_storages(study: Study) -> None:
    other = optuna.create_study(storage=_optuna.storage_of(study), study_name="other")
    new_trial(study)
    trial = new_trial(other)
    assert trial.number == 0
    assert _optuna.trial_id(trial) != trial.number
    assert _optuna.storage_of(study).get_trial(_optuna.trial_id(trial)).number == 0
    assert _optuna.trial_id(other.trials[0]) == _optuna.trial_id(trial)


@pytest.mark.parametrize(
    ("distribution", "inside", "outside"),
    [
        (IntDistribution(2, 8, step=2), [2, 4, 8], [1, 3, 10]),
        (FloatDistribution(0.1, 0.5, step=0.1), [0.1, 0.3, 0.5], [0.0, 0.25, 0.6]),
        (FloatDistribution(1e-3, 1.0, log=True), [1e-3, 0.5, 1.0], [0.0, 2.0]),
    ],
)
def test_a_distribution_contains_its_values_alone(
    distribution: IntDistribution | FloatDistribution, inside: list[float], outside: list[float]
) -> None:
    assert all(_optuna.contains(distribution, value) for value in inside)
    assert not any(_optuna.contains(distribution, value) for value in outside)


def test_a_qmc_sampler_with_an_index_gives_the_point_of_that_index(study: Study) -> None:
    pytest.importorskip("scipy")

    def suggestions(index: int) -> tuple[float, float]:
        sampler = _optuna.IndexedQMCSampler(seed=1, warn_independent_sampling=False, warn_asynchronous_seeding=False)
        sampler.index = index
        study.sampler = sampler
        trial = new_trial(study)
        point = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        _optuna.storage_of(study).set_trial_state_values(_optuna.trial_id(trial), TrialState.COMPLETE, [0.0])
        return point

    # The first trial of a study is sampled independently: its parameters are not known before.
    suggestions(0)
    points = [suggestions(index) for index in (1, 2, 1)]
    assert points[0] == points[2] != points[1]
    storage = _optuna.storage_of(study)
    study_id = storage.get_study_id_from_name(study.study_name)
    assert storage.get_study_system_attrs(study_id) == {}, "no counter is stored"


def test_a_sampler_that_has_visited_all_points_stops_a_study_outside_of_optimize(study: Study) -> None:
    stops: list[str] = []
    study.sampler = BruteForceSampler(seed=0)
    for value in (0.0, 1.0):
        trial = new_trial(study)
        trial.suggest_categorical("x", ["a", "b"])
        stoppable = _optuna.StoppableStudy(study, lambda: stops.append("stop"))
        frozen: FrozenTrial = _optuna.storage_of(study).get_trial(_optuna.trial_id(trial))
        study.sampler.after_trial(stoppable, frozen, TrialState.COMPLETE, [value])
        _optuna.storage_of(study).set_trial_state_values(_optuna.trial_id(trial), TrialState.COMPLETE, [value])
        assert len(stops) == (0 if value == 0.0 else 1)


def test_the_journal_takes_a_lock_of_our_own(tmp_path: Path) -> None:
    calls: list[str] = []

    class RecordingLock(_optuna.BaseJournalFileLock):
        def acquire(self) -> bool:
            calls.append("acquire")
            return True

        def release(self) -> None:
            calls.append("release")

    storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal"), lock_obj=RecordingLock()))
    optuna.create_study(storage=storage, study_name="s")
    assert calls
    assert calls == ["acquire", "release"] * (len(calls) // 2)


def test_a_sampler_knows_the_search_space_that_another_has_found_out(study: Study) -> None:
    for number in range(3):
        trial = new_trial(study)
        trial.suggest_float("x", 0, 1)
        if number:
            trial.suggest_float("y", 0, 1)
        _optuna.storage_of(study).set_trial_state_values(_optuna.trial_id(trial), TrialState.COMPLETE, [1.0])
    first, second = TPESampler(seed=1), TPESampler(seed=2)
    latest = study.trials[-1]
    assert set(first.infer_relative_search_space(study, latest)) <= {"x"}
    _optuna.share_search_space(second, first)
    assert second._search_space is first._search_space
    assert second._search_space.calculate(study) == IntersectionSearchSpace(include_pruned=True).calculate(study)
    _optuna.share_search_space(RandomSampler(), first)
    _optuna.share_search_space(first, RandomSampler())
    assert first._search_space is second._search_space
