"""Targets: each file of conf/target read from a small table, and what a wrong one is told."""

import pandas as pd
import pytest

from wineexp.core.errors import UserError
from wineexp.data.target import Target

FRAME = pd.DataFrame({"alcohol": [9.0, 10.0, 11.0, 12.0, 13.0], "quality": [3, 4, 6, 7, 9]})
FEATURES = ("alcohol",)


def target(**changes: object) -> Target:
    usual = {"column": "quality", "bins": None, "labels": None, "ordinal": True, "metric": "f1_macro"}
    return Target(**(usual | {"direction": "maximize"} | changes))


def test_values_as_they_are() -> None:
    X, y, classes = target().read(FRAME, FEATURES)
    assert list(X) == ["alcohol"]
    assert y.tolist() == [3, 4, 6, 7, 9]
    assert classes.tolist() == [3, 4, 6, 7, 9]


def test_good_means_seven_or_more() -> None:
    _, y, classes = target(bins=[6], labels=["ordinary", "good"]).read(FRAME, FEATURES)
    assert y.tolist() == ["ordinary"] * 3 + ["good"] * 2
    assert classes.tolist() == ["ordinary", "good"], "ascending by grade, not by letter: the second is the positive"


def test_tiers_hold_their_upper_edges() -> None:
    _, y, classes = target(bins=[4, 6], labels=["low", "middle", "high"]).read(FRAME, FEATURES)
    assert y.tolist() == ["low", "low", "middle", "high", "high"]
    assert classes.tolist() == ["low", "middle", "high"]


def test_labels_that_do_not_occur_are_no_classes() -> None:
    _, _, classes = target(bins=[1, 6], labels=["low", "middle", "high"]).read(FRAME, FEATURES)
    assert classes.tolist() == ["middle", "high"]


def test_a_feature_as_target_is_no_feature() -> None:
    X, y, _ = target(column="alcohol", bins=[10], labels=["light", "strong"]).read(FRAME, ("alcohol", "quality"))
    assert list(X) == ["quality"]
    assert y.tolist() == ["light", "light", "strong", "strong", "strong"]
    assert y.index.equals(X.index)


def test_a_column_that_the_data_lacks_is_told_with_those_there_are() -> None:
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


def test_one_class_is_nothing_to_learn() -> None:
    with pytest.raises(UserError, match="all 5 rows are of class good, there is nothing to tell apart"):
        target(bins=[2], labels=["ordinary", "good"]).read(FRAME, FEATURES)
    with pytest.raises(UserError, match="all 1 rows are of class 3"):
        target().read(FRAME.iloc[:1], FEATURES)


def test_the_table_itself_is_left_alone() -> None:
    before = FRAME.copy()
    target(bins=[6], labels=["ordinary", "good"]).read(FRAME, FEATURES)
    pd.testing.assert_frame_equal(FRAME, before)
