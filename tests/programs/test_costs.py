"""Decisions for the least expected cost, and the mean cost as the metric that decides between models."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.own_table import own_project
from wineexp import UserError, compose, evaluate, reproduce, train
from wineexp.models.compiled import compiled_model
from wineexp.models.compiled.file_format import pack
from wineexp.models.compiled.flatten import flatten
from wineexp.train import TrainResult
from wineexp.workflows.experiment import assemble

TARGET = (
    "{_target_: wineexp.data.target.Target, column: state, bins: null, labels: null, ordinal: false, metric: cost, "
    "direction: minimize, costs: {stays: {leaves: 5}, leaves: {stays: 60}}}"
)
SMALL = ["data=customers", "target=state", "feature=raw", "split.n_splits=3", "model=logreg"]


@pytest.fixture(scope="module")
def in_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Customers, of whom few leave."""
    rng = np.random.default_rng(0)
    calls = rng.normal(size=400).round(2)
    state = np.where(calls + rng.normal(0, 1, 400) > 1.5, "leaves", "stays")
    table = pd.DataFrame({"calls": calls, "state": state})
    data = "{_target_: wineexp.data.table, path: FOLDER/table.csv, targets: [state]}"
    choices = {"data/customers": data, "target/state": TARGET}
    with own_project(tmp_path_factory.mktemp("customers"), table, choices) as folder:
        yield folder


@pytest.fixture(scope="module")
def trained(in_folder: Path) -> TrainResult:
    return train(compose(*SMALL, config_dir=in_folder / "conf"))


def test_the_decision_is_that_of_the_least_expected_cost(trained: TrainResult) -> None:
    assert trained.task.classes.tolist() == ["leaves", "stays"]
    for fold in trained.folds:
        leaves = fold.predictions.probabilities[:, 0]
        # Expected are 60 p where the customer is said to stay, else 5 (1 - p).
        says_leaves = 60 * leaves > 5 * (1 - leaves)
        np.testing.assert_array_equal(fold.predictions.predicted == 0, says_leaves)
        of_rows = np.where(fold.predictions.y == 0, np.where(says_leaves, 0, 60), np.where(says_leaves, 5, 0))
        assert fold.scores["cost"] == pytest.approx(of_rows.mean())
        assert fold.scores["baseline_cost"] == pytest.approx(60 * (fold.predictions.y == 0).mean())
    assert trained.scores["cost"][0] < trained.scores["baseline_cost"][0]
    predicted = trained.pipeline.predict(pd.DataFrame({"calls": [-3.0, 1.0, 3.0]}))
    assert predicted.tolist() == ["stays", "leaves", "leaves"]


def test_a_compiled_model_decides_for_the_least_expected_cost(trained: TrainResult) -> None:
    compiled = compiled_model.load(pack(*flatten(trained.pipeline, trained.task.X)))
    probabilities = compiled.outputs(trained.task.X.to_numpy())
    decided = compiled.decide(probabilities)
    np.testing.assert_array_equal(trained.task.classes[decided], trained.pipeline.predict(trained.task.X))
    assert (decided != probabilities.argmax(axis=1)).any()


def test_the_cost_is_found_again(trained: TrainResult) -> None:
    table = trained.task.predictions_table(trained.folds, trained.task.predict_holdout(trained.pipeline))
    table.to_parquet("predictions.parquet")
    cfg = compose("target=state", "predictions=predictions.parquet", program="evaluate", config_dir="conf")
    again = evaluate(cfg).metrics
    assert again["cv"]["cost"] == pytest.approx(trained.scores["cost"][0])
    assert again["holdout"]["baseline_cost"] == pytest.approx(trained.holdout["baseline_cost"])
    assert reproduce(compose(f"run={trained.run_id}", program="reproduce")).n_differing == 0


@pytest.mark.journey
@pytest.mark.parametrize("model", ["decided", "selection", "stack"])
def test_models_that_learn_their_decisions_decide_by_the_costs(in_folder: Path, model: str) -> None:
    few = {"decided": ["model.estimator.n_estimators=5"], "selection": ["model.picks=2"], "stack": []}[model]
    trees = (
        [] if model == "decided" else ["model.members.extratrees.n_estimators=5", "model.members.xgb.n_estimators=5"]
    )
    experiment = assemble(compose(*SMALL[:-1], f"model={model}", *few, *trees, config_dir=in_folder / "conf"))
    fitted = experiment.fit()
    leaves = fitted.predict_proba(experiment.task.X)[:, 0]
    np.testing.assert_array_equal(fitted.predict(experiment.task.X) == "leaves", 60 * leaves > 5 * (1 - leaves))


@pytest.mark.parametrize(
    ("costs", "faults"),
    [
        ("null", ["target.metric=cost: target.costs must say what each decision costs"]),
        (
            "{stays: {leaves: -1}, goes: {stays: 2}}",
            [
                "target.costs: the target has no class goes; ",
                "target.costs.stays.leaves=-1: a number of at least 0 is wanted",
            ],
        ),
        ("{stays: 3, leaves: {stays: 1}}", ["target.costs.stays=3: what each", "target.costs: every wrong decision"]),
    ],
)
def test_costs_that_say_no_decision_are_refused(in_folder: Path, costs: str, faults: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        assemble(compose(*SMALL, f"++target.costs={costs}", "tracking=off", config_dir=in_folder / "conf"))
    assert [fault[: len(start)] for fault, start in zip(refused.value.faults, faults, strict=True)] == faults
