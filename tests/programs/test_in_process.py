"""Programs called from Python: what they return is what the command line would show and record."""

import re
from pathlib import Path

import pytest
from mlflow import MlflowClient
from omegaconf import OmegaConf

from tests.conftest import Command, new_database
from wineexp import UserError, compare, compose, explore, load, promote, train
from wineexp.core.paths import CONF


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The setting of a store in a folder of the test's own, which is also the current folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return f"tracking.uri={new_database(tmp_path)}"


@pytest.mark.journey
def test_a_model_is_trained_compared_promoted_and_loaded(store: str) -> None:
    result = train(compose("model=logreg", store))
    assert result.scores["accuracy"][0] == pytest.approx(result.objective)
    assert len(result.folds) == 5
    assert list(result.pipeline.predict(result.task.X_holdout)) == [
        result.task.classes[code] for code in result.task.predict_holdout(result.pipeline).predicted
    ]
    assert (result.folder / "predictions.parquet").is_file()
    (ranking,) = compare(compose(store, program="compare")).rankings
    assert [record.id for record in ranking.records] == [result.run_id]
    cheap = ["repeats=1", "model@baseline=majority", "allow=[dirty]"]
    version = promote(compose(f"run={result.run_id}", store, *cheap, program="promote")).version
    loaded = load("champion", uri=store.removeprefix("tracking.uri="))
    assert version.number == 1
    assert loaded.predict_proba(result.task.X).tolist() == result.pipeline.predict_proba(result.task.X).tolist()


@pytest.mark.journey
def test_a_run_in_process_leaves_no_trace_in_the_next(store: str) -> None:
    page = explore(compose(store, program="explore")).page
    result = train(compose("model=majority", "tracking=off"))
    assert page.parent != result.folder
    assert result.run_id is None


@pytest.mark.usefixtures("store")
@pytest.mark.journey
def test_each_call_records_in_the_store_of_its_own_config(tmp_path: Path) -> None:
    uris = [f"sqlite:///{tmp_path}/{name}.db" for name in ("first", "second")]
    results = [train(compose("model=majority", f"tracking.uri={uri}")) for uri in uris]
    assert [result.tracking_uri for result in results] == uris
    for result, uri in zip(results, uris, strict=True):
        assert [run.info.run_id for run in MlflowClient(uri).search_runs(["1"])] == [result.run_id]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=lgreg"], "model=lgreg: no such choice; did you mean logreg?"),
        (["model.max_dept=3"], "model.max_dept: no such key; did you mean max_depth?"),
        (["split.n_splits=1"], "n_splits=1"),
    ],
)
def test_a_mistake_is_an_exception_with_the_command_lines_message(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        train(compose(*overrides, "tracking=off"))


def write_model(folder: Path, n_neighbors: int) -> None:
    (folder / "model").mkdir(parents=True)
    target = "_target_: sklearn.neighbors.KNeighborsClassifier"
    (folder / "model/knn.yaml").write_text(f"{target}\nn_neighbors: {n_neighbors}\n")


@pytest.mark.usefixtures("store")
def test_a_model_from_a_folder_of_ones_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    write_model(tmp_path / "conf", 3)
    write_model(tmp_path / "mine", 4)
    (tmp_path / "conf/model/xgb.yaml").touch()
    result = train(compose("model=knn", "tracking=off"))
    assert result.pipeline[-1].estimator.n_neighbors == 3
    assert caplog.messages[:2] == [
        "choices in the folder conf are used, too; --config-dir names another one",
        "not read, since wineexp has choices of the same name: conf/model/xgb.yaml; rename what is yours",
    ]
    caplog.clear()
    named = compose("model=knn", config_dir=tmp_path / "mine")
    assert named.model.n_neighbors == 4


@pytest.mark.journey
def test_a_folder_conf_is_found_by_commands_unless_another_is_named(command: Command, tmp_path: Path) -> None:
    write_model(tmp_path / "conf", 3)
    (tmp_path / "conf/search").mkdir()
    (tmp_path / "conf/search/knn.yaml").write_text("model.n_neighbors: choice(3, 7)\n")
    write_model(tmp_path / "mine", 4)
    sweep = ("-m", "model=knn", "split=stratified", "split.n_splits=2", "hydra.sweeper.n_trials=1", "tracking=off")
    swept = command("train", *sweep)
    assert swept.returncode == 0, swept.stderr
    assert swept.stdout.count("choices in the folder conf are used, too") == 1
    for options, n_neighbors in (((), 3), (("--config-dir", "mine"), 4), (("-cd=mine",), 4)):
        shown = command("train", *options, "model=knn", "--cfg", "job", "--package", "model")
        assert shown.stdout.splitlines()[2:] == [f"n_neighbors: {n_neighbors}"]
    # A server's standard output holds JSON alone.
    served = command("serve", "serve.port=-1")
    assert (served.returncode, served.stdout) == (1, "")
    assert served.stderr.startswith("choices in the folder conf are used, too")


def test_a_choice_that_is_hidden_by_one_of_the_same_name_is_refused(command: Command, tmp_path: Path) -> None:
    write_model(tmp_path / "mine", 4)
    (tmp_path / "mine/model/xgb.yaml").write_text("_target_: sklearn.dummy.DummyClassifier\n")
    refusal = f"model=xgb: {tmp_path}/mine/model/xgb.yaml is not read, since wineexp has a choice of this name"
    done = command("train", "--config-dir", f"{tmp_path}/mine", "model=xgb", "tracking=off")
    assert (done.returncode, done.stderr) == (1, f"error: {refusal}; rename the file\n")
    with pytest.raises(UserError, match=re.escape(refusal)):
        train(compose("model=xgb", "tracking=off", config_dir=tmp_path / "mine"))
    (tmp_path / "mine/model/xgb.yaml").write_bytes((CONF / "model/xgb.yaml").read_bytes())
    assert command("train", "--config-dir", "mine", "model=xgb", "model.max_dept=1").stderr.startswith(
        "error: model.max_dept"
    )


@pytest.mark.usefixtures("store")
def test_a_folder_conf_of_a_clone_or_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "conf/nginx").mkdir(parents=True)
    assert compose().hydra.searchpath == []
    (tmp_path / "conf/model").mkdir()
    (tmp_path / "conf/train.yaml").touch()
    assert compose().hydra.searchpath == []


def test_a_config_without_hydras_settings_is_refused() -> None:
    cfg = OmegaConf.masked_copy(compose("tracking=off"), ["data", "model"])
    with pytest.raises(UserError, match=r"make it with wineexp\.compose"):
        train(cfg)
