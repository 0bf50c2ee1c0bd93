"""The gate: what each rule lets through, and how often it is wrong."""

import functools
import re
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from sklearn.model_selection import RepeatedStratifiedKFold

from tests.conftest import choices, composed
from wineexp.core.errors import UserError
from wineexp.core.paths import ROOT
from wineexp.data import split
from wineexp.data.groups import group_identical_rows
from wineexp.evaluation.metrics import METRICS
from wineexp.workflows.gate import Gate, ModelScores
from wineexp.workflows.promotion import split_like

RATIO = 1 / 4
ROWS, FEATURES = 200, 4
FOLDS = {"n_splits": 5, "n_repeats": 5}


@functools.cache
def usual() -> DictConfig:
    return OmegaConf.load(ROOT / "conf/gate/usual.yaml")


def gate(**changes: object) -> Gate:
    """The project's own gate, with changes."""
    return instantiate(usual(), **changes)


def evidence(scores: npt.ArrayLike, name: str = "the candidate", error: float = 0.05) -> ModelScores:
    return ModelScores(name, {"matthews_corrcoef": np.full(5, 0.9), "accuracy": np.asarray(scores)}, error)


def judged(rule: str, rules: Gate, candidate: ModelScores, champion: ModelScores) -> bool:
    checks = rules.check_scores(candidate, champion, metric="accuracy", test_to_train=RATIO)
    (passed,) = [check.passed for check in checks if check.rule == rule]
    return passed


