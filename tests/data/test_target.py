"""Targets, read from a small table."""

import pandas as pd
import pytest

from wineexp.core.errors import UserError
from wineexp.data.target import Target

FRAME = pd.DataFrame({"alcohol": [9.0, 10.0, 11.0, 12.0, 13.0], "quality": [3, 4, 6, 7, 9]})
FEATURES = ("alcohol",)


def target(**changes: object) -> Target:
    defaults = {"column": "quality", "bins": None, "labels": None, "ordinal": True, "metric": "f1_macro"}
    return Target(**(defaults | {"direction": "maximize"} | changes))


def test_without_bins_the_values_are_the_labels() -> None:
    X, y, classes = target().read(FRAME, FEATURES)
    assert list(X) == ["alcohol"]
    assert y.tolist() == [3, 4, 6, 7, 9]
    assert classes.tolist() == [3, 4, 6, 7, 9]


def test_good_means_seven_or_more() -> None:
    _, y, classes = target(bins=[6], labels=["ordinary", "good"]).read(FRAME, FEATURES)
    assert y.tolist() == ["ordinary"] * 3 + ["good"] * 2
    assert classes.tolist() == ["ordinary", "good"], (
        "ascending by grade, not alphabetically: the second class is the positive one"
    )


def test_the_positive_class_is_the_last() -> None:
    good = target(bins=[6], labels=["ordinary", "good"], ordinal=False, positive="ordinary")
    assert good.read(FRAME, FEATURES)[2].tolist() == ["good", "ordinary"]
    numbers = target(column="flag", ordinal=False, positive=0)
    assert numbers.read(FRAME.assign(flag=[0, 1, 0, 1, 1]), FEATURES)[2].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positive": "godo"}, "target.positive=godo: one of the two classes is wanted; did you mean good?"),
        ({"positive": "good", "ordinal": True}, "target.positive=good: the classes are ordered, and the second is"),
        ({"positive": "3", "bins": None, "labels": None}, "target.positive=3: there are 5 classes, and only of two is"),
    ],
)
def test_a_positive_class_that_is_not_one_of_two_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        target(**({"bins": [6], "labels": ["ordinary", "good"], "ordinal": False} | changes)).read(FRAME, FEATURES)
    assert message in str(caught.value)


def test_tiers_hold_their_upper_edges() -> None:
    _, y, classes = target(bins=[4, 6], labels=["low", "middle", "high"]).read(FRAME, FEATURES)
    assert y.tolist() == ["low", "low", "middle", "high", "high"]
    assert classes.tolist() == ["low", "middle", "high"]


def test_a_label_without_rows_is_not_a_class() -> None:
    _, _, classes = target(bins=[1, 6], labels=["low", "middle", "high"]).read(FRAME, FEATURES)
    assert classes.tolist() == ["middle", "high"]


def test_a_target_column_is_removed_from_the_features() -> None:
    X, y, _ = target(column="alcohol", bins=[10], labels=["light", "strong"]).read(FRAME, ("alcohol", "quality"))
    assert list(X) == ["quality"]
    assert y.tolist() == ["light", "light", "strong", "strong", "strong"]
    assert y.index.equals(X.index)


def test_a_missing_column_is_refused_with_a_list_of_the_targets() -> None:
    with pytest.raises(UserError) as caught:
        target(column="cultivar").read(FRAME, FEATURES)
    assert "target.column=cultivar: the data has no such column; it has targets in quality" in str(caught.value)


@pytest.mark.parametrize(
    ("bins", "labels"),
    [
        ([6], None),
        ([6], ["good"]),
        ([6, 4], ["low", "middle", "high"]),
        ([4, 4], ["low", "middle", "high"]),
        ([4, 6], ["low", "low", "high"]),
        (None, ["low", "high"]),
    ],
)
def test_bins_and_labels_that_do_not_fit_are_refused(bins: list[float] | None, labels: list[str] | None) -> None:
    with pytest.raises(UserError) as caught:
        target(bins=bins, labels=labels).read(FRAME, FEATURES)
    assert str(caught.value) == (
        f"target.bins={bins}, target.labels={labels}: n ascending bins need n + 1 different labels, no bins need none"
    )


def test_a_single_class_is_refused() -> None:
    with pytest.raises(UserError, match="all 5 rows are of class good, there is nothing to tell apart"):
        target(bins=[2], labels=["ordinary", "good"]).read(FRAME, FEATURES)
    with pytest.raises(UserError, match="all 1 rows are of class 3"):
        target().read(FRAME.iloc[:1], FEATURES)


def test_the_table_is_not_changed() -> None:
    before = FRAME.copy()
    target(bins=[6], labels=["ordinary", "good"]).read(FRAME, FEATURES)
    pd.testing.assert_frame_equal(FRAME, before)


def test_a_table_of_the_target_alone_is_refused() -> None:
    with pytest.raises(UserError, match="data: besides quality there is no column to learn from"):
        target().read(FRAME, ("quality",))
