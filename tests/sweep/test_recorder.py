"""A study recorded in MLflow."""

import os
import shutil
import signal

import pytest

from tests.conftest import empty_store
from tests.sweep.conftest import XY, Toy

mlflow = pytest.importorskip("mlflow")

# MLflow warns of its own deprecated calls.
pytestmark = pytest.mark.filterwarnings("ignore")


class Store:
    """An MLflow store, and the arguments that let a sweep record there."""

    def __init__(self, toy: Toy) -> None:
        shutil.copy(empty_store(), toy.folder / "mlflow.db")
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
    time.sleep"""


@pytest.mark.journey
def test_a_dead_workers_run_is_closed_as_killed(toy: Toy, store: Store) -> None:
    program = toy.folder / "app.py"
    program.write_text(program.read_text().replace("\n    time.sleep", OWN_RUN, 1))
    arguments = (*XY, *store.arguments, "hydra.sweeper.n_trials=1")
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
