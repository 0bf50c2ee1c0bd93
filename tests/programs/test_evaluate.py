"""`python -m wineexp.evaluate`: the figures of a run's answers are those that the run told, and wrong input is told."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Command
from wineexp.data.target import Target
from wineexp.workflows import assessment


@pytest.mark.parametrize(("split", "size"), [("grouped", 0.2), ("repeated", 0)])
def test_the_figures_are_those_of_the_run_to_the_last_bit(
    command: Command, tmp_path: Path, split: str, size: float
) -> None:
    done = command("train", "model=logreg", f"split={split}", f"holdout.size={size}", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    done = command("evaluate", "predictions=run/predictions.parquet", "hydra.run.dir=out")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "out/metrics.json").read_text())
    assert set(figures) == ({"cv", "holdout"} if size else {"cv"})
    told = {f"{part}/{name}": value for part, found in figures.items() for name, value in found.items()}
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        recorded = dict(
            connection.execute("SELECT key, value FROM metrics WHERE key LIKE 'cv/%' OR key LIKE 'holdout/%'")
        )
    assert told == {name: value for name, value in recorded.items() if not name.endswith("_seconds")}
    folds = pd.read_csv(tmp_path / "out/folds.csv")
    assert folds["fold"].tolist() == list(range(1, 1 + (5 if split == "grouped" else 25)))
    assert folds["accuracy"].mean() == figures["cv"]["accuracy"]
    confusion = pd.read_csv(tmp_path / "out/confusion.csv")
    assert pd.read_csv(tmp_path / "out/calibration.csv")["rows"].sum() == len(confusion)


def test_the_majority_class_is_that_of_the_rows_that_a_fold_was_trained_on() -> None:
    table = pd.DataFrame(
        {"fold": [0, 0, 1], "row": [0, 1, 2], "true": ["b", "b", "a"], "predicted": ["b", "b", "a"]}
        | {"probability a": [0.0, 0.0, 1.0], "probability b": [1.0, 1.0, 0.0]}
    )
    scores = assessment.score_folds(table, Target("colour", None, None, False, "accuracy", "maximize"))
    assert scores["majority_accuracy"].tolist() == [0, 0]
    assert scores["accuracy"].tolist() == [1, 1]


def test_a_run_that_is_not_recorded_leaves_its_answers_too(command: Command) -> None:
    done = command("train", "model=majority", "tracking=off", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    done = command("evaluate", "predictions=run/predictions.parquet")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["cv/accuracy: 0.4015", "holdout/accuracy: 0.3889"]


def test_a_mistake_is_told_in_one_message(command: Command, tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no table")
    pd.DataFrame({"fold": [0], "row": [0]}).to_parquet(tmp_path / "other.parquet")
    pd.DataFrame(
        {"fold": [0], "row": [0], "true": ["a"], "predicted": ["a"], "probability a": [1.0], "probability b": [0.0]}
    ).to_parquet(tmp_path / "few.parquet")
    for overrides, told in (
        ([], "predictions=: no file is given; give the path of the predictions.parquet in a run's output folder"),
        (["predictions=none.parquet"], "predictions=none.parquet: there is no such file"),
        (["predictions=text.parquet"], "predictions=text.parquet: not a Parquet file"),
        (["predictions=other.parquet"], "not the predictions of a run, no column predicted, true"),
        (["predictions=few.parquet", "target=grade"], "fold 0 has every row"),
    ):
        done = command("evaluate", *overrides)
        assert done.returncode == 1, (overrides, done.stdout)
        assert told in done.stderr
        assert "Traceback" not in done.stderr
