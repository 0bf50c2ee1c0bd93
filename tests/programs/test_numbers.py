"""A target of numbers through all programs that take one."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import Ridge

from tests.conftest import choices, composed, new_database
from tests.houses import CONFIGS, write_houses
from wineexp import UserError, compare, compose, evaluate, explore, reproduce, train
from wineexp.core.paths import CONF
from wineexp.evaluation.baseline import BASELINE
from wineexp.evaluation.metrics import metrics_for, score
from wineexp.evaluation.predictions import NumberPredictions
from wineexp.models.regression import TransformingRegressor
from wineexp.train import TrainResult
from wineexp.workflows.experiment import config_faults

SMALL = ["data=houses", "target=price", "split.n_splits=3"]
FEW_TREES = [f"model.members.{key}=5" for key in ("extratrees.n_estimators", "xgb.n_estimators", "histgb.max_iter")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("houses")
    write_houses(folder)
    return folder


@pytest.fixture(scope="module")
def in_folder(folder: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", new_database(folder))
        yield folder


def train_on_houses(folder: Path, *overrides: str) -> TrainResult:
    return train(compose(*SMALL, *overrides, config_dir=folder / CONFIGS))


@pytest.fixture(scope="module")
def trained(in_folder: Path) -> TrainResult:
    return train_on_houses(in_folder, "model=ridge")


def test_metrics_by_hand() -> None:
    predictions = NumberPredictions(np.array([1.0, 2.0, 3.0, 6.0]), np.array([1.0, 3.0, 2.0, 4.0]))
    assert score(predictions, metrics_for(0, ordinal=False)) == pytest.approx(
        {
            "mean_absolute_error": (0 + 1 + 1 + 2) / 4,
            "root_mean_squared_error": np.sqrt((0 + 1 + 1 + 4) / 4),
            "median_absolute_error": 1,
            # The squared distances from the mean, 3, are 4, 1, 0 and 9.
            "r2": 1 - 6 / 14,
            # The second and the third rank are exchanged: 1 - 6 (1 + 1) / (4 (16 - 1)).
            "spearman": 1 - 12 / 60,
        }
    )
    constant = NumberPredictions(np.array([1.0, 2.0]), np.array([1.5, 1.5]))
    assert np.isnan(score(constant, ["spearman"])["spearman"])


def test_a_run_is_scored_beside_the_mean_of_its_training_rows(trained: TrainResult) -> None:
    task = trained.task
    assert trained.metric == "root_mean_squared_error"
    for fold in trained.folds:
        training, test = task.folds[fold.number]
        of_mean = task.y.iloc[test] - task.y.iloc[training].mean()
        assert fold.scores[f"{BASELINE}root_mean_squared_error"] == pytest.approx(np.sqrt((of_mean**2).mean()))
        assert fold.scores["root_mean_squared_error"] < 0.6 * fold.scores[f"{BASELINE}root_mean_squared_error"]
        assert fold.scores["crps"] < 0.6 * fold.scores[f"{BASELINE}crps"]
        assert fold.scores["pinball"] < 0.6 * fold.scores[f"{BASELINE}pinball"]
    assert set(trained.holdout) == set(trained.scores)
    # By bins of the price, so that each fold has cheap and dear houses.
    medians = [task.y.iloc[test].median() for _, test in task.folds]
    assert max(medians) < 1.3 * min(medians)


@pytest.mark.parametrize(
    "model", [name for name in choices("model") if "${by_kind:Classifier" in (CONF / f"model/{name}.yaml").read_text()]
)
def test_one_file_is_a_model_of_classes_and_of_numbers(model: str) -> None:
    targets = [composed(f"model={model}", f"target={target}").model._target_ for target in ("grade", "score")]
    assert targets[0].endswith("Classifier")
    assert targets[0].replace("Classifier", "Regressor") == targets[1]


@pytest.mark.parametrize(
    ("model", "overrides"),
    [
        ("trees_and_kernel_ridge", []),
        ("stack_of_numbers", FEW_TREES),
        pytest.param("selection_of_numbers", FEW_TREES, marks=pytest.mark.journey),
    ],
)
def test_an_ensemble_is_trained_and_stored(
    model: str, overrides: list[str], in_folder: Path, trained: TrainResult
) -> None:
    result = train_on_houses(in_folder, f"model={model}", *overrides)
    metric = "root_mean_squared_error"
    assert result.run_id is not None
    assert result.scores[metric][0] < trained.scores[metric][0]


def test_support_vectors_learn_a_scaled_target(in_folder: Path, trained: TrainResult) -> None:
    # Prices in thousands, of which C=1 alone would learn nothing.
    result = train_on_houses(in_folder, "model=svr")
    metric = "root_mean_squared_error"
    assert result.run_id is not None
    assert result.scores[metric][0] < trained.scores[f"{BASELINE}{metric}"][0] * 0.6


@pytest.mark.journey
def test_a_transform_is_undone_before_scoring(in_folder: Path, trained: TrainResult) -> None:
    logarithm = train_on_houses(in_folder, "model=ridge", "target.transform=log1p")
    # Area and district multiply, so that the logarithm of the price is nearer to a sum.
    assert logarithm.scores["median_absolute_error"][0] < trained.scores["median_absolute_error"][0]
    quantile = train_on_houses(in_folder, "model=ridge", "target.transform=quantile", "tracking=off")
    assert quantile.folds[0].predictions.predicted.max() <= quantile.task.y.max()
    (ranking,) = compare(compose(program="compare")).rankings
    assert {record.params["target.transform"] for record in ranking.records} == {"None", "log1p"}


def test_a_regressor_may_learn_something_else_than_y() -> None:
    X, y = np.arange(20.0)[:, None], np.expm1(np.arange(20.0) / 5)
    assert TransformingRegressor(Ridge(1e-9), "log1p").fit(X, y).predict(X) == pytest.approx(y, abs=1e-9)
    # More rows than scikit-learn looks at by default, of which it would draw others each time.
    many = np.random.default_rng(0).normal(size=(11_000, 1))
    first, second = (TransformingRegressor(Ridge(), "quantile").fit(many, many[:, 0]).predict(many) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    with pytest.raises(ValueError, match="transform must be log1p, quantile or None, but got sqrt"):
        TransformingRegressor(Ridge(), "sqrt").fit(X, y)


def test_columns_are_named_in_a_models_arguments(in_folder: Path) -> None:
    falling = train_on_houses(
        in_folder, "model=histgb", "+model.monotonic_cst={area:-1}", "feature=raw", "tracking=off", "model.max_iter=20"
    )
    house = falling.task.X.iloc[[0]]
    predicted = falling.pipeline.predict(pd.concat([house.assign(area=area) for area in (40, 100, 180)]))
    assert (np.diff(predicted) <= 0).all()


def test_its_predictions_are_recorded_and_scored_again(trained: TrainResult) -> None:
    table = pd.read_parquet(trained.folder / "predictions.parquet")
    assert list(table) == ["fold", "row", "true", "predicted", "baseline", "low", "high", "crps"]
    result = evaluate(compose(f"predictions={trained.folder}/predictions.parquet", "target=score", program="evaluate"))
    assert {name: value for name, value in result.metrics["cv"].items() if not name.endswith("_std")} == {
        name: pytest.approx(mean) for name, (mean, _) in trained.scores.items()
    }


def test_it_reproduces_bit_for_bit(trained: TrainResult) -> None:
    assert reproduce(compose(f"run={trained.run_id}", program="reproduce")).n_differing == 0


def test_the_data_are_explored(in_folder: Path) -> None:
    cfg = compose("data=houses", "target=price", "tracking=off", program="explore", config_dir=in_folder / CONFIGS)
    explored = explore(cfg)
    assert re.search(r"price runs from \d+.* to .*, around a mean of", explored.summary)
    assert '<h2 id="classes-heading">Values</h2>' in explored.page.read_text()


def test_what_does_not_fit_is_refused(in_folder: Path) -> None:
    with pytest.raises(UserError, match=r"a LogisticRegression predicts classes, and target.kind=regression wants a"):
        train_on_houses(in_folder, "model=logreg")
    with pytest.raises(UserError, match=r"a Ridge predicts numbers, and target.kind=classification wants classes"):
        train(compose("model=ridge", "tracking=off"))


def test_a_sweep_refuses_before_its_first_trial_a_model_that_does_not_fit() -> None:
    (fault,) = config_faults(composed("model=ridge"))
    assert fault.startswith("model: a Ridge predicts numbers, and target.kind=classification wants classes")


def test_a_new_model_of_numbers_is_one_file(in_folder: Path) -> None:
    trees = train_on_houses(in_folder, "model=extratrees", "model.n_estimators=5", "tracking=off")
    assert isinstance(trees.pipeline[-1].estimator_, ExtraTreesRegressor)
