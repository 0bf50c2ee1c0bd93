"""Early stopping of every library that boosts, for classes and for numbers, through the programs that users call."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from xgboost import XGBClassifier

from wineexp import UserError, compose, train
from wineexp.models.compiled.compiled_model import CompiledModel
from wineexp.models.compiled.flatten import flatten
from wineexp.models.early_stopping import EarlyStopping
from wineexp.models.pipeline import FixedClassesClassifier
from wineexp.train import TrainResult
from wineexp.workflows.experiment import assemble, config_faults

# The number of rounds of each model, of which there are far too many.
BOOSTED = {"xgb": "n_estimators", "histgb": "max_iter", "lightgbm": "n_estimators", "catboost": "iterations"}
MANY = 120


def train_quietly(*overrides: str, config_dir: Path | None = None) -> TrainResult:
    return train(compose("tracking=off", "split.n_splits=2", *overrides, config_dir=config_dir))


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Visits of patients, one after the other, whose outcome is mostly chance, so that few rounds are best."""
    folder = tmp_path_factory.mktemp("visits")
    rng = np.random.default_rng(0)
    dose = rng.normal(size=300).round(2)
    table = pd.DataFrame(
        {
            "dose": dose,
            "other": rng.normal(size=300).round(2),
            "patient": rng.integers(0, 60, 300),
            "day": rng.integers(0, 200, 300),
            "times": rng.integers(1, 4, 300),
            "cured": np.where(dose + rng.normal(0, 2, 300) > 0, "yes", "no"),
            "days_ill": (10 + dose + rng.normal(0, 2, 300)).round(2),
        }
    )
    table.to_csv(folder / "visits.csv", index=False)
    data = f"{{_target_: wineexp.data.table, path: {folder}/visits.csv, targets: [cured, days_ill], ROLES}}"
    target = "_target_: wineexp.data.target.Target, bins: null, labels: null, ordinal: false, transform: null"
    for name, text in {
        "data/visits": data.replace("ROLES", "group: patient, weight: times, drop: [day]"),
        "data/dated": data.replace("ROLES", "time: day, drop: [patient, times]"),
        "target/cured": f"{{{target}, column: cured, metric: log_loss, direction: minimize}}",
        "target/ill": f"{{{target}, column: days_ill, kind: regression, metric: mean_absolute_error, "
        "direction: minimize}",
    }.items():
        (folder / f"{name}.yaml").parent.mkdir(exist_ok=True)
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.mark.parametrize("target", ["cured", "ill"])
@pytest.mark.parametrize("model", BOOSTED)
def test_the_best_number_of_rounds_is_found_and_used(visits: Path, model: str, target: str) -> None:
    if model in ("lightgbm", "catboost"):
        pytest.importorskip(model)
    argument = BOOSTED[model]
    settings = ["data=visits", f"target={target}", "feature=raw", f"model={model}", "model.learning_rate=0.3"]

    def fit(*overrides: str) -> Any:
        return assemble(compose(*settings, *overrides, config_dir=visits)).fit()

    stopped = fit(f"model.{argument}={MANY}", "early_stopping.rounds=5")
    rounds = stopped[-1].get_params()["estimator"].get_params()[argument]
    used = getattr(stopped[-1].estimator_, "regressor_", stopped[-1].estimator_).get_params()[argument]
    assert 1 <= used < rounds == MANY
    # A model that was told so from the start is the same one, whatever libraries do with validation rows.
    told = fit(f"model.{argument}={used}")
    rows = pd.DataFrame({"dose": np.linspace(-2, 2, 50), "other": 0.0})
    np.testing.assert_array_equal(stopped.predict(rows), told.predict(rows))


@pytest.mark.journey
def test_stopping_early_is_better_where_most_is_chance_and_gives_the_same_again(visits: Path) -> None:
    settings = ["data=visits", "target=cured", "model=xgb", f"model.n_estimators={MANY}", "model.learning_rate=0.3"]
    stopped, again = (train_quietly(*settings, "early_stopping.rounds=5", config_dir=visits) for _ in range(2))
    assert again.scores == stopped.scores
    assert stopped.scores["log_loss"][0] < train_quietly(*settings, config_dir=visits).scores["log_loss"][0]


