"""`python -m wineexp.prepare`: the tables that it writes, on which rows that are held out have no influence."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Command, composed
from wineexp import UserError, compose
from wineexp import prepare as run_prepare
from wineexp.core.instantiation import build
from wineexp.data import tables
from wineexp.data.dataset import Dataset
from wineexp.data.task import make_task


def prepare(folder: Path, *overrides: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The two tables as they are in the files."""
    run_prepare(compose(f"processed={folder}", f"hydra.run.dir={folder}", *overrides, program="prepare"))
    return pd.read_csv(folder / "cleaned.csv"), pd.read_csv(folder / "featured.csv")


def test_cleaned_has_every_row_and_featured_those_of_training(command: Command, tmp_path: Path) -> None:
    done = command("prepare", "processed=out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "out/cleaned.csv: 178 rows, 17 columns.",
        "out/featured.csv: 142 rows, 15 columns.",
    ]
    cleaned, featured = (pd.read_csv(tmp_path / "out" / f"{name}.csv") for name in ("cleaned", "featured"))
    assert cleaned["row"].tolist() == list(range(178))
    assert cleaned["part"].value_counts().to_dict() == {"training": 142, "holdout": 36}
    assert cleaned["copy_of"].isna().all()
    assert cleaned.iloc[0][["alcohol", "proline", "cultivar"]].tolist() == [14.23, 1065, 1]
    training = cleaned[cleaned["part"] == "training"]
    assert featured["row"].tolist() == training["row"].tolist()
    assert featured["cultivar"].tolist() == training["cultivar"].tolist()
    # The default feature pipeline scales each column by the training rows only.
    features = featured.drop(columns=["row", "cultivar"])
    assert np.allclose(features.mean(), 0)
    assert np.allclose(features.std(ddof=0), 1)


@pytest.mark.usefixtures("wine_quality")
def test_a_copy_names_the_first_equal_row_and_is_on_its_side(tmp_path: Path) -> None:
    cleaned, featured = prepare(tmp_path, "data=red", "target=tier", "feature=domain")
    copies = cleaned[cleaned["copy_of"].notna()]
    # These have equal measurements; their grades are equal, too.
    assert len(copies) == 240
    originals = cleaned.loc[copies["copy_of"].astype(int)]
    assert (originals["row"].to_numpy() < copies["row"].to_numpy()).all()
    assert originals["part"].tolist() == copies["part"].tolist()
    assert set(cleaned["quality"]) == {"low", "middle", "high"}
    assert {"sugar_to_alcohol", "volatile_to_fixed_acidity"} <= set(featured)


def test_the_holdout_has_no_influence_on_the_features() -> None:
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


def test_without_a_holdout_every_row_is_for_training(tmp_path: Path) -> None:
    cleaned, featured = prepare(tmp_path, "holdout.size=0", "feature=raw")
    assert set(cleaned["part"]) == {"training"}
    assert len(featured) == 178


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["feature=domian"], "feature=domian: no such choice; did you mean domain?"),
        (["feature=domain", "feature.clip=0.5"], "0 <= quantile < 0.5 must hold, but got quantile=0.5"),
    ],
)
def test_a_mistake_is_refused_with_one_message(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        prepare(tmp_path, *overrides)
