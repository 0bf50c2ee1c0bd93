"""Columns that are no features: they say which rows belong together, when a row was, or how much it counts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold, StratifiedKFold

from tests.data.test_table import faults, read
from wineexp.data import split, tables
from wineexp.data.dataset import Dataset
from wineexp.data.target import Target
from wineexp.data.task import Task, make_task


def grouped_table(folder: Path) -> Dataset:
    rng = np.random.default_rng(0)
    rows = [f"r{n},c{n // 4},{n},{rng.normal():.6f},{'ab'[n // 4 % 2]}" for n in range(200)]
    # An exact copy of the first row in another group.
    rows[190] = "r190,c47," + ",".join(rows[0].split(",")[2:])
    return read(folder, "id,customer,day,x,y\n" + "\n".join(rows), id="id", group="customer", time="day", targets=["y"])


def make(data: Dataset, splitter: Any) -> Task:
    target = Target("y", None, None, False, "accuracy", "maximize")
    return make_task(data, target, splitter, {"size": 0.2, "seed": 0})


@pytest.mark.parametrize("splitter", [GroupKFold(4), split.RepeatedStratifiedGroupKFold(4, 1, 0)])
def test_rows_of_a_group_and_copies_stay_on_one_side(tmp_path: Path, splitter: Any) -> None:
    data = grouped_table(tmp_path)
    assert data.features == ("x",)
    assert data.ids is not None
    assert (data.ids.iloc[5], data.times.tolist()) == ("r5", [*range(190), 0, *range(191, 200)])
    task = make(data, splitter)
    customers = data.groups.to_numpy()
    for training, test in [(task.rows, task.rows_holdout), *((task.rows[a], task.rows[b]) for a, b in task.folds)]:
        assert not set(customers[training]) & set(customers[test])
        assert ("c0" in customers[training]) == ("c47" in customers[training]) or {0, 190} <= set(task.rows_holdout)


def test_a_split_that_ignores_groups_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(grouped_table(tmp_path), StratifiedKFold(4))
    assert "of the test rows have rows of their customer in training" in caplog.text


def test_the_cleaned_table_has_the_rows_that_a_split_leaves_out(tmp_path: Path) -> None:
    task = make(grouped_table(tmp_path), None)
    cleaned = tables.cleaned(task)
    left_out = sorted({*range(200)} - {*task.rows, *task.rows_holdout})
    assert left_out
    assert cleaned["row"].tolist() == [*range(200)]
    assert cleaned.index[cleaned["part"] == "left out"].tolist() == left_out
    assert cleaned["x"].equals(task.dataset.frame["x"])
    assert cleaned["part"].value_counts()["holdout"] == len(task.rows_holdout)


def test_copies_by_chance_do_not_join_groups(tmp_path: Path) -> None:
    text = "customer,x,y\n" + "".join(f"{n // 5},{n % 3},{'ab'[n // 15 % 2]}\n" for n in range(300))
    task = make(read(tmp_path, text, group="customer", targets=["y"]), GroupKFold(4))
    assert len(task.rows_holdout) == 60


def test_a_weight_is_a_number_of_at_least_0_and_no_feature(tmp_path: Path) -> None:
    rows = "n,w\n1,0.5\n2,{}\n3,0\n"
    data = read(tmp_path, rows.format(2), weight="w")
    assert data.features == ("n",)
    assert data.weights is not None
    assert data.weights.tolist() == [0.5, 2, 0]
    assert faults(tmp_path, rows.format(-1), weight="w") == ["line 3, w: '-1' is not at least 0"]
    assert faults(tmp_path, rows.format("many"), weight="w") == ["line 3, w: 'many' is no number"]
    assert faults(tmp_path, rows.format(""), weight="w") == [
        "data.weight=w: 1 rows have no value, and every row needs one"
    ]
    assert faults(tmp_path, "n,w\n1,0\n2,0\n", weight="w") == [
        "data.weight=w: all weights are 0, so that no row would count"
    ]
    wrong_type = {"w": {"type": "category"}}
    assert faults(tmp_path, rows.format(2), weight="w", columns=wrong_type)[0].startswith("data.weight=w: numbers of")


def test_a_group_or_a_time_that_is_none_is_refused(tmp_path: Path) -> None:
    assert faults(tmp_path, "g,t,x\na,soon,1\n,2,2\n", group="g", time="t") == [
        "data.time=t: dates or numbers are wanted, the column is of type category",
        "data.group=g: 1 rows have no value, and every row needs one",
    ]
