"""Metrics of the user's own, and those of intervals, as what decides between models."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.metrics import log_loss

from tests.own_table import own_project
from wineexp import UserError, compose, evaluate, promote, train
from wineexp.core.instantiation import build
from wineexp.evaluation.predictions import NumberPredictions
from wineexp.serving.model.metadata import describe_version
from wineexp.tracking.registry import Registry
from wineexp.train import TrainResult
from wineexp.workflows.experiment import assemble, config_faults

MODULE = """
import numpy as np
from sklearn.metrics import log_loss

def caught(y_true, y_pred, sample_weight=None):
    return np.average((y_true == "leaves") == (y_pred == "leaves"), weights=sample_weight)

def surprise(y_true, y_score):
    return log_loss(y_true, np.c_[1 - y_score, y_score])

def worst(y_true, y_pred):
    return np.abs(y_true - y_pred).max()

def without_arguments():
    return 1

def broken(y_true, y_pred):
    raise KeyError("no such thing")
"""
TARGET = "{_target_: wineexp.data.target.Target, column: state, bins: null, labels: null, ordinal: false, metric: %s}"
SMALL = ["data=customers", "feature=raw", "split.n_splits=3"]


@pytest.fixture(scope="module")
def in_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Customers, of whom few leave, and targets whose metrics are functions of a module beside the data."""
    rng = np.random.default_rng(0)
    calls = rng.normal(size=200).round(2)
    state = np.where(calls + rng.normal(0, 1, 200) > 1, "leaves", "stays")
    table = pd.DataFrame({"calls": calls, "spent": (3 * calls + rng.normal(size=200)).round(2), "state": state})
    number = "{_target_: wineexp.data.target.Target, column: spent, kind: regression, bins: null, labels: null, "
    choices = {
        "data/customers": "{_target_: wineexp.data.table, path: FOLDER/table.csv, targets: [state, spent]}",
        "target/caught": TARGET % "own_scores.caught",
        "target/surprise": TARGET % "own_scores.surprise, direction: minimize, metric_needs: probabilities",
        "target/worst": f"{number} ordinal: false, metric: own_scores.worst, direction: minimize}}",
        "target/crps": f"{number} ordinal: false, metric: crps, direction: minimize}}",
    }
    with (
        own_project(tmp_path_factory.mktemp("customers"), table, choices) as folder,
        pytest.MonkeyPatch.context() as monkeypatch,
    ):
        (folder / "own_scores.py").write_text(MODULE)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setenv("PYTHONPATH", str(folder))
        yield folder
    sys.modules.pop("own_scores", None)


@pytest.fixture(scope="module")
def trained(in_folder: Path) -> TrainResult:  # noqa: ARG001
    return train(compose("target=surprise", "model=logreg", *SMALL, config_dir="conf"))


def test_probabilities_and_labels_are_given_to_it_as_scikit_learn_does(trained: TrainResult) -> None:
    task = trained.task
    for fold in trained.folds:
        truth = task.y.iloc[fold.test]
        assert fold.scores["own_scores.surprise"] == pytest.approx(log_loss(truth, fold.predictions.probabilities))
    # What shuffling the only column costs is positive: less is better.
    drops = pd.read_csv(trained.folder / "importance.csv", index_col="feature")
    assert drops.loc["calls"].mean() > 0
    tags = MlflowClient().get_run(trained.run_id).data.tags
    assert tags["deciding_metric"] == "own_scores.surprise"
    assert "module.own_scores" in tags


def test_it_is_found_again_from_the_predictions(trained: TrainResult) -> None:
    overrides = [f"predictions={trained.folder}/predictions.parquet", "target=surprise"]
    result = evaluate(compose(*overrides, program="evaluate", config_dir="conf"))
    assert result.metrics["cv"]["own_scores.surprise"] == pytest.approx(trained.scores["own_scores.surprise"][0])


@pytest.mark.usefixtures("in_folder")
def test_greater_is_better_unless_the_yaml_says_otherwise() -> None:
    result = train(compose("target=caught", "model=majority", "tracking=off", *SMALL, config_dir="conf"))
    assert result.scores["own_scores.caught"] == result.scores["accuracy"]


@pytest.mark.usefixtures("in_folder")
def test_metrics_of_numbers_decide_too() -> None:
    for target, name in (("worst", "own_scores.worst"), ("crps", "crps")):
        experiment = assemble(compose(f"target={target}", "model=ridge", "tracking=off", *SMALL, config_dir="conf"))
        for fold in experiment.cross_validate():
            predictions = fold.predictions
            assert isinstance(predictions, NumberPredictions)
            expected = predictions.errors.max() if target == "worst" else predictions.crps.mean()
            assert fold.scores[name] == pytest.approx(expected)
            assert ("baseline_own_scores.worst" in fold.scores) == (target == "worst")


@pytest.mark.usefixtures("in_folder")
@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("own_scores.missing", "target.metric=own_scores.missing: "),
        ("no_module.score", "target.metric=no_module.score: there is no package no_module here"),
        (
            "own_scores.without_arguments",
            "target.metric=own_scores.without_arguments: a callable score(",
        ),
        (
            "own_scores.broken",
            "target.metric=own_scores.broken: it gave no number for ",
        ),
    ],
)
def test_what_cannot_decide_is_refused_before_training(said: str, fault: str) -> None:
    cfg = compose("target=caught", "model=logreg", f"target.metric={said}", "tracking=off", *SMALL, config_dir="conf")
    with pytest.raises(UserError) as refused:
        assemble(cfg)
    assert refused.value.faults[0].startswith(fault)
    if "broken" not in said:
        assert config_faults(cfg)[0].startswith(fault), "a sweep says it before its first trial"


@pytest.mark.usefixtures("in_folder")
def test_a_model_that_would_optimize_it_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.metric=own_scores\.caught: .* no model optimizes its decisions"):
        assemble(compose("target=caught", "model=decided", "tracking=off", *SMALL, config_dir="conf"))
    target = build(compose("target=caught", "+target.metric_needs=numbers", *SMALL, config_dir="conf"))["target"]
    assert target.metric_faults()[0].startswith("target.metric_needs=numbers: ")


@pytest.mark.journey
def test_a_better_run_by_it_replaces_a_champion_and_its_server_does_not_import_it(
    trained: TrainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse = train(compose("target=surprise", "model=majority", *SMALL, config_dir="conf"))
    overrides = ["registry.name=customers", "allow=[dirty]", "repeats=2", "model@baseline=majority"]
    overrides += ["gate.floors.matthews_corrcoef=null", "gate.calibration_margin=1"]
    for run_id in (worse.run_id, trained.run_id):
        result = promote(compose(f"run={run_id}", *overrides, program="promote", config_dir="conf"))
    registry = Registry(str(trained.tracking_uri), "customers")
    monkeypatch.setitem(sys.modules, "own_scores", None)
    low = describe_version(registry, result.version).metrics["cv/own_scores.surprise_low"]
    assert low < trained.scores["own_scores.surprise"][0]
