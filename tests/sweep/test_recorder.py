"""A study recorded in MLflow."""

import os
import signal
import socket
from pathlib import Path
from unittest.mock import Mock

import optuna
import pytest
from hydra.errors import CompactHydraException
from omegaconf import OmegaConf

from tests.conftest import new_database
from tests.sweep.conftest import XY, Toy, square
from wineexp.core.errors import UserError
from wineexp.sweep import ledger, recorder
from wineexp.sweep._optuna import storage_of
from wineexp.sweep.callbacks import Sweep
from wineexp.sweep.compose import Composer
from wineexp.sweep.plan import Plan
from wineexp.sweep.space import Space
from wineexp.sweep.worker_id import worker_id

mlflow = pytest.importorskip("mlflow")

# MLflow warns of its own deprecated calls.
pytestmark = pytest.mark.filterwarnings("ignore")


class Store:
    """An MLflow store, and the arguments that let a sweep record there."""

    def __init__(self, toy: Toy) -> None:
        new_database(toy.folder)
        self.uri = f"sqlite:///{toy.folder}/mlflow.db"
        toy.environment["MLFLOW_TRACKING_URI"] = self.uri
        node = "{_target_: wineexp.sweep.recorder.Recorder, uri: x, experiment: e}"
        self.arguments = (f"+hydra.sweeper.callbacks.mlflow={node}",)

    def runs(self):
        client = mlflow.MlflowClient(self.uri)
        runs = client.search_runs([client.get_experiment_by_name("e").experiment_id], max_results=500)
        parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
        assert {run.data.tags["mlflow.parentRunId"] for run in children} <= {run.info.run_id for run in parents}
        return client, parents, sorted(children, key=lambda run: int(run.data.tags["trial"]))


@pytest.fixture
def store(toy: Toy) -> Store:
    return Store(toy)


@pytest.mark.journey
def test_a_study_is_one_parent_and_its_trials_are_children(toy: Toy, store: Store) -> None:
    arguments = (*XY, *store.arguments, "folds=2", "fails=[1]")
    toy.sweep(*arguments, "hydra.sweeper.n_trials=3")
    toy.sweep(*arguments, "hydra.sweeper.n_trials=5")
    client, (parent,), children = store.runs()
    study = toy.study()
    assert parent.data.tags["study"] == "app"
    assert parent.info.status == "FINISHED"
    assert [int(run.data.tags["trial"]) for run in children] == [trial.number for trial in study.trials]
    assert [run.data.tags["state"] for run in children] == ["complete", "failed", *["complete"] * 3]
    assert [run.info.status for run in children] == ["FINISHED", "FAILED", *["FINISHED"] * 3]
    for run, trial in zip(children, study.trials, strict=True):
        assert {key: float(value) for key, value in run.data.params.items()} == trial.params
        assert run.data.metrics.get("value") == trial.value
    assert [point.value for point in client.get_metric_history(children[0].info.run_id, "score")] == [2.0, 2.1]
    assert "ValueError" in children[1].data.tags["error"]
    assert {file.path for file in client.list_artifacts(children[1].info.run_id)} == {"config.yaml", "traceback.txt"}
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert artifacts == {"best.yaml", "plots"}
    drawn = {file.path for file in client.list_artifacts(parent.info.run_id, "plots")}
    figures = ("history", "importances", "slice", "parallel_coordinate", "timeline")
    assert drawn == {f"plots/{name}.png" for name in figures}
    assert parent.data.tags["best_trial"] == str(study.best_trial.number)
    assert float(parent.data.tags["best.x"]) == study.best_params["x"]
    assert parent.data.metrics["best_value"] == study.best_value


@pytest.mark.journey
def test_trials_taken_over_from_an_earlier_study_are_named_in_the_parent_and_are_no_children(
    toy: Toy, store: Store
) -> None:
    toy.sweep_quickly(*XY, "hydra.sweeper.study_name=old", "hydra.sweeper.n_trials=4")
    arguments = ("hydra.sweeper.warm_start=old", "hydra.sweeper.enqueue_defaults=false", "hydra.sweeper.n_trials=2")
    toy.sweep(*XY, *store.arguments, *arguments)
    _, (parent,), children = store.runs()
    assert parent.data.tags["taken_over"] == "4 trials of old"
    assert [run.data.tags["trial"] for run in children] == ["4", "5"]
    assert parent.data.tags["best_trial"] in ("4", "5")
    assert "2 trials (2 complete)" in parent.data.tags["mlflow.note.content"]


@pytest.mark.journey
def test_another_study_of_the_same_name_is_another_parent(toy: Toy, store: Store) -> None:
    for place in ("one", "two"):
        toy.sweep(*XY, *store.arguments, "hydra.sweeper.n_trials=1", f"hydra.sweeper.folder={place}")
    _, parents, children = store.runs()
    assert len(parents) == 2
    assert len(children) == 2


