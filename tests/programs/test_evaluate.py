"""`python -m wineexp.evaluate`: the metrics of a file of predictions are those that the run recorded."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Command
from wineexp import UserError, compose, evaluate, train
from wineexp.data.target import Target
from wineexp.workflows import assessment


@pytest.fixture
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output folders and relative paths are within a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


def test_the_metrics_are_those_of_the_run_to_the_last_bit(command: Command, tmp_path: Path) -> None:
    done = command("train", "model=logreg", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    done = command("evaluate", "predictions=run/predictions.parquet", "hydra.run.dir=out")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert done.stdout.splitlines() == [
        f"cv/accuracy: {metrics['cv']['accuracy']:.4f}",
        f"holdout/accuracy: {metrics['holdout']['accuracy']:.4f}",
        f"All metrics: {tmp_path / 'out/metrics.json'}",
    ]
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        recorded = dict(
            connection.execute("SELECT key, value FROM metrics WHERE key LIKE 'cv/%' OR key LIKE 'holdout/%'")
        )
    evaluated = {f"{part}/{name}": value for part, values in metrics.items() for name, value in values.items()}
    # What a run records beside its scores.
    others = ("_seconds", "standard_error")
    assert evaluated == {name: value for name, value in recorded.items() if not name.endswith(others)}


@pytest.mark.usefixtures("in_tmp_path")
def test_a_repeated_split_without_a_holdout_or_a_record() -> None:
    split = ["split=repeated", "split.n_splits=3", "split.n_repeats=2", "holdout.size=0"]
    trained = train(compose("model=majority", *split, "tracking=off"))
    predictions = trained.folder / "predictions.parquet"
    result = evaluate(compose(f"predictions={predictions}", program="evaluate"))
    assert set(result.metrics) == {"cv"}
    for name, (mean, deviation) in trained.scores.items():
        # ROC-AUC and the like are left out where the majority class leaves them undefined.
        if pd.notna(mean):
            assert result.metrics["cv"][name] == pytest.approx(mean, abs=1e-12)
            assert result.metrics["cv"][f"{name}_std"] == pytest.approx(deviation, abs=1e-12)
    folds, confusion, calibration = (
        pd.read_csv(result.file.parent / f"{name}.csv") for name in ("folds", "confusion", "calibration")
    )
    assert folds["fold"].tolist() == [1, 2, 3, 4, 5, 6]
    assert folds["accuracy"].mean() == result.metrics["cv"]["accuracy"]
    assert calibration["rows"].sum() == len(confusion) == 2 * 178


def test_the_majority_class_is_that_of_the_rows_that_a_fold_was_trained_on() -> None:
    table = pd.DataFrame(
        {"fold": [0, 0, 1], "row": [0, 1, 2], "true": ["b", "b", "a"], "predicted": ["b", "b", "a"]}
        | {"baseline": ["a", "a", "b"]}
        | {"probability a": [0.0, 0.0, 1.0], "probability b": [1.0, 1.0, 0.0]}
    )
    scores = assessment.score_folds(table, Target("colour", None, None, False, "accuracy", "maximize"))
    assert scores["majority_accuracy"].tolist() == [0, 0]
    assert scores["accuracy"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "predictions=: no file is given; give the path of the predictions.parquet in a run's output folder"),
        (["predictions=none.parquet"], "predictions=none.parquet: there is no such file"),
        (["predictions=text.parquet"], "predictions=text.parquet: not a Parquet file"),
        (["predictions=other.parquet"], "not the predictions of a run, no column baseline, predicted, true"),
    ],
)
@pytest.mark.usefixtures("in_tmp_path")
def test_a_file_that_holds_no_predictions_of_a_run_is_refused(overrides: list[str], message: str) -> None:
    Path("text.parquet").write_text("no table")
    pd.DataFrame({"fold": [0], "row": [0]}).to_parquet("other.parquet")
    with pytest.raises(UserError, match=re.escape(message)):
        evaluate(compose(*overrides, program="evaluate"))
