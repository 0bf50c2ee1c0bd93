"""`python -m wineexp.train`, from the command line to what MLflow shows of it."""

import json
import re
import shutil
import sqlite3
import urllib.request
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run
from omegaconf import OmegaConf
from threadpoolctl import threadpool_limits

from tests.conftest import (
    Command,
    composed,
    empty_store,
    environment,
    installed_models,
    mlflow_server,
    new_database,
    run,
    start_preloaded,
    tree_count_keys,
)
from wineexp import compose, train
from wineexp.core import config, instantiation
from wineexp.core.paths import ROOT
from wineexp.data import task
from wineexp.models import persistence
from wineexp.tracking import store, uri

FIGURES = {"confusion", "probabilities", "importance"}


@dataclass
class Training:
    """A training that ran as a command: its folder, what it printed, and its run in MLflow."""

    folder: Path
    output: str
    run: Run

    @property
    def client(self) -> mlflow.MlflowClient:
        return client(self.folder)

    def artifacts(self, path: str | None = None) -> set[str]:
        """The paths of the run's artifacts, in a folder or at the top."""
        return {artifact.path for artifact in self.client.list_artifacts(self.run.info.run_id, path)}


def client(folder: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")


def runs(folder: Path) -> list[Run]:
    """All runs of a folder's store, the latest first."""
    store = client(folder)
    return store.search_runs([experiment.experiment_id for experiment in store.search_experiments()])


def train_by_command(folder: Path, *overrides: str, afresh: bool = False) -> Training:
    """Run `python -m wineexp.train` with these overrides in a new folder."""
    done = run(folder, "train", *overrides, afresh=afresh)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (recorded,) = runs(folder)
    return Training(folder, done.stdout, recorded)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """What `python -m wineexp.train model=xgb` leaves, run afresh so that a warning at an import would be seen."""
    return train_by_command(tmp_path_factory.mktemp("trained"), "model=xgb", afresh=True)


def test_the_summary_says_how_good_the_model_is_and_where_to_look(trained: Training) -> None:
    metrics = trained.run.data.metrics
    assert f"{metrics['cv/accuracy']:.4f} ± {metrics['cv/accuracy_std']:.4f}" in trained.output
    assert f"{metrics['holdout/majority_accuracy']:.4f}" in trained.output
    assert f"Recorded as run {trained.run.info.run_id}" in trained.output
    page = f"#/experiments/{trained.run.info.experiment_id}/runs?workflowType=machine_learning"
    assert f"mlflow ui, then http://127.0.0.1:5000/{page}" in trained.output
    assert metrics["cv/accuracy"] > 0.95
    assert "does not beat" not in trained.output
    assert "learned nothing" not in trained.output + trained.run.data.tags["mlflow.note.content"]


def test_every_leaf_of_the_config_is_a_parameter_under_its_own_name(trained: Training) -> None:
    (written,) = trained.folder.glob("outputs/*/*/.hydra/config.yaml")
    leaves = config.flatten_config(OmegaConf.load(written))
    params = trained.run.data.params
    assert {name: str(value) for name, value in leaves.items()}.items() <= params.items()
    assert params["model.max_depth"] == "4"
    assert params["model"] == "xgb"
    assert trained.run.info.run_name == "xgb scaled grouped"
    assert trained.client.get_experiment(trained.run.info.experiment_id).name == "cultivar-cultivar"


def test_folds_means_and_spread_are_recorded(trained: Training) -> None:
    history = trained.client.get_metric_history(trained.run.info.run_id, "fold/accuracy")
    folds = pd.Series([step.value for step in history])
    metrics = trained.run.data.metrics
    assert len(folds) == 5
    assert metrics["cv/accuracy"] == folds.mean()
    assert metrics["cv/accuracy_std"] == folds.std()
    assert metrics["cv/standard_error"] == pytest.approx(folds.std() / 5**0.5)
    assert f"accuracy: {folds.mean():.4f} on average over 5 folds, standard error {folds.sem():.4f}." in trained.output
    names = {"accuracy", "balanced_accuracy", "matthews_corrcoef", "f1_macro", "log_loss", "majority_accuracy"}
    assert {f"{kind}/{name}" for kind in ("fold", "cv", "holdout") for name in names} <= metrics.keys()


def test_the_data_are_recorded_with_their_md5(trained: Training) -> None:
    (data,) = trained.run.inputs.dataset_inputs
    assert data.dataset.digest == "3e584720e6718d28509f86f05b7885a1"
    assert trained.run.data.tags["data.md5"] == data.dataset.digest
    assert trained.run.data.tags["data.duplicate_rows"] == "0"


def test_config_log_and_figures_are_artifacts(trained: Training) -> None:
    assert {".hydra", "train.log", "figures"} <= trained.artifacts()
    assert {Path(path).stem for path in trained.artifacts("figures")} == FIGURES


def test_a_run_logs_the_files_that_it_wrote_and_no_others(tmp_path: Path) -> None:
    # The output folder is the current one, with a secret, a file of an earlier run and one that has a usual name.
    others = {".env": "PASSWORD=1", "coverage.csv": "1", "config.yaml": "mine: true", "train.log": "an earlier log"}
    for name, content in others.items():
        (tmp_path / name).write_text(content)
    trained = train_by_command(tmp_path, "model=logreg", "hydra.run.dir=.")
    own = {"config.yaml", "importance.csv", "predictions.parquet", "train.log", ".hydra", "figures"}
    assert trained.artifacts() - {"git.diff"} == own
    assert trained.artifacts(".hydra") == {f".hydra/{name}.yaml" for name in ("config", "hydra", "overrides")}
    stored = Path(trained.run.info.artifact_uri.removeprefix("file://"))
    assert "fold 5/5" in (stored / "train.log").read_text()
    assert "an earlier log" not in (stored / "train.log").read_text()
    assert (tmp_path / "config.yaml").read_text() == "mine: true"


def test_a_run_in_process_logs_neither_the_records_nor_the_log_of_an_earlier_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    new_database(tmp_path)
    (tmp_path / ".hydra").mkdir()
    for name in (".hydra/config.yaml", "train.log"):
        (tmp_path / name).write_text("of another run")
    uri = f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"
    run_id = train(compose("model=majority", uri, "hydra.run.dir=.")).run_id
    artifacts = {file.path for file in client(tmp_path).list_artifacts(run_id)}
    assert artifacts - {"git.diff"} == {"config.yaml", "importance.csv", "predictions.parquet", "figures"}


def test_the_model_is_stored_without_pickle_and_predicts_as_it_was_scored(trained: Training) -> None:
    (output,) = trained.run.outputs.model_outputs
    stored = trained.client.get_logged_model(output.model_id)
    artifacts = Path(stored.artifact_location.removeprefix("file://"))
    files = {path.name for path in artifacts.rglob("*")}
    assert "model.skops" in files
    assert not any(name.endswith((".pkl", ".pickle", ".joblib")) for name in files)
    signature = mlflow.models.Model.load(str(artifacts)).signature
    cfg = composed()
    parts = instantiation.build(cfg)
    wine = task.make_task(parts["data"](), parts["target"], parts["split"], cfg.holdout)
    predicted = persistence.load(artifacts).predict(wine.X_holdout)
    assert (predicted == wine.y_holdout).mean() == trained.run.data.metrics["holdout/accuracy"]
    assert signature.inputs.input_names() == list(wine.X)


def test_the_store_is_in_wal_mode(trained: Training) -> None:
    with closing(sqlite3.connect(trained.folder / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_same_seed_gives_the_same_scores_with_other_threads(
    trained: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert trained.run.data.params["n_jobs"] != "2"
    with threadpool_limits(1):
        again = train(compose("model=xgb", "n_jobs=2", "tracking=off"))
    scores = {f"cv/{name}": mean for name, (mean, _) in again.scores.items()}
    scores |= {f"cv/{name}_std": deviation for name, (_, deviation) in again.scores.items()}
    scores |= {f"holdout/{name}": score for name, score in again.holdout.items()}
    assert len(scores) >= 18
    assert scores.items() <= trained.run.data.metrics.items()


def test_without_tracking_nothing_is_recorded_and_a_model_no_better_than_the_majority_is_noted(
    command: Command, tmp_path: Path
) -> None:
    done = command("train", "model=majority", "tracking=off")
    assert done.returncode == 0, done.stderr
    assert "does not beat the majority class" in done.stdout
    assert "learned nothing from the features" in done.stdout
    assert "Recorded" not in done.stdout
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.journey
def test_the_model_that_the_documentation_adds_is_trained_and_stored(tmp_path: Path) -> None:
    texts = [path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))]
    example = re.compile(r"`conf/model/(\w+).yaml`:\n\n```yaml\n(.*?)```", re.DOTALL)
    name, content = next(match.groups() for match in map(example.search, texts) if match)
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / f"conf/model/{name}.yaml").write_text(content)
    added = train_by_command(tmp_path, f"model={name}")
    assert added.run.info.status == "FINISHED"
    assert len(added.run.outputs.model_outputs) == 1


def test_nearest_neighbours_whose_tree_is_no_plain_array_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    new_database(tmp_path)
    choice = tmp_path / "conf/model/knn.yaml"
    choice.parent.mkdir(parents=True)
    choice.write_text("_target_: sklearn.neighbors.KNeighborsClassifier\nn_neighbors: 15\nweights: distance\n")
    uri = f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"
    train(compose("model=knn", "model.n_neighbors=5", uri, config_dir=tmp_path / "conf"))
    (recorded,) = runs(tmp_path)
    assert recorded.info.status == "FINISHED"
    assert len(recorded.outputs.model_outputs) == 1


@pytest.mark.journey
def test_hydras_own_sweeper_records_each_point_of_a_grid(command: Command, tmp_path: Path) -> None:
    done = command("train", "-m", "hydra/sweeper=basic", "model=majority", "seed=0,1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("178 rows") == 2
    assert [(recorded.data.params["seed"], recorded.info.status) for recorded in runs(tmp_path)] == [
        ("1", "FINISHED"),
        ("0", "FINISHED"),
    ]


def test_the_default_store_is_at_the_root_and_the_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uri, "ROOT", tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    default = composed().tracking.uri
    assert store.connect(default) == f"sqlite:///{tmp_path}/mlflow.db"
    assert (tmp_path / "mlflow.db").exists()
    shutil.copy(empty_store(), tmp_path / "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    assert store.connect(default) == f"sqlite:///{tmp_path}/other.db"


@pytest.mark.journey
def test_two_runs_at_the_same_time_on_a_new_store_are_both_recorded(tmp_path: Path) -> None:
    arguments = ["-m", "wineexp.train", "model=majority"]
    processes = [start_preloaded(arguments, tmp_path, environment(tmp_path)) for _ in range(2)]
    for process in processes:
        done = process.wait(200)
        assert done.returncode == 0, done.stderr
    assert [recorded.info.status for recorded in runs(tmp_path)] == ["FINISHED", "FINISHED"]


@pytest.mark.journey
@pytest.mark.usefixtures("wine_quality")
def test_wine_quality_says_how_many_rows_are_duplicates(tmp_path: Path) -> None:
    quality = train_by_command(tmp_path, "data=quality", "model=majority")
    assert "6497 rows, 1177 of them exact duplicates" in quality.output
    assert quality.run.data.tags["data.duplicate_rows"] == "1177"
    assert quality.run.data.params["target"] == "grade"
    metrics = {"cv/quadratic_weighted_kappa", "cv/mean_absolute_error", "cv/accuracy_within_1"}
    assert metrics <= quality.run.data.metrics.keys()
    assert {Path(path).stem for path in quality.artifacts("figures")} == FIGURES | {"grades"}


@pytest.mark.journey
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("wine_quality")
def test_every_model_runs_on_wine_quality(tmp_path: Path) -> None:
    # A sweep has one set of overrides: models whose trees are counted by the same keys share one.
    models_by_overrides: dict[tuple[str, ...], list[str]] = {}
    for model in installed_models():
        keys = ["model.max_iter"] if model == "histgb" else tree_count_keys(model)
        models_by_overrides.setdefault(tuple(f"{key}=choice(20)" for key in keys), []).append(model)
    # Many classes, some of which are rare, for all models; the other data and targets for two.
    sweeps = [("red", "grade", models, fewer_trees) for fewer_trees, models in models_by_overrides.items()]
    others = (("red", "tier"), ("white", "grade"), ("quality", "good"))
    sweeps += [(data, target, ["logreg", "xgb"], ()) for data, target in others]
    for data, target, models, fewer_trees in sweeps:
        done = run(
            *(tmp_path, "train", "-m", "hydra/sweeper=basic", f"data={data}", f"target={target}"),
            *(f"model={','.join(models)}", *fewer_trees, "split.n_splits=2", "holdout.size=0.5"),
            timeout=1800,
        )
        assert done.returncode == 0, done.stderr
    finished = runs(tmp_path)
    assert len(finished) == sum(len(models) for _, _, models, _ in sweeps)
    assert {recorded.info.status for recorded in finished} == {"FINISHED"}
    for recorded in finished:
        if recorded.data.params["model"] != "majority":
            assert recorded.data.metrics["cv/matthews_corrcoef"] > 0


@pytest.mark.journey
def test_mlflow_ui_without_arguments_shows_the_run(trained: Training) -> None:
    run_id = trained.run.info.run_id
    with mlflow_server(trained.folder, "ui") as address:
        with urllib.request.urlopen(f"{address}/ajax-api/2.0/mlflow/runs/get?run_id={run_id}", timeout=30) as response:
            assert json.load(response)["run"]["info"]["run_name"] == "xgb scaled grouped"
        picture = f"{address}/get-artifact?path=figures/confusion.png&run_uuid={run_id}"
        with urllib.request.urlopen(picture, timeout=30) as response:
            assert response.read(4) == b"\x89PNG"
