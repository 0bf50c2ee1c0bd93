"""The held-out rows: which they are, how many, and that nothing but their own settings chooses them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import choices, composed
from tests.data.test_split import n_copies, own_task, tables, task
from wineexp.core.errors import UserError
from wineexp.core.instantiation import build
from wineexp.data import holdout
from wineexp.data.dataset import Dataset
from wineexp.data.groups import group_identical_rows
from wineexp.data.target import Target
from wineexp.data.task import make_task


@settings(max_examples=10, deadline=None)
@given(table=tables(), seed=st.integers(0, 1000), size=st.sampled_from([0.2, 0.3, 0.5]))
def test_the_holdout_shares_no_row_with_the_rest(table: tuple[pd.DataFrame, pd.Series], seed: int, size: float) -> None:
    X, y = table
    training, held_out = holdout.at_random(y, group_identical_rows(X), size=size, seed=seed, fold=1)
    assert n_copies(X.fillna(-1), training, held_out) == 0
    assert sorted([*training, *held_out]) == list(range(len(X)))
    assert len(held_out) > 0


@pytest.mark.parametrize(
    ("said", "rows"),
    [("time", {"times": pd.Series(np.arange(40))}), ("fold", {"folds": pd.Series(["holdout", "a", "b", "a"] * 10)})],
)
def test_a_holdout_that_the_data_say_has_one_fold(said: str, rows: dict[str, pd.Series]) -> None:
    with pytest.raises(UserError, match=rf"holdout\.fold=1: 0 must hold where data\.{said} says which rows are held"):
        own_task("grouped", fold=1, **rows)


def test_the_holdout_is_the_same_under_another_seed_split_model_and_features() -> None:
    default = task()
    for overrides in (["seed=7", "split=stratified"], ["seed=3", "split=repeated", "model=svm", "feature=domain"]):
        changed = task(*overrides)
        pd.testing.assert_frame_equal(changed.X_holdout, default.X_holdout)
        pd.testing.assert_series_equal(changed.y_holdout, default.y_holdout)
    assert not task("holdout.seed=1").X_holdout.equals(default.X_holdout)


@pytest.mark.usefixtures("wine_quality")
def test_all_targets_of_a_column_share_one_holdout_and_numbers_their_folds() -> None:
    grade, good, score = (task("data=red", f"target={name}") for name in ("grade", "good", "score"))
    assert grade.rows_holdout.tolist() == good.rows_holdout.tolist() == score.rows_holdout.tolist()
    for of_grade, of_score in zip(grade.folds, score.folds, strict=True):
        assert of_grade[1].tolist() == of_score[1].tolist()


def test_bins_of_many_numbers_share_the_holdout_of_the_numbers() -> None:
    frame = pd.DataFrame({"x": np.arange(100.0), "price": np.random.default_rng(0).uniform(0, 9, 100)})
    cfg, dataset = composed(), Dataset(frame, ("x",), {}, ())
    dear = Target("price", [5], ["cheap", "dear"], False, "accuracy", "maximize")
    number = Target("price", None, None, False, "root_mean_squared_error", "minimize", kind="regression")
    held_out = [make_task(dataset, target, None, cfg.holdout).rows_holdout.tolist() for target in (dear, number)]
    assert held_out[0] == held_out[1]
    assert len(held_out[0]) == 20


def test_the_folds_of_the_holdout_partition_the_rows() -> None:
    tasks = [task("holdout.size=0.25", f"holdout.fold={fold}") for fold in range(4)]
    assert sorted(np.concatenate([fold.rows_holdout for fold in tasks])) == list(range(178))
    assert all(len(set(fold.rows) | set(fold.rows_holdout)) == 178 for fold in tasks)
    pd.testing.assert_frame_equal(tasks[0].X_holdout, task("holdout.size=0.25").X_holdout)


@pytest.mark.parametrize(("size", "fold", "n_folds"), [(0.2, 5, 5), (0.2, -1, 5), (0, 1, 1)])
def test_a_fold_of_the_holdout_out_of_range_is_refused(size: float, fold: int, n_folds: int) -> None:
    with pytest.raises(UserError, match=f"holdout.fold={fold}: 0 <= fold < {n_folds} must hold, where holdout.size="):
        task(f"holdout.size={size}", f"holdout.fold={fold}")


def test_the_holdout_is_stratified_and_has_the_configured_size() -> None:
    y = pd.Series([0] * 800 + [1] * 200)
    for size in (0.1, 0.2, 0.25, 0.5):
        training, held_out = holdout.at_random(y, np.arange(1000), size=size, seed=0, fold=0)
        assert len(held_out) == 1000 * size
        assert y.iloc[held_out].mean() == pytest.approx(0.2, abs=0.005)
        assert len(training) + len(held_out) == 1000


def test_a_holdout_of_size_0_keeps_all_rows() -> None:
    all_rows = task("holdout.size=0")
    assert len(all_rows.X) == 178
    assert all_rows.y_holdout.empty


@pytest.mark.parametrize("size", [-0.1, 0.51, 1, float("nan")])
def test_a_holdout_out_of_range_is_refused(size: float) -> None:
    with pytest.raises(UserError, match=f"holdout.size={size}: 0 <= size <= 0.5 must hold"):
        own_task("grouped", size=size)


@pytest.mark.usefixtures("wine_quality")
@pytest.mark.parametrize("name", sorted(set(choices("data")) - {"cultivar"}))
def test_the_holdout_shares_no_row_with_the_rest_of_the_wine_quality_data(name: str) -> None:
    parts = build(composed(f"data={name}"))
    X, y, _ = parts["target"].read((dataset := parts["data"]()).frame, dataset.features)
    training, held_out = holdout.at_random(y, group_identical_rows(X), size=0.2, seed=0, fold=0)
    assert n_copies(X, training, held_out) == 0
    assert len(held_out) / len(y) == pytest.approx(0.2, abs=0.01)
    assert dataset.duplicates > 200
