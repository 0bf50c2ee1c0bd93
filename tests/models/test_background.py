"""The background of explanations: as many rows as are wanted, distributed as all rows are."""

from pathlib import Path

import numpy as np
import pandas as pd

from wineexp.models.background import read_background, representative_rows, to_json
from wineexp.models.manifest import BACKGROUND_FILE, EXTRA_FOLDER


def table(n_rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    alcohol = rng.normal(11, 1, n_rows)
    return pd.DataFrame(
        {
            "alcohol": np.where(rng.random(n_rows) < 0.1, np.nan, alcohol),
            "sugar": rng.exponential(3, n_rows),
            "colour": rng.choice(["red", "white"], n_rows, p=[0.25, 0.75]),
        }
    )


def test_means_are_nearer_than_those_of_a_random_sample() -> None:
    X = table(1000)
    chosen = representative_rows(X, 60)
    assert len(chosen) == len(chosen.index.unique()) == 60
    assert chosen.index.isin(X.index).all()

    def error(rows: pd.DataFrame) -> float:
        # Ranks, since the mean of skewed values depends on single rows.
        ranks = X["sugar"].rank(pct=True)
        return abs(ranks[rows.index].mean() - 0.5) + abs(
            (rows["colour"] == "red").mean() - (X["colour"] == "red").mean()
        )

    at_random = np.mean([error(X.sample(60, random_state=seed)) for seed in range(20)])
    assert error(chosen) < at_random / 2
    assert abs(chosen["alcohol"].isna().mean() - 0.1) < 0.04


def test_all_rows_are_the_background_where_they_are_few() -> None:
    assert len(representative_rows(table(50), 60)) == 50


def test_the_first_rows_are_those_of_a_smaller_background() -> None:
    X = table(200)
    assert representative_rows(X, 30).equals(representative_rows(X, 60)[:30])


def test_rows_are_drawn_from_many() -> None:
    assert len(representative_rows(table(6000), 30)) == 30


def test_rows_are_stored_and_read(tmp_path: Path) -> None:
    assert read_background(tmp_path) is None
    (tmp_path / EXTRA_FOLDER).mkdir()
    rows = pd.DataFrame({"alcohol": [10.5, np.nan], "colour": ["red", None]})
    (tmp_path / EXTRA_FOLDER / BACKGROUND_FILE).write_text(to_json(rows))
    stored = read_background(tmp_path)
    assert stored is not None
    assert stored[0] == (10.5, "red")
    assert np.isnan(stored[1][0])
