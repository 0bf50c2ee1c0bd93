"""`python -m wineexp.prepare`: what it writes, and that no row held out has a say in it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Command, composed
from wineexp.core.instantiation import build
from wineexp.data import tables
from wineexp.data.datasets import Dataset
from wineexp.data.task import make_task


def prepare(command: Command, folder: Path, *overrides: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    done = command("prepare", f"processed={folder}", *overrides)
    assert done.returncode == 0, done.stderr
    return pd.read_csv(folder / "cleaned.csv"), pd.read_csv(folder / "featured.csv")


def test_cleaned_is_every_row_and_featured_those_of_training(command: Command, tmp_path: Path) -> None:
    cleaned, featured = prepare(command, tmp_path / "out")
    assert cleaned["row"].tolist() == list(range(178))
    assert cleaned["part"].value_counts().to_dict() == {"training": 142, "holdout": 36}
    assert cleaned["copy_of"].isna().all()
    assert cleaned.iloc[0][["alcohol", "proline", "cultivar"]].tolist() == [14.23, 1065, 1]
    training = cleaned[cleaned["part"] == "training"]
    assert featured["row"].tolist() == training["row"].tolist()
    assert featured["cultivar"].tolist() == training["cultivar"].tolist()
    # The default feature pipeline: each column scaled by the training rows alone.
    made = featured.drop(columns=["row", "cultivar"])
    assert np.allclose(made.mean(), 0)
    assert np.allclose(made.std(ddof=0), 1)


@pytest.mark.usefixtures("wine_quality")
def test_a_copy_names_the_first_row_of_its_kind_and_is_on_its_side(command: Command, tmp_path: Path) -> None:
    cleaned, featured = prepare(command, tmp_path / "out", "data=red", "target=tier", "feature=domain")
    copies = cleaned[cleaned["copy_of"].notna()]
    # Equal measurements; with equal grades too they are 240.
    assert len(copies) == 240
    originals = cleaned.loc[copies["copy_of"].astype(int)]
    assert (originals["row"].to_numpy() < copies["row"].to_numpy()).all()
    assert originals["part"].tolist() == copies["part"].tolist()
    assert set(cleaned["quality"]) == {"low", "middle", "high"}
    assert {"sugar_to_alcohol", "volatile_to_fixed_acidity"} <= set(featured)


def test_a_row_held_out_changes_nothing_that_is_featured() -> None:
    cfg = composed("feature=domain")
    parts = build(cfg)
    dataset = parts["data"]()
    task = make_task(dataset, parts["target"], None, cfg.holdout)
    frame = dataset.frame.copy()
    frame.loc[task.rows_holdout, list(dataset.features)] *= 1000
    changed = make_task(
        Dataset(frame, dataset.features, dataset.units, dataset.pins), parts["target"], None, cfg.holdout
    )
    assert changed.rows.tolist() == task.rows.tolist()
    pd.testing.assert_frame_equal(tables.featured(task, parts["feature"]), tables.featured(changed, parts["feature"]))


def test_nothing_held_out_leaves_every_row_for_training(command: Command, tmp_path: Path) -> None:
    cleaned, featured = prepare(command, tmp_path / "out", "holdout.size=0", "feature=raw")
    assert set(cleaned["part"]) == {"training"}
    assert len(featured) == 178


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["feature=domian"], "error: feature=domian: no such choice; did you mean domain?"),
        (["feature=domain", "feature.clip=0.5"], "0 <= quantile < 0.5 must hold, but got quantile=0.5"),
    ],
)
def test_a_mistake_is_told_in_one_message(command: Command, overrides: list[str], told: str) -> None:
    done = command("prepare", *overrides)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