OWN_RUN = """
    import os, mlflow
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    mlflow.set_experiment("e")
    run = mlflow.start_run(parent_run_id=current.context["parent_run_id"])
    current.set_user_attr("run_id", run.info.run_id)
    time.sleep(cfg.sleep)
    mlflow.end_run()
"""


@pytest.mark.journey
def test_a_dead_workers_run_is_closed_as_killed(toy: Toy, store: Store) -> None:
    program = toy.folder / "app.py"
    program.write_text(program.read_text().replace("\n    time.sleep(cfg.sleep)\n", OWN_RUN, 1))
    arguments = (*XY, *store.arguments, "hydra.sweeper.n_trials=1", "hydra.sweeper.may_change=[sleep]")
    process = toy.start("-m", *arguments, "sleep=60")
    toy.wait_for_trial(0, process)
    while not toy.study().trials[0].user_attrs.get("run_id"):
        assert process.is_running(), toy.wait(process)
    toy.kill(process)
    toy.sweep(*arguments, "hydra.sweeper.dedupe=false")
    _, _, children = store.runs()
    assert [run.data.tags["state"] for run in children] == ["dead", "complete"]
    assert children[0].info.status == "KILLED"


@pytest.mark.journey
def test_ctrl_c_closes_the_parent_as_killed(toy: Toy, store: Store) -> None:
    process = toy.start("-m", *XY, *store.arguments, "hydra.sweeper.n_trials=3", "sleep=2")
    toy.wait_for_trial(1, process)
    os.killpg(process.pid, signal.SIGINT)
    _, output = toy.wait(process)
    _, (parent,), children = store.runs()
    assert parent.info.status == "KILLED", output
    assert [run.data.tags["state"] for run in children] == ["complete", "interrupted"]
    assert [run.info.status for run in children] == ["FINISHED", "KILLED"]


@pytest.mark.journey
def test_a_pareto_front_is_on_the_parent(toy: Toy, store: Store) -> None:
    toy.sweep(*XY, *store.arguments, "objectives=2", "hydra.sweeper.directions=[minimize,minimize]",
              "hydra.sweeper.n_trials=4")  # fmt: skip
    client, (parent,), _ = store.runs()
    assert "pareto.yaml" in {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert "plots/pareto.png" in {file.path for file in client.list_artifacts(parent.info.run_id, "plots")}


DEAD_WORKER = f"{socket.gethostname()}:99999999:1"


@pytest.fixture
def in_process(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store of sweeps in this process."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    return store


@pytest.mark.journey
def test_what_a_crash_kept_from_being_recorded_is_recorded_when_the_study_goes_on(
    toy: Toy, in_process: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (*XY, *in_process.arguments)
    with monkeypatch.context() as crash:
        # As if each worker had been killed after its report to Optuna, the first before, the second during its run, and
        # with it the sweep.
        crash.setattr(recorder.Recorder, "study_end", lambda *_: None)
        crash.setattr(ledger, "current_worker_id", lambda **_: DEAD_WORKER)
        crash.setattr(recorder.Recorder, "new_best", lambda *_: None)
        crash.setattr(recorder.Recorder, "_write_best", lambda *_: None)
        crash.setattr(recorder.Recorder, "trial_end", _begin_second_run)
        toy.sweep_in_process(*arguments, "hydra.sweeper.n_trials=2", task=square)
    toy.sweep_in_process(*arguments, "hydra.sweeper.n_trials=2", task=square)
    _, (parent,), children = in_process.runs()
    study = toy.study()
    assert [run.data.tags["trial"] for run in children] == ["0", "1"]
    assert [run.data.metrics["value"] for run in children] == [trial.value for trial in study.trials]
    assert {(run.data.tags["state"], run.info.status) for run in children} == {("complete", "FINISHED")}
    assert float(children[1].data.params["x"]) == study.trials[1].params["x"]
    assert parent.data.tags["best_trial"] == str(study.best_trial.number)


def _begin_second_run(self: recorder.Recorder, sweep, outcome) -> None:
    if outcome.number == 1:
        parent = sweep.study.user_attrs[recorder.PARENT_RUN_ID]
        self.runs.child(parent, "trial 1", {"trial": 1, "state": "complete"})


@pytest.mark.journey
def test_the_winners_run_of_a_killed_process_is_closed_and_the_winner_run_again(toy: Toy, in_process: Store) -> None:
    arguments = (*XY, *in_process.arguments, "hydra.sweeper.n_trials=1")
    toy.sweep_in_process(*arguments, task=square)
    client, (parent,), _ = in_process.runs()
    tags = {"mlflow.parentRunId": parent.info.run_id}
    left_open = client.create_run(parent.info.experiment_id, tags=tags, run_name="winner")
    _claim_refit(toy, DEAD_WORKER)
    toy.sweep_in_process(*arguments, "hydra.sweeper.refit_seed=kind", task=square)
    assert client.get_run(left_open.info.run_id).info.status == "KILLED"
    assert toy.study().user_attrs["refit"]["trial"] == 0


@pytest.mark.journey
def test_the_winner_is_run_by_one_of_two_processes(toy: Toy) -> None:
    arguments = (*XY, "hydra.sweeper.n_trials=1")
    toy.sweep_quickly(*arguments)
    parent_id = worker_id(os.getppid())
    _claim_refit(toy, parent_id)
    assert toy.sweep_quickly(*arguments, "hydra.sweeper.refit_seed=kind") == []
    assert "refit" not in toy.study().user_attrs
    _claim_refit(toy, "")
    assert len(toy.sweep_quickly(*arguments, "hydra.sweeper.refit_seed=kind")) == 1


def _claim_refit(toy: Toy, worker: str) -> None:
    study = toy.study()
    storage = storage_of(study)
    storage.set_study_system_attr(storage.get_study_id_from_name(study.study_name), ledger.REFIT_CLAIM, worker)


INTERRUPTER = """
import os, signal
from wineexp.sweep.callbacks import Callback


class Interrupter(Callback):
    def study_end(self, sweep, status, files):
        os.kill(os.getpid(), signal.SIGINT)
"""


def test_a_second_ctrl_c_leaves_no_run_open(toy: Toy, in_process: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (toy.folder / "interrupter.py").write_text(INTERRUPTER)
    monkeypatch.syspath_prepend(str(toy.folder))

    def interrupted(_: object) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toy.sweep_in_process(*XY, "+hydra.sweeper.callbacks.a._target_=interrupter.Interrupter", *in_process.arguments,
                             task=interrupted)  # fmt: skip
    _, (parent,), children = in_process.runs()
    assert parent.info.status == "KILLED"
    assert [(run.data.tags["state"], run.info.status) for run in children] == [("interrupted", "KILLED")]


@pytest.mark.parametrize("line", ["no json", "[]", "{}", "null"])
def test_a_line_of_the_journal_that_is_none_is_named(toy: Toy, line: str) -> None:
    toy.sweep_quickly(*XY, "hydra.sweeper.n_trials=1")
    journal = toy.folder / "multirun/app/journal.log"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:2], line, *lines[2:]]) + "\n")
    with pytest.raises(CompactHydraException, match=r"journal.log, line 3: this is no entry of a study's journal"):
        toy.sweep_in_process(*XY, "hydra.sweeper.n_trials=2")