def nearest_mean(X: npt.NDArray[np.float64], y: npt.NDArray[np.intp], folds: list) -> npt.NDArray[np.float64]:
    """Accuracy by fold of the nearest class mean, fitted inside the fold."""
    scores = []
    for training, test in folds:
        means = np.array([X[training][y[training] == label].mean(axis=0) for label in (0, 1)])
        nearer = ((X[test][:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
        scores.append(np.mean(nearer == y[test]))
    return np.array(scores)


@pytest.mark.parametrize("require", ["better", "not_worse"])
def test_a_candidate_that_failed_a_fold_does_not_pass(require: str) -> None:
    rules, champion = gate(require=require), evidence([0.8, 0.81, 0.8, 0.81, 0.8], "version 1")
    assert judged(require, rules, evidence([0.9, 0.92, 0.9, 0.92, 0.9]), champion)
    assert not judged(require, rules, evidence([0.9, 0.92, 0.9, 0.92, np.nan]), champion)
    assert not judged(require, rules, evidence([0.9] * 4), champion)
    nothing = evidence([np.nan] * 5)
    assert not judged(require, rules, nothing, nothing)


def test_a_tie_is_not_better() -> None:
    tie = evidence([0.8] * 5)
    assert not judged("better", gate(), tie, tie)
    assert judged("not_worse", gate(require="not_worse"), tie, tie)


@pytest.fixture(scope="module")
def equals() -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Fold scores of 1,000 pairs of models, each pair on data of its own: neither model is better, both learn.

    The two see different features that say equally much, so that the expected difference is 0.
    """
    rng = np.random.default_rng(0)
    pairs = []
    y = np.arange(ROWS) % 2
    folds = list(RepeatedStratifiedKFold(**FOLDS, random_state=0).split(y, y))
    for _ in range(1000):
        one, other = (rng.normal(0.7 * y[:, None], 1, (ROWS, FEATURES)) for _ in range(2))
        pairs.append((nearest_mean(one, y, folds), nearest_mean(other, y, folds)))
    return pairs


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_at_most_alpha_of_candidates_that_are_no_better_pass(equals: list, alpha: float) -> None:
    rules = gate(alpha=alpha)
    passed = [judged("better", rules, evidence(one), evidence(other, "version 1")) for one, other in equals]
    assert 0 < np.mean(passed) <= alpha


@pytest.mark.parametrize(("require", "passed"), [("better", False), ("not_worse", True)])
def test_an_equal_model_is_said_to_be_equal(require: str, passed: bool) -> None:
    scores, champion = (evidence([0.9, 0.8, 0.9, 0.8, 0.85], name) for name in ("the candidate", "version 2"))
    checks = gate(require=require).check_scores(scores, champion, metric="accuracy", test_to_train=RATIO)
    (check,) = [check for check in checks if check.rule == require]
    assert check.passed == passed
    assert check.message.startswith("accuracy is the same as version 2's on every fold")
    assert ("with gate.require=not_worse an equal model passes" in check.message) != passed
    assert "0.0000" not in check.message


def test_a_gain_as_large_as_the_message_names_passes_four_times_in_five(equals: list) -> None:
    rules = gate()
    passed = []
    for one, other in equals:
        candidate, champion = evidence(one), evidence(other, "version 1")
        (check,) = [
            check
            for check in rules.check_scores(candidate, champion, metric="accuracy", test_to_train=RATIO)
            if check.rule == "better"
        ]
        seen = re.search(r"a true gain of (\S+) passes", check.message)
        if seen is not None:
            passed.append(judged("better", rules, evidence(one + float(seen[1])), champion))
    assert 0.75 < np.mean(passed) < 0.95


def test_not_worse_lets_an_equal_pass_and_not_one_that_is_worse_by_the_margin() -> None:
    scores = np.array([0.90, 0.92, 0.91, 0.89, 0.93])
    noise = np.array([0.001, -0.001, 0.0, 0.001, -0.001])
    champion = evidence(scores, "version 1")
    assert not judged("better", gate(), evidence(scores + noise), champion)
    rules = gate(require="not_worse", margin=0.01)
    assert judged("not_worse", rules, evidence(scores + noise), champion)
    assert not judged("not_worse", rules, evidence(scores + noise - 0.01), champion)


def test_worse_calibration_is_refused_with_the_excess() -> None:
    scores = [0.9, 0.92, 0.91, 0.89, 0.93]
    checks = gate().check_scores(
        evidence(scores, error=0.08), evidence(scores, "version 1"), metric="accuracy", test_to_train=RATIO
    )
    (calibration,) = [check for check in checks if check.rule == "calibration"]
    assert not calibration.passed
    assert "over by 0.0100" in calibration.message


def test_a_floor_can_be_set_for_every_metric() -> None:
    assert set(usual().floors) == set(METRICS)


@pytest.mark.parametrize(("kind", "floor"), [("classification", 0.1), ("regression", None)])
def test_only_classes_have_a_floor_by_default(kind: str, floor: float | None) -> None:
    cfg = OmegaConf.create({"gate": usual(), "target": {"kind": kind}})
    assert cfg.gate.floors.matthews_corrcoef == floor


def numbers(error: float, of_mean: float) -> ModelScores:
    scores = {"root_mean_squared_error": error, "r2": 0.5, "baseline_root_mean_squared_error": of_mean}
    return ModelScores("it", {name: np.full(5, score) for name, score in scores.items()}, None)


@pytest.mark.parametrize("metric", ["root_mean_squared_error", "r2"])
def test_numbers_must_be_better_than_their_mean(metric: str) -> None:
    rules = replace(gate(), floors={})
    for error, passes in ((0.9, True), (1.0, False), (1.1, False)):
        (check,) = rules.check_scores(numbers(error, 1.0), None, metric=metric, test_to_train=RATIO)
        assert (check.rule, check.passed) == ("better_than_mean", passes)
    assert "root_mean_squared_error 1.1, must be less than 1" in check.message
    lenient = replace(rules, better_than_mean=False)
    assert lenient.check_scores(numbers(2, 1), None, metric=metric, test_to_train=RATIO) == []


def test_a_smaller_error_is_a_gain() -> None:
    rng = np.random.default_rng(0)
    champion = numbers(1.0, 2.0)
    champion.scores["root_mean_squared_error"][:] += rng.normal(0, 0.01, 5)
    for factor, passes in ((0.8, True), (1.2, False)):
        error = champion.scores["root_mean_squared_error"] * factor
        candidate = ModelScores("it", {**champion.scores, "root_mean_squared_error": error}, None)
        _, gain = replace(gate(), floors={}).check_scores(
            candidate, champion, metric="root_mean_squared_error", test_to_train=RATIO
        )
        assert (gain.rule, gain.passed) == ("better", passes)


def test_floors_and_costs_hold_the_bound_itself() -> None:
    rules = replace(gate(row_milliseconds=10, megabytes=1), floors={"accuracy": 0.5, "log_loss": 0.7})
    scores = {"accuracy": np.array([0.4, 0.6]), "log_loss": np.array([0.7, 0.8])}
    floors = rules.check_scores(ModelScores("it", scores, 0), None, metric="accuracy", test_to_train=RATIO)
    assert [(check.rule, check.passed) for check in floors] == [("floors.accuracy", True), ("floors.log_loss", False)]
    assert "short by 0.0500" in floors[1].message
    assert [check.passed for check in rules.check_costs(row_milliseconds=10, size=1_000_000)] == [True, True]
    assert [check.passed for check in rules.check_costs(row_milliseconds=11, size=1_000_001)] == [False, False]


def test_a_score_that_is_not_a_number_does_not_pass() -> None:
    scores = {"accuracy": np.array([np.nan, np.nan])}
    (floor,) = replace(gate(), floors={"accuracy": 0.5}).check_scores(
        ModelScores("it", scores, 0), None, metric="accuracy", test_to_train=RATIO
    )
    assert not floor.passed


def test_all_faults_of_a_gate_are_in_one_error() -> None:
    with pytest.raises(UserError) as error:
        Gate({"acuracy": 1}, True, "bettr", -1, 2, 0, 0, 0)
    assert len(error.value.faults) == 4
    assert "did you mean better?" in str(error.value)
    assert "did you mean accuracy?" in str(error.value)


@pytest.mark.parametrize("name", sorted(set(choices("split")) - {"time", "given"}))
def test_the_gates_folds_are_of_the_kind_of_the_runs(name: str) -> None:
    own = composed(f"split={name}").split
    gates = split_like(own, seed=1000, n_repeats=2)
    splitter = instantiate(gates)
    X = pd.DataFrame({"a": np.arange(60) // 3})
    y = pd.Series(X["a"] % 2)
    args = (X, y, group_identical_rows(X))
    folds = split.folds(splitter, *args)
    assert len(folds) == splitter.get_n_splits() == 2 * instantiate(own).get_n_splits() // own.get("n_repeats", 1)
    separates_copies = [bool(set(X["a"].iloc[train]) & set(X["a"].iloc[test])) for train, test in folds]
    assert set(separates_copies) == {name in ("runs", "stratified", "tabarena")}
    own_tests = {tuple(test) for _, test in split.folds(instantiate(own), *args)}
    assert not own_tests & {tuple(test) for _, test in folds}


@pytest.mark.parametrize("name", ["time", "given"])
def test_folds_that_the_data_say_are_the_gates_too(name: str) -> None:
    own = composed(f"split={name}").split
    assert split_like(own, seed=1000, n_repeats=2) == own


@pytest.mark.journey
def test_a_split_without_a_seed_has_no_other_folds() -> None:
    own = OmegaConf.create({"_target_": "sklearn.model_selection.KFold", "n_splits": 4})
    assert split_like(own, seed=1000, n_repeats=2) == own
