"""Programs called from Python: what they return is what the command line would show and record."""

from pathlib import Path

import pytest
from mlflow import MlflowClient
from omegaconf import OmegaConf

from wineexp import UserError, compare, compose, explore, load, promote, train


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The setting of a store in a folder of the test's own, which is also the current folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"


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


@pytest.mark.usefixtures("store")
def test_a_model_from_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/knn.yaml").write_text("_target_: sklearn.neighbors.KNeighborsClassifier\nn_neighbors: 3\n")
    result = train(compose("model=knn", "tracking=off", config_dir=tmp_path / "conf"))
    assert result.pipeline[-1].estimator.n_neighbors == 3


def test_a_config_without_hydras_settings_is_refused() -> None:
    cfg = OmegaConf.masked_copy(compose("tracking=off"), ["data", "model"])
    with pytest.raises(UserError, match=r"make it with wineexp\.compose"):
        train(cfg)
