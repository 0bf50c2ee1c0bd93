"""Folds within a model: rows of one group, and of one time, stay on one side of them, too."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import KFold, RepeatedStratifiedKFold

from wineexp import compose, train
from wineexp.data.split import CopiesTogetherKFold
from wineexp.evaluation.grouped_folds import FittedRows, GroupedKFold, GroupedStratifiedKFold, fitting, fitting_part

SPLITTERS = {
    "copies": lambda: CopiesTogetherKFold(4, 0),
    "plain": lambda: GroupedKFold(4, shuffle=True, random_state=0),
    "stratified": lambda: GroupedStratifiedKFold(n_splits=4, n_repeats=1, random_state=0),
}

X, Y = np.arange(120).reshape(-1, 1), np.tile([0, 0, 1], 40)
GROUPS = np.random.default_rng(0).integers(0, 30, 120)
TIMES = np.random.default_rng(1).integers(0, 25, 120)


@pytest.fixture(params=SPLITTERS)
def splitter(request: pytest.FixtureRequest) -> Any:
    return SPLITTERS[request.param]()


def test_groups_stay_together(splitter: Any) -> None:
    with fitting(FittedRows(GROUPS)):
        folds = list(splitter.split(X, Y))
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(120))
    for training, test in folds:
        assert not set(GROUPS[training]) & set(GROUPS[test])
        assert 15 < len(test) < 50


def test_folds_are_stretches_of_time(splitter: Any) -> None:
    with fitting(FittedRows(np.arange(120), TIMES)):
        folds = list(splitter.split(X, Y))
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(120))
    last = -1
    for _, test in folds:
        assert TIMES[test].min() > last
        last = TIMES[test].max()


def test_a_part_of_the_rows_keeps_its_groups(splitter: Any) -> None:
    part = np.arange(0, 120, 2)
    with fitting(FittedRows(GROUPS)), fitting_part(part):
        folds = list(splitter.split(X[part], Y[part]))
    for training, test in folds:
        assert not set(GROUPS[part][training]) & set(GROUPS[part][test])


def test_other_rows_than_the_known_ones_are_refused(splitter: Any) -> None:
    with fitting(FittedRows(GROUPS)), pytest.raises(ValueError, match="splits 60 of 120 training rows"):
        list(splitter.split(X[:60], Y[:60]))


def test_fewer_groups_than_folds_are_refused(splitter: Any) -> None:
    with fitting(FittedRows(GROUPS % 3)), pytest.raises(ValueError, match="2 <= folds <= 3 groups of training rows"):
        list(splitter.split(X, Y))


@pytest.mark.parametrize(
    ("grouped", "usual"),
    [("plain", KFold(4, shuffle=True, random_state=0)),
     ("stratified", RepeatedStratifiedKFold(n_splits=4, n_repeats=1, random_state=0))],
)  # fmt: skip
def test_without_groups_the_folds_are_those_of_scikit_learn(grouped: str, usual: Any) -> None:
    for (_, test), (_, expected) in zip(SPLITTERS[grouped]().split(X, Y), usual.split(X, Y), strict=True):
        assert test.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("roles", "picked"),
    [("drop: [patient]", "nearest"), ("group: patient", "constant"), ("time: patient", "constant")],
)
def test_an_ensemble_does_not_pick_a_model_that_knows_rows_of_the_same_group(
    roles: str, picked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patients recover by chance, whatever their dose: only their own other visits tell whether they do."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    patient = rng.integers(0, 40, 240)
    pd.DataFrame(
        {
            "dose": rng.normal(size=40)[patient],
            "weight": rng.normal(0, 1e-6, 240),
            "patient": patient,
            "cured": np.where(rng.random(40) < 0.5, "yes", "no")[patient],
        }
    ).to_csv("visits.csv", index=False)
    for name, text in {
        "data/visits.yaml": f"{{_target_: wineexp.data.table, path: {tmp_path}/visits.csv, targets: [cured], {roles}}}",
        "target/cured.yaml": "{_target_: wineexp.data.target.Target, column: cured, bins: null, labels: null, "
        "ordinal: false, metric: accuracy, direction: maximize}",
        "model/pick.yaml": "{_target_: wineexp.models.ensemble.SelectionClassifier, members: "
        "{nearest: {_target_: sklearn.neighbors.KNeighborsClassifier, n_neighbors: 1}, "
        "constant: {_target_: sklearn.dummy.DummyClassifier}}, metric: log_loss, picks: 1, decision: accuracy, "
        "temper: false, cv: {_target_: wineexp.data.split.CopiesTogetherKFold, folds: 5, random_state: 0}}",
    }.items():
        Path("conf", name).parent.mkdir(parents=True, exist_ok=True)
        Path("conf", name).write_text(text)
    overrides = ("data=visits", "target=cured", "model=pick", "feature=raw", "split=stratified", "tracking=off")
    result = train(compose(*overrides, "split.n_splits=3", config_dir="conf"))
    weights = result.pipeline[-1].estimator_.weights_
    assert weights == {"nearest": float(picked == "nearest"), "constant": float(picked == "constant")}
