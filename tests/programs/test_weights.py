"""Weights of rows through all programs that take them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge

from tests.own_table import own_project
from wineexp import UserError, compose, evaluate, promote, reproduce, train
from wineexp.core.config import GROUPS
from wineexp.data.split import CopiesTogetherKFold
from wineexp.models.conformal import ConformalClassifier
from wineexp.models.decision import LossClassifier, MetricClassifier
from wineexp.models.ensemble import SelectionClassifier, StackClassifier
from wineexp.models.ordinal import CumulativeClassifier, ThresholdClassifier
from wineexp.reports import document
from wineexp.reports.card.card import card
from wineexp.reports.card.inputs import CardInputs
from wineexp.tracking.names import MODEL_FORM
from wineexp.train import TrainResult

SMALL = ["data=answers", "target=choice", "feature=raw", "split.n_splits=3"]
TABLE = "{_target_: wineexp.data.table, path: FOLDER/table.csv, targets: [choice, score], weight: persons}"
CHOICE = (
    "{_target_: wineexp.data.target.Target, column: choice, bins: null, labels: null, ordinal: false, "
    "metric: accuracy, direction: maximize}"
)
SCORE = (
    "{_target_: wineexp.data.target.Target, column: score, kind: regression, bins: null, labels: null, "
    "ordinal: false, transform: null, metric: root_mean_squared_error, direction: minimize}"
)


@pytest.fixture(scope="module")
def in_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Answers of a survey, each of which stands for some persons; where it is cold these choose otherwise."""
    rng = np.random.default_rng(0)
    age, cold = rng.uniform(18, 90, 240), rng.random(240) < 0.5
    choice = np.where((age + rng.normal(0, 15, 240) > 54) ^ cold, "tea", "water")
    table = pd.DataFrame(
        {
            "age": age.round(1),
            "choice": choice,
            "score": (age / 10 + 5 * cold).round(2),
            "persons": np.where(cold, rng.integers(5, 9, 240), rng.integers(0, 3, 240)),
        }
    )
    choices = {"data/answers": TABLE, "target/choice": CHOICE, "target/points": SCORE}
    with own_project(tmp_path_factory.mktemp("survey"), table, choices) as folder:
        yield folder


def train_on_answers(folder: Path, *overrides: str) -> TrainResult:
    return train(compose(*SMALL, *overrides, config_dir=folder / "conf"))


@pytest.fixture(scope="module")
def trained(in_folder: Path) -> TrainResult:
    return train_on_answers(in_folder, "model=logreg")


def test_models_metrics_and_baselines_are_weighted(trained: TrainResult, in_folder: Path) -> None:
    task = trained.task
    weights = pd.read_csv(in_folder / "table.csv")["persons"].to_numpy(dtype=float)[task.rows]
    assert list(task.X) == ["age"]
    for fold in trained.folds:
        training, test = task.folds[fold.number]
        X, y = task.X.iloc[training].to_numpy(), task.encoded(task.y)
        fitted = LogisticRegression(max_iter=5000).fit(X, y[training], weights[training])
        probabilities = fitted.predict_proba(task.X.iloc[test].to_numpy())
        assert fold.predictions.probabilities == pytest.approx(probabilities, abs=1e-6)
        is_right = probabilities.argmax(axis=1) == y[test]
        assert fold.scores["accuracy"] == pytest.approx(np.average(is_right, weights=weights[test]))
        majority = np.bincount(y[training], weights[training]).argmax()
        of_majority = np.average(y[test] == majority, weights=weights[test])
        assert fold.scores["majority_accuracy"] == pytest.approx(of_majority)
    unweighted = train_on_answers(in_folder, "model=logreg", "data.weight=null", "+data.drop=[persons]", "tracking=off")
    assert trained.scores["accuracy"][0] > unweighted.scores["accuracy"][0] + 0.1


def test_a_number_is_learned_with_weights(in_folder: Path) -> None:
    result = train_on_answers(in_folder, "target=points", "model=ridge", "target.transform=log1p", "tracking=off")
    task = result.task
    assert task.weights is not None
    training, test = task.folds[0]
    X, y = task.X.to_numpy(), task.y.to_numpy()
    fitted = Ridge().fit(X[training], np.log1p(y[training]), task.weights[training])
    predicted = np.expm1(fitted.predict(X[test]))
    assert result.folds[0].predictions.predicted == pytest.approx(predicted)
    squared = np.average((y[test] - predicted) ** 2, weights=task.weights[test])
    assert result.folds[0].scores["root_mean_squared_error"] == pytest.approx(np.sqrt(squared))