def test_a_disk_that_is_full_when_the_best_is_written_costs_no_trial(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wineexp.sweep.call.write_best", write)
    monkeypatch.setattr("wineexp.sweep.worker.write_best", write)
    with pytest.raises(CompactHydraException, match=r"file could not be written: \[Errno 28\] No space left on device"):
        toy.sweep_in_process(*XY, "hydra.sweeper.n_trials=2", task=square)
    assert [trial.state.name for trial in toy.study().trials] == ["COMPLETE"] * 2


def test_a_worker_whose_store_is_not_that_of_the_study_runs_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
        new_database(tmp_path / name)
    study = optuna.create_study(study_name="s")
    sweep = Sweep(study, tmp_path, OmegaConf.create({}), 0, Plan((), Space(()), frozenset(), Composer(None, None, ())))
    mine, other = (recorder.Recorder(f"sqlite:///{tmp_path}/{name}/mlflow.db", "e") for name in ("mine", "other"))
    mine.worker_start(sweep)
    mine.study_start(sweep)
    mine.worker_start(sweep)
    with pytest.raises(UserError, match=r"run of study 's' is not in .*other/mlflow.db, .*: set MLFLOW_TRACKING_URI"):
        other.worker_start(sweep)


def test_before_a_study_ends_a_store_that_is_away_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "AWAY_PAUSE_SECONDS", 0)
    study = optuna.create_study(study_name="s")
    study.set_user_attr(recorder.PARENT_RUN_ID, "p")
    sweep = Sweep(study, tmp_path, OmegaConf.create({}), 0, Plan((), Space(()), frozenset(), Composer(None, None, ())))
    callback = recorder.Recorder("http://server", "e")
    callback._opened = Mock(is_away=Mock(side_effect=[True, True, False]))
    callback.trials_end(sweep, 60)
    assert callback.runs.is_away.call_count == 3
    callback._opened = Mock(is_away=Mock(return_value=True))
    callback.trials_end(sweep, 0)
    assert callback.runs.is_away.call_count == 1
