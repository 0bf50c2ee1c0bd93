"""Folds: identical rows and groups stay together, and time and columns are heeded."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LeaveOneGroupOut,
    LeaveOneOut,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    TimeSeriesSplit,
)

from tests.conftest import choices, composed
from wineexp.core.errors import UserError
from wineexp.core.instantiation import build
from wineexp.data import holdout, split
from wineexp.data.dataset import Dataset
from wineexp.data.groups import Indices, group_identical_rows
from wineexp.data.split import CopiesTogetherKFold
from wineexp.data.task import Task, make_task


@st.composite
def tables(draw: st.DrawFn) -> tuple[pd.DataFrame, pd.Series]:
    """Few distinct rows, each repeated, of two classes; some values are missing."""
    distinct = draw(st.integers(12, 30))
    repeats = draw(st.lists(st.integers(1, 5), min_size=distinct, max_size=distinct))
    rows = np.repeat(np.arange(distinct), repeats)
    order = np.random.default_rng(draw(st.integers(0, 99))).permutation(len(rows))
    X = pd.DataFrame({"a": rows // 2, "b": np.where(rows % 2, np.nan, 0.5)}).iloc[order].reset_index(drop=True)
    return X, pd.Series(rows[order] % 2, name="y")


# Splitters that separate identical rows, as their files in conf/split say.
PLAIN = {"stratified", "runs", "tabarena"}
# Splitters of what a column of the data set says.
SAID = {"time", "given"}


def n_copies(X: pd.DataFrame, training: Indices, test: Indices) -> int:
    """Number of test rows that equal a training row."""
    training_rows = set(X.iloc[training].itertuples(index=False, name=None))
    return sum(row in training_rows for row in X.iloc[test].itertuples(index=False, name=None))


def test_identical_rows_have_the_same_group_number() -> None:
    X = pd.DataFrame({"a": [1.0, 2.0, 1.0, np.nan, np.nan], "colour": ["red", "red", "red", "red", "red"]})
    groups = group_identical_rows(X)
    assert groups.tolist() == [0, 1, 0, 2, 2]
    assert len(set(group_identical_rows(X.assign(colour=["red", "red", "white", "red", "white"])))) == 5


@pytest.mark.parametrize("name", sorted(set(choices("split")) - PLAIN - SAID))
@settings(max_examples=8, deadline=None)
@given(table=tables(), seed=st.integers(0, 1000))
def test_identical_rows_are_not_separated(name: str, table: tuple[pd.DataFrame, pd.Series], seed: int) -> None:
    X, y = table
    splitter = instantiate(composed(f"split={name}").split, random_state=seed)
    folds = split.folds(splitter, X.fillna(-1), y, group_identical_rows(X))
    assert len(folds) == splitter.get_n_splits()
    for train, test in folds:
        assert n_copies(X.fillna(-1), train, test) == 0
        assert sorted([*train, *test]) == list(range(len(X)))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), n_repeats=st.integers(1, 3))
def test_every_repeat_tests_each_row_once_with_a_shuffle_of_its_own(seed: int, n_repeats: int) -> None:
    y = pd.Series(np.arange(60) % 2)
    splitter = split.RepeatedStratifiedGroupKFold(n_splits=4, n_repeats=n_repeats, random_state=seed)
    folds = split.folds(splitter, y.to_frame(), y, np.arange(60))
    assert len(folds) == splitter.get_n_splits() == 4 * n_repeats
    repeats = [np.concatenate([test for _, test in folds[4 * n : 4 * n + 4]]) for n in range(n_repeats)]
    assert all(sorted(repeat) == list(range(60)) for repeat in repeats)
    assert len({tuple(repeat) for repeat in repeats}) == n_repeats
    first = StratifiedGroupKFold(4, shuffle=True, random_state=seed).split(y.to_frame(), y, np.arange(60))
    for (train, test), (train_, test_) in zip(folds, first, strict=False):
        assert np.array_equal(train, train_)
        assert np.array_equal(test, test_)


def test_the_repeated_splitter_keeps_scikit_learns_contract() -> None:
    splitter = split.RepeatedStratifiedGroupKFold(n_splits=3, n_repeats=2, random_state=7)
    assert clone(splitter).get_params() == {"n_splits": 3, "n_repeats": 2, "random_state": 7}


def test_any_splitter_can_be_repeated() -> None:
    y = pd.Series(np.arange(60) % 2)
    args = (y.to_frame(), y, np.arange(60))
    grouped = split.RepeatedStratifiedGroupKFold(n_splits=4, n_repeats=3, random_state=5)
    for splitter, equal in (
        (StratifiedGroupKFold(4, shuffle=True), grouped),
        (ShuffleSplit(2, test_size=0.5), None),
    ):
        repeated = split.RepeatedSplitter(splitter, n_repeats=3, random_state=5)
        folds = split.folds(repeated, *args)
        assert len(folds) == repeated.get_n_splits() == 3 * splitter.get_n_splits()
        assert splitter.random_state is None
        if equal is not None:
            assert split.fingerprint(np.arange(0), folds) == split.fingerprint(np.arange(0), split.folds(equal, *args))
        assert len({tuple(test) for _, test in folds}) == len(folds)


class OwnGroups:
    """A splitter whose groups must be given."""

    def split(self, X: pd.DataFrame, y: pd.Series, groups: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        raise AssertionError("it is refused before it splits")


NEEDS_GROUPS = "needs to know which rows belong together: name the column that says it, data.group=COLUMN; or choose a"


@pytest.mark.parametrize(
    ("splitter", "need"),
    [
        (GroupKFold(5), NEEDS_GROUPS),
        (GroupShuffleSplit(5), NEEDS_GROUPS),
        (LeaveOneGroupOut(), NEEDS_GROUPS),
        (OwnGroups(), NEEDS_GROUPS),
        (LogisticRegression(), "splits no rows; choose one of scikit-learn's splitters, such as KFold"),
        (
            TimeSeriesSplit(5),
            "needs to know when each row was: name the column that says it, data.time=COLUMN; or choose a",
        ),
        (split.GivenFolds(), "needs to know the fold of each row: name the column that says it, data.fold=COLUMN; or"),
    ],
)
def test_a_splitter_that_needs_what_the_data_set_does_not_say_is_refused(splitter: Any, need: str) -> None:
    cfg = composed()
    parts = build(cfg)
    with pytest.raises(UserError) as refused:
        make_task(parts["data"](), parts["target"], splitter, cfg.holdout)
    assert str(refused.value).startswith(f"split: {type(splitter).__name__} {need}")


@pytest.mark.parametrize("splitter", [KFold(5), ShuffleSplit(5), RepeatedStratifiedKFold(), LeaveOneOut()])
def test_a_splitter_that_needs_the_rows_alone_is_not_refused(splitter: Any) -> None:
    split.check_splitter(splitter, has_groups=False, has_times=False, has_folds=False)


def own_task(name: str, size: float = 0.2, fold: int = 0, **said: pd.Series) -> Task:
    """A task of 40 rows, of which the data set says more than the rows."""
    frame = pd.DataFrame({"x": np.arange(40.0), "label": np.arange(40) % 2})
    dataset = Dataset(frame, ("x",), {}, (), **said)
    cfg = composed(f"split={name}")
    target = replace(build(cfg)["target"], column="label")
    return make_task(dataset, target, instantiate(cfg.split), {"size": size, "seed": 0, "fold": fold})


def test_rows_are_trained_on_before_and_tested_after_in_time() -> None:
    # Four rows of each day, in no order.
    days = pd.Series(np.random.default_rng(0).permutation(np.arange(40) // 4), name="day")
    task = own_task("time", times=days)
    assert set(days[task.rows_holdout]) == {8, 9}
    assert [(set(days[task.rows[fit]]), set(days[task.rows[test]])) for fit, test in task.folds] == [
        (set(range(3 + number)), {3 + number}) for number in range(5)
    ]
    assert task.leaks == {"copies": 0, "older": 0, "holdout_copies": 0, "holdout_older": 0}
    assert task.tags()["split.leaks.older"] == "0.0000"


def test_a_gap_in_time_counts_different_times() -> None:
    days = pd.Series(np.arange(40) // 4)
    folds = split.folds_in_time(TimeSeriesSplit(3, gap=2), days, np.arange(40))
    assert [(days[fit].max(), days[test].min()) for fit, test in folds] == [(1, 4), (3, 6), (5, 8)]


def test_a_split_that_ignores_time_is_said_to_look_ahead(caplog: pytest.LogCaptureFixture) -> None:
    task = own_task("grouped", times=pd.Series(np.arange(40)))
    # The holdout is the latest rows all the same.
    assert task.rows_holdout.tolist() == list(range(32, 40))
    assert task.leaks["older"] > 0.9
    assert "test rows are older than a row trained on: scores may be too high; split=time" in caplog.text


def test_times_that_leave_no_choice_are_refused() -> None:
    for days, message in (
        (pd.Series([1] * 10 + [2] * 30, name="day"), "holdout.size=0.2: 30 of 40 rows are of day=2 or later"),
        (pd.Series(np.arange(40) // 20, name="day"), r"\(samples are the 1 different times of day\)"),
    ):
        with pytest.raises(UserError, match=message):
            own_task("time", times=days)


def test_a_column_gives_the_folds_and_the_holdout() -> None:
    words = pd.Series(["train", "a", "b", "holdout", "a"] * 8, name="part")
    task = own_task("given", folds=words)
    assert set(words[task.rows_holdout]) == {"holdout"}
    assert [(set(words[task.rows[fit]]), set(words[task.rows[test]])) for fit, test in task.folds] == [
        ({"train", "b"}, {"a"}),
        ({"train", "a"}, {"b"}),
    ]
    with pytest.raises(UserError, match=r"split: part has the values \['train'\]; two folds, or one and rows of train"):
        own_task("given", folds=pd.Series(["train"] * 40, name="part"))


def test_earlier_rows_of_a_later_group_are_left_out() -> None:
    days = pd.Series(np.arange(40), name="day")
    # Customer 0 buys again and again, the others once.
    customers = pd.Series(np.where(np.arange(40) % 5 == 0, 0, np.arange(40)), name="customer")
    task = own_task("time", times=days, groups=customers)
    assert task.rows_holdout.tolist() == list(range(32, 40))
    assert task.rows.tolist() == [day for day in range(32) if day % 5]
    assert set(task.leaks.values()) == {0}
    assert "25 cross-validated, 8 held out, 7 left out for their group" in task.describe()
    with pytest.raises(UserError, match="split: no row is left to train on"):
        own_task("time", times=days, groups=pd.Series(np.arange(40) % 2, name="customer"))


def test_groups_on_both_sides_are_said(caplog: pytest.LogCaptureFixture) -> None:
    customers = pd.Series(np.arange(40) // 4, name="customer")
    assert own_task("grouped", groups=customers).leaks["groups"] == 0
    assert "in training" not in caplog.text
    assert own_task("stratified", groups=customers).leaks["groups"] > 0.9
    assert "100 % of the test rows have rows of their customer in training" in caplog.text


@pytest.mark.parametrize("seed", range(20))
def test_stratified_groups_have_the_folds_of_scikit_learn(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    n, n_classes, n_folds = rng.integers(60, 600), rng.integers(2, 12), int(rng.integers(2, 12))
    X = pd.DataFrame({"a": np.arange(n)})
    y = pd.Series(rng.choice(n_classes, n, p=rng.dirichlet(np.ones(n_classes))))
    groups = rng.integers(0, n // rng.integers(1, 4), n)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings(action="ignore"):
        expected = list(splitter.split(X, y, groups))
    monkeypatch.setattr(StratifiedGroupKFold, "_find_best_fold", lambda *_: pytest.fail("scikit-learn searched"))
    for (training, test), (own_training, own_test) in zip(expected, split.folds(splitter, X, y, groups), strict=True):
        assert own_training.tolist() == training.tolist()
        assert own_test.tolist() == test.tolist()


def test_very_many_groups_are_balanced_without_a_search_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StratifiedGroupKFold, "split", lambda *_: pytest.fail("it searched"))
    n = split.MAX_GROUPS_ONE_BY_ONE + 2000
    X = pd.DataFrame({"a": np.arange(n)})
    X.iloc[-1000:] = X.iloc[:1000].to_numpy()
    y = pd.Series(np.random.default_rng(0).choice(["often", "seldom"], n, p=[0.9, 0.1]))
    groups = group_identical_rows(X)
    splitters = (
        StratifiedGroupKFold(5, shuffle=True, random_state=0),
        split.RepeatedStratifiedGroupKFold(5, 1, random_state=0),
    )
    first, second = (split.folds(splitter, X, y, groups) for splitter in splitters)
    training, held_out = holdout.at_random(y, groups, size=0.2, seed=0, fold=0)
    assert split.fingerprint(held_out, first) == split.fingerprint(held_out, second)
    assert sorted(np.concatenate([test for _, test in first])) == list(range(n))
    for train, test in [*first, (training, held_out)]:
        assert len(test) == pytest.approx(n / 5, rel=0.05)
        assert (y.iloc[test] == "seldom").mean() == pytest.approx((y == "seldom").mean(), rel=0.05)
        assert not set(groups[train]) & set(groups[test])
        assert len(train) + len(test) == n


def task(*overrides: str) -> Task:
    cfg = composed(*overrides)
    parts = build(cfg)
    return make_task(parts["data"](), parts["target"], parts["split"], cfg.holdout)


def test_the_seed_changes_the_folds() -> None:
    first, second = task("seed=0").folds, task("seed=1").folds
    assert not all(np.array_equal(a, b) for (_, a), (_, b) in zip(first, second, strict=True))


def test_a_split_that_is_impossible_is_refused() -> None:
    with pytest.raises(
        UserError, match="split: Cannot have number of splits n_splits=500 greater than the number of samples"
    ):
        task("split.n_splits=500")
    with pytest.raises(UserError, match="split: n_repeats >= 1 must hold, but got n_repeats=0"):
        task("split=repeated", "split.n_repeats=0")
    with pytest.raises(UserError, match=r"holdout\.size=0\.001: too small a share of 178 rows"):
        task("holdout.size=0.001")


@pytest.mark.usefixtures("wine_quality")
def test_the_plain_split_separates_copies_in_red_and_the_grouped_does_not() -> None:
    plain, grouped = (task("data=red", f"split={name}", "holdout.size=0") for name in ("stratified", "grouped"))
    shares = [n_copies(plain.X, train, test) / len(test) for train, test in plain.folds]
    assert 0.2 < np.mean(shares) < 0.3
    assert [n_copies(grouped.X, train, test) for train, test in grouped.folds] == [0] * 5


@pytest.mark.parametrize("seed", range(3))
def test_copies_are_not_separated_in_folds_within_an_estimator(seed: int) -> None:
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 6, (200, 3)).astype(float)
    y = rng.choice(3, 200, p=[0.7, 0.27, 0.03])
    folds = list(CopiesTogetherKFold(folds=5, random_state=seed).split(X, y))
    np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(200))
    for train, test in folds:
        assert not set(map(tuple, X[train])) & set(map(tuple, X[test]))
        assert sorted([*train, *test]) == list(range(200))


def test_folds_within_an_estimator_are_stratified_in_any_order_of_the_rows() -> None:
    X = np.arange(103.0)[:, None]
    y = np.repeat(["a", "b", "c"], [60, 40, 3])
    folds = list(CopiesTogetherKFold(folds=5, random_state=0).split(X, y))
    for label in "abc":
        counts = [(y[test] == label).sum() for _, test in folds]
        assert max(counts) - min(counts) <= 1
    order = np.random.default_rng(0).permutation(103)
    reordered = list(CopiesTogetherKFold(folds=5, random_state=0).split(X[order], y[order]))
    assert [set(order[test]) for _, test in reordered] == [set(test) for _, test in folds]


@pytest.mark.parametrize("folds", [1, 4])
def test_too_few_different_rows_for_folds_within_an_estimator_are_refused(folds: int) -> None:
    splitter = CopiesTogetherKFold(folds=folds, random_state=0)
    with pytest.raises(ValueError, match=f"2 <= folds <= 3 different rows must hold, but got folds={folds}"):
        list(splitter.split(np.array([[0.0], [1.0], [2.0], [2.0]]), np.array([0, 1, 0, 1])))
