"""`python -m wineexp.train`, from the command line to what MLflow shows of it."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from mlflow.entities import LoggedModelStatus, Run
from omegaconf import OmegaConf

import wineexp.train  # noqa: F401  registers the frame that conf/train.yaml names
from tests.conftest import Command, composed, environment, installed_models, mlflow_server, run, tree_count_keys
from wineexp.core import config, instantiation
from wineexp.core.paths import ROOT
from wineexp.data import task
from wineexp.models import persistence
from wineexp.tracking import run as tracking_run
from wineexp.tracking import store, uri

FIGURES = {"confusion", "probabilities", "importance"}


def client(folder: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")


def runs(folder: Path) -> list[Run]:
    """All runs of a folder's store, the latest first."""
    store = client(folder)
    return store.search_runs([experiment.experiment_id for experiment in store.search_experiments()])


def figures(done: Run) -> dict[str, float]:
    """The metrics of a run that must not depend on how fast the machine is."""
    return {name: value for name, value in done.data.metrics.items() if not name.endswith("_seconds")}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the output of `python -m wineexp.train model=xgb`."""
    folder = tmp_path_factory.mktemp("first")
    # A warning at an import would be seen, too.
    done = run(folder, "train", "model=xgb", afresh=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder, done.stdout


def test_the_summary_says_how_good_the_model_is_and_where_to_look(first: tuple[Path, str]) -> None:
    folder, output = first
    (done,) = runs(folder)
    mean, deviation = done.data.metrics["cv/accuracy"], done.data.metrics["cv/accuracy_std"]
    assert f"{mean:.4f} ± {deviation:.4f}" in output
    assert "majority_accuracy" in output
    assert done.info.run_id in output
    assert "mlflow ui" in output
    assert mean > 0.95
    assert "does not beat" not in output


def test_every_leaf_of_the_config_is_a_parameter_under_its_own_name(first: tuple[Path, str]) -> None:
    folder, _ = first
    (done,) = runs(folder)
    (written,) = folder.glob("outputs/*/*/.hydra/config.yaml")
    leaves = config.flatten_config(OmegaConf.load(written))
    assert {name: str(value) for name, value in leaves.items()}.items() <= done.data.params.items()
    assert done.data.params["model.max_depth"] == "4"
    assert done.data.params["model"] == "xgb"
    assert done.info.run_name == "xgb scaled grouped"
    assert client(folder).get_experiment(done.info.experiment_id).name == "cultivar-cultivar"


def test_folds_means_and_spread_are_recorded(first: tuple[Path, str]) -> None:
    folder, _ = first
    (done,) = runs(folder)
    folds = pd.Series([step.value for step in client(folder).get_metric_history(done.info.run_id, "fold/accuracy")])
    assert len(folds) == 5
    assert done.data.metrics["cv/accuracy"] == folds.mean()
    assert done.data.metrics["cv/accuracy_std"] == folds.std()
    names = {"accuracy", "balanced_accuracy", "matthews_corrcoef", "f1_macro", "log_loss", "majority_accuracy"}
    assert {f"{kind}/{name}" for kind in ("fold", "cv", "holdout") for name in names} <= done.data.metrics.keys()


def test_the_data_are_recorded_with_their_md5(first: tuple[Path, str]) -> None:
    folder, _ = first
    (done,) = runs(folder)
    (used,) = done.inputs.dataset_inputs
    assert used.dataset.digest == "3e584720e6718d28509f86f05b7885a1"
    assert done.data.tags["data.md5"] == used.dataset.digest
    assert done.data.tags["data.duplicate_rows"] == "0"


def test_config_log_and_figures_are_artifacts(first: tuple[Path, str]) -> None:
    folder, _ = first
    (done,) = runs(folder)
    store = client(folder)
    top = {artifact.path for artifact in store.list_artifacts(done.info.run_id)}
    assert {".hydra", "train.log", "figures"} <= top
    drawn = {Path(artifact.path).stem for artifact in store.list_artifacts(done.info.run_id, "figures")}
    assert drawn == FIGURES


def test_the_model_is_stored_without_pickle_and_answers_as_it_was_scored(first: tuple[Path, str]) -> None:
    folder, _ = first
    (done,) = runs(folder)
    (output,) = done.outputs.model_outputs
    stored = client(folder).get_logged_model(output.model_id)
    artifacts = Path(stored.artifact_location.removeprefix("file://"))
    files = {path.name for path in artifacts.rglob("*")}
    assert "model.skops" in files
    assert not any(name.endswith((".pkl", ".pickle", ".joblib")) for name in files)
    signature = mlflow.models.Model.load(str(artifacts)).signature
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train")
    parts = instantiation.build(cfg)
    posed = task.make_task(parts["data"](), parts["target"], parts["split"], cfg.holdout)
    model = persistence.load(artifacts)
    answers = model.predict(posed.X_holdout)
    assert (answers == posed.y_holdout).mean() == done.data.metrics["holdout/accuracy"]
    assert signature.inputs.input_names() == list(posed.X)


def test_the_store_is_in_wal_mode(first: tuple[Path, str]) -> None:
    with closing(sqlite3.connect(first[0] / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_same_seed_gives_the_same_figures_with_other_threads(first: tuple[Path, str], tmp_path: Path) -> None:
    again = run(tmp_path, "train", "model=xgb", "n_jobs=2", OMP_NUM_THREADS="1")
    assert again.returncode == 0, again.stderr
    (done,) = runs(first[0])
    (other,) = runs(tmp_path)
    assert figures(other) == figures(done)


def test_a_model_no_better_than_the_majority_class_is_told_so(command: Command) -> None:
    done = command("train", "model=majority", "tracking=off")
    assert done.returncode == 0
    assert "does not beat the majority class" in done.stdout


def test_the_model_that_the_readme_adds_runs_and_is_stored(command: Command, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    name, content = re.search(r"`conf/model/(\w+).yaml`:\n\n```yaml\n(.*?)```", readme, re.DOTALL).groups()
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / f"conf/model/{name}.yaml").write_text(content)
    done = command("train", "--config-dir", "conf", f"model={name}")
    assert done.returncode == 0, done.stderr
    assert runs(tmp_path)[0].info.status == "FINISHED"


def test_hydras_own_sweeper_runs_a_plain_grid(command: Command) -> None:
    done = command("train", "-m", "hydra/sweeper=basic", "model=logreg", "model.C=0.1,1", "tracking=off")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("178 rows") == 2


def test_tracking_off_records_nothing(command: Command, tmp_path: Path) -> None:
    done = command("train", "model=majority", "tracking=off")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "mlflow.db").exists()
    assert "Recorded" not in done.stdout


def test_a_run_that_fails_is_closed_as_failed(command: Command, tmp_path: Path) -> None:
    done = command("train", "model.subsample=7")
    assert done.returncode == 1
    (failed,) = runs(tmp_path)
    assert failed.info.status == "FAILED"
    assert "subsample" in failed.data.tags["error"]
    assert "traceback.txt" in {artifact.path for artifact in client(tmp_path).list_artifacts(failed.info.run_id)}


def wait_for_a_run(database: Path, process: subprocess.Popen[str]) -> None:
    """Until a process has opened its run; read past MLflow, which would make the tables itself."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
                if connection.execute("SELECT count(*) FROM runs").fetchone() != (0,):
                    return
        except sqlite3.OperationalError:
            pass
        time.sleep(0.2)
    pytest.fail(f"no run was opened; the process says {process.poll()}")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_is_closed_as_killed(number: signal.Signals, code: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wineexp.train", "model=forest", "model.n_estimators=1000000"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_for_a_run(tmp_path / "mlflow.db", process)
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code
    assert "Traceback" not in errors
    (stopped,) = runs(tmp_path)
    assert stopped.info.status == "KILLED"


def opened(folder: Path) -> tracking_run.Run:
    """A run in a store of the folder's, with no files of its own."""
    (folder / "files").mkdir()
    return tracking_run.Run(f"sqlite:///{folder}/mlflow.db", experiment="e", name="n", tags={}, folder=folder / "files")


def stopped_while_storing_a_model(folder: Path) -> None:
    with opened(folder) as storing:
        mlflow.initialize_logged_model("model", source_run_id=storing.id)
        raise KeyboardInterrupt


def test_a_model_that_was_being_stored_is_not_left_pending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(KeyboardInterrupt):
        stopped_while_storing_a_model(tmp_path)
    (killed,) = runs(tmp_path)
    assert killed.info.status == "KILLED"
    (model,) = client(tmp_path).search_logged_models([killed.info.experiment_id])
    assert model.status == LoggedModelStatus.FAILED


def fails_in_its_own_words(folder: Path) -> None:
    with opened(folder):
        raise ValueError("count <= total_entries")


@pytest.mark.parametrize(("signals", "status"), [([signal.SIGINT], "KILLED"), ([], "FAILED")])
def test_a_stop_that_a_library_turned_into_a_failure_is_still_a_stop(
    signals: list[int], status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    # As XGBoost does where Ctrl-C meets it in a callback.
    monkeypatch.setattr(tracking_run, "received_signals", signals)
    with pytest.raises(ValueError, match="total_entries"):
        fails_in_its_own_words(tmp_path)
    (left,) = runs(tmp_path)
    assert left.info.status == status


def test_the_usual_store_lies_at_the_root_and_the_environments_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uri, "ROOT", tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    usual = composed().tracking.uri
    assert store.connect(usual) == f"sqlite:///{tmp_path}/mlflow.db"
    assert (tmp_path / "mlflow.db").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    assert store.connect(usual) == f"sqlite:///{tmp_path}/other.db"


def test_a_run_whose_files_cannot_be_stored_is_not_called_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def full(_: str) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(mlflow, "log_artifacts", full)
    with pytest.raises(OSError, match="no space"), opened(tmp_path):
        pass
    (failed,) = runs(tmp_path)
    assert failed.info.status == "FAILED"


def test_two_runs_at_once_on_a_new_store_are_both_recorded(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wineexp.train", "model=majority"]
    processes = [
        subprocess.Popen(command, cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    assert [done.info.status for done in runs(tmp_path)] == ["FINISHED", "FINISHED"]


@pytest.mark.usefixtures("wine_quality")
def test_wine_quality_says_how_many_rows_are_duplicates(command: Command, tmp_path: Path) -> None:
    done = command("train", "data=quality", "model=majority")
    assert done.returncode == 0, done.stderr
    assert "6497 rows, 1177 of them exact duplicates" in done.stdout
    (recorded,) = runs(tmp_path)
    assert recorded.data.tags["data.duplicate_rows"] == "1177"
    assert recorded.data.params["target"] == "grade"
    assert {
        "cv/quadratic_weighted_kappa",
        "cv/mean_absolute_error",
        "cv/accuracy_within_1",
    } <= recorded.data.metrics.keys()
    drawn = {Path(artifact.path).stem for artifact in client(tmp_path).list_artifacts(recorded.info.run_id, "figures")}
    assert drawn == FIGURES | {"grades"}


def test_a_plain_grid_is_hydras_own(tmp_path: Path) -> None:
    done = run(tmp_path, "train", "-m", "hydra/sweeper=basic", "model=majority", "seed=0,1")
    assert done.returncode == 0, done.stderr
    assert [each.info.status for each in runs(tmp_path)] == ["FINISHED", "FINISHED"]


def test_the_nearest_neighbours_of_the_readme_are_stored(tmp_path: Path) -> None:
    choice = tmp_path / "conf/model/knn.yaml"
    choice.parent.mkdir(parents=True)
    choice.write_text("_target_: sklearn.neighbors.KNeighborsClassifier\nn_neighbors: 15\nweights: distance\n")
    done = run(tmp_path, "train", "--config-dir", str(tmp_path / "conf"), "model=knn", "model.n_neighbors=5")
    assert done.returncode == 0, done.stderr
    (recorded,) = runs(tmp_path)
    assert recorded.info.status == "FINISHED"


@pytest.mark.journey
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("wine_quality")
def test_every_model_runs_on_wine_quality(tmp_path: Path) -> None:
    alike: dict[tuple[str, ...], list[str]] = {}
    for model in installed_models():
        alike.setdefault(tuple(f"{key}=choice(20)" for key in tree_count_keys(model)), []).append(model)
    # Many classes of which some are rare; and what else there is to load, and to predict.
    sweeps = [("red", "grade", models, fewer) for fewer, models in alike.items()]
    sweeps += [(*each, ["logreg", "xgb"], ()) for each in (("red", "tier"), ("white", "grade"), ("quality", "good"))]
    for data, target, models, fewer in sweeps:
        done = run(
            *(tmp_path, "train", "-m", "hydra/sweeper=basic", f"data={data}", f"target={target}"),
            *(f"model={','.join(models)}", *fewer, "split.n_splits=2", "n_jobs=2"),
            timeout=1800,
        )
        assert done.returncode == 0, done.stderr
    finished = runs(tmp_path)
    assert len(finished) == sum(len(models) for _, _, models, _ in sweeps)
    assert {each.info.status for each in finished} == {"FINISHED"}
    for each in finished:
        if each.data.params["model"] != "majority":
            assert each.data.metrics["cv/matthews_corrcoef"] > 0


@pytest.mark.journey
def test_mlflow_ui_without_arguments_shows_the_run(first: tuple[Path, str]) -> None:
    folder, _ = first
    with mlflow_server(folder, "ui") as address:
        (done,) = runs(folder)
        url = f"{address}/ajax-api/2.0/mlflow/runs/get?run_id={done.info.run_id}"
        with urllib.request.urlopen(url, timeout=30) as response:
            assert json.load(response)["run"]["info"]["run_name"] == "xgb scaled grouped"
        picture = f"{address}/get-artifact?path=figures/confusion.png&run_uuid={done.info.run_id}"
        with urllib.request.urlopen(picture, timeout=30) as response:
            assert response.read(4) == b"\x89PNG"