def test_weights_are_recorded_and_found_again(trained: TrainResult, in_folder: Path) -> None:
    assert "Each row counts as often as persons says." in trained.task.describe()
    run = MlflowClient(f"sqlite:///{in_folder}/mlflow.db").get_run(trained.run_id)
    assert run.data.tags["data.weight"] == "persons"
    assert "weighted by `persons`" in run.data.tags["mlflow.note.content"]
    table = trained.task.predictions_table(trained.folds, trained.task.predict_holdout(trained.pipeline))
    table.to_parquet("predictions.parquet")
    cfg = compose("target=choice", "predictions=predictions.parquet", program="evaluate", config_dir="conf")
    again = evaluate(cfg).metrics
    assert again["cv"]["accuracy"] == pytest.approx(trained.scores["accuracy"][0])
    assert again["holdout"]["majority_accuracy"] == pytest.approx(trained.holdout["majority_accuracy"])
    assert reproduce(compose(f"run={trained.run_id}", program="reproduce")).n_differing == 0


def test_the_card_says_that_rows_are_weighted(trained: TrainResult) -> None:
    params = dict.fromkeys((*GROUPS, "seed"), "own")
    inputs = CardInputs(trained.task, trained.folds, None, None, params, trained.task.tags(), None)
    text = document.markdown(card(inputs))
    assert "Each row counts as often as its persons says, in fitting and in every metric" in text


@pytest.mark.journey
def test_a_model_with_weights_and_costs_is_promoted(in_folder: Path) -> None:
    costs = ["target.metric=cost", "target.direction=minimize", "++target.costs={tea: {water: 1}, water: {tea: 2}}"]
    trained = train_on_answers(in_folder, "model=logreg", *costs)
    overrides = ["registry.name=answers", "allow=[dirty]", "repeats=1", "model@baseline=majority"]
    cfg = compose(f"run={trained.run_id}", *overrides, program="promote", config_dir="conf")
    version = promote(cfg).version
    assert version is not None
    assert version.tags[MODEL_FORM] == "compiled"


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["model=neighbours"], ["model: a KNeighborsClassifier"]),
        (
            ["model=stack", "+model@model.members.near=neighbours"],
            ["model.members.near: a KNeighborsClassifier"],
        ),
    ],
)
def test_a_model_that_takes_no_weights_is_refused_by_name(
    in_folder: Path, overrides: list[str], names: list[str]
) -> None:
    with pytest.raises(UserError) as refused:
        train_on_answers(in_folder, *overrides, "tracking=off")
    assert [fault.partition(" takes no weights")[0] for fault in refused.value.faults] == names


CV = CopiesTogetherKFold(3, 0)
OWN_MODELS = {
    "conformal": ConformalClassifier(LogisticRegression(), 0.9, CV),
    "loss": LossClassifier(LogisticRegression(), "absolute"),
    "metric": MetricClassifier(LogisticRegression(), "f1_macro", CV),
    "cumulative": CumulativeClassifier(LogisticRegression()),
    "thresholds": ThresholdClassifier(Ridge(), CV),
    "selection": SelectionClassifier({"one": LogisticRegression()}, "log_loss", 2, "f1_macro", True, CV),
    "stack": StackClassifier({"one": LogisticRegression()}, LogisticRegression(), CV),
}


@pytest.mark.parametrize("kind", OWN_MODELS)
def test_rows_without_weight_teach_a_model_nothing(kind: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 1))
    y = np.searchsorted([-0.5, 0.5], X[:, 0])
    is_wrong = rng.random(120) < 0.5
    labels = np.where(is_wrong, 2 - y, y)
    model = OWN_MODELS[kind]
    weighted = clone(model).fit(X, labels, sample_weight=np.where(is_wrong, 0.0, 1.0))
    assert (weighted.predict(X) == y).mean() > 0.9
    assert (clone(model).fit(X, labels).predict(X) == y).mean() < 0.8