def test_copies_groups_and_times_are_on_one_side(visits: Path) -> None:
    grouped = assemble(compose("data=visits", "target=cured", config_dir=visits)).task
    patients = pd.read_csv(visits / "visits.csv")["patient"].to_numpy()[grouped.rows]
    dated = assemble(compose("data=dated", "target=cured", config_dir=visits)).task
    days = pd.read_csv(visits / "visits.csv")["day"].to_numpy()[dated.rows]
    for rows in (np.arange(len(grouped.y)), grouped.folds[0][0]):
        training, validation = grouped.validation_rows(rows, fraction=0.2, seed=0)
        assert sorted([*training, *validation]) == list(range(len(rows)))
        assert len(validation) == pytest.approx(0.2 * len(rows), rel=0.3)
        assert not set(patients[rows[training]]) & set(patients[rows[validation]])
        other = grouped.validation_rows(rows, fraction=0.2, seed=1)[1]
        assert other.tolist() != validation.tolist() == grouped.validation_rows(rows, fraction=0.2, seed=0)[1].tolist()
    training, validation = dated.validation_rows(np.arange(len(dated.y)), fraction=0.2, seed=0)
    assert days[training].max() < days[validation].min()


def test_a_class_may_have_all_its_rows_on_one_side() -> None:
    """As grade 9 of wine quality, of which there are five rows."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(120, 2)), np.array([3, 5, 9, 12])[rng.integers(0, 4, 120)]
    kinds: list[Any] = [XGBClassifier(n_estimators=50), HistGradientBoostingClassifier(max_iter=50)]
    for estimator in kinds:
        for alone, other in ((5, 9), (9, 5)):
            # The class `alone` has rows for validation only, `other` only such that trees are grown on.
            validation = np.flatnonzero((y == alone) | ((np.arange(120) % 5 == 0) & (y != other)))
            training = np.setdiff1d(np.arange(120), validation)
            model = FixedClassesClassifier(estimator, [3, 5, 7, 9, 12])
            model.fit(X, y, early_stopping=EarlyStopping(5, training, validation))
            assert model.predict_proba(X)[:, [1, 3]].min() > 0
            assert model.predict_proba(X)[:, 2].max() == 0


def test_a_model_that_is_stopped_early_is_compiled(visits: Path) -> None:
    settings = ["data=visits", "target=cured", "model=xgb", "early_stopping.rounds=10"]
    experiment = assemble(compose(*settings, config_dir=visits))
    fitted, X = experiment.fit(), experiment.task.X
    compiled = CompiledModel(*flatten(fitted, X))
    np.testing.assert_array_equal(compiled.outputs(np.ascontiguousarray(X)), fitted.predict_proba(X))


@pytest.mark.parametrize(
    ("overrides", "faults"),
    [
        (["early_stopping.rounds=0"], ["early_stopping.rounds=0: rounds >= 1 must hold, or null for none"]),
        (
            ["early_stopping.rounds=5", "early_stopping.fraction=1"],
            ["early_stopping.fraction=1.0: 0 < fraction <= 0.5 must hold"],
        ),
        (
            ["model=logreg", "early_stopping.rounds=5"],
            ["early_stopping.rounds=5: a LogisticRegression has no rounds of boosting that could be stopped; choose"],
        ),
        (
            ["model=xgb", "+model.early_stopping_rounds=20"],
            ["model.early_stopping_rounds=20: it needs rows to stop by, which only early_stopping.rounds=20 gives it"],
        ),
    ],
)
def test_what_cannot_be_stopped_is_refused_by_name(overrides: list[str], faults: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        train_quietly(*overrides)
    assert [fault[: len(start)] for fault, start in zip(refused.value.faults, faults, strict=True)] == faults
    assert config_faults(compose("tracking=off", *overrides)) == list(refused.value.faults)
