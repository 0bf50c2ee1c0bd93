"""Checks of `_target_` nodes that mistakes on the command line do not reach."""

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

import wineexp.data
from tests.conftest import composed, installed_models
from wineexp.core import _sklearn
from wineexp.core.config import flatten_config
from wineexp.core.instantiation import build, check_node


def node(**keys: object) -> DictConfig:
    return OmegaConf.create(keys)


@pytest.mark.parametrize(
    "path",
    [
        "wineexp.data.cultivar",
        "wineexp.model.CumulativeClassifier",
        "wineexp.feature.scaled",
        "wineexp.data.target.Targett",
    ],
)
def test_a_missing_target_of_wineexp_points_to_the_moved_modules(path: str) -> None:
    (fault,) = check_node("data", node(_target_=path, path="data/raw/wine.data.dvc"))
    assert fault == (
        f"data._target_={path}: wineexp has no such class or function. An earlier version may have had it: a config "
        "that such a version recorded cannot be built any more, its model must be trained anew"
    )


def test_a_missing_target_of_another_package_does_not() -> None:
    (fault,) = check_node("model", node(_target_="sklearn.ensemble.Forest"))
    assert fault.startswith("model._target_=sklearn.ensemble.Forest: Error loading 'sklearn.ensemble.Forest'")
    assert "0.2" not in fault


def test_a_module_of_wineexp_whose_import_fails_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "optional.py").write_text("import a_package_that_is_not_installed\n")
    monkeypatch.setattr(wineexp.data, "__path__", [*wineexp.data.__path__, str(tmp_path)])
    (fault,) = check_node("data", node(_target_="wineexp.data.optional.load"))
    assert "No module named 'a_package_that_is_not_installed'" in fault
    assert "0.2" not in fault


def test_faults_of_nested_nodes_have_their_full_key() -> None:
    tree = {"_target_": "sklearn.tree.DecisionTreeClassifier", "max_depth": 0}
    vote = node(_target_="sklearn.ensemble.VotingClassifier", estimators={"small": tree})
    (fault,) = check_node("model", vote)
    assert fault.startswith("model.estimators.small.max_depth=0: The 'max_depth' parameter")
    steps = node(_target_="sklearn.pipeline.Pipeline", steps=[["tree", {**tree, "max_dept": 3}]])
    first, second = check_node("model", steps)
    assert first.startswith("model.steps.0.1.max_depth=0: The 'max_depth' parameter")
    assert second.startswith("model.steps.0.1.max_dept=3: sklearn.tree.DecisionTreeClassifier has no such argument")


def test_a_valid_config_is_built_with_data_left_to_be_loaded() -> None:
    cfg = node(
        data=composed("data=cultivar").data,
        model={"_target_": "sklearn.dummy.DummyClassifier", "strategy": "prior"},
        seed=0,
    )
    objects = build(cfg)
    assert sorted(objects) == ["data", "model"]
    assert objects["model"].strategy == "prior"
    assert objects["data"]().frame.shape == (178, 14)


def test_what_is_relied_on_of_scikit_learns_private_constraints() -> None:
    from sklearn.ensemble import RandomForestClassifier

    assert _sklearn.declares_constraint(RandomForestClassifier, "n_estimators")
    assert not _sklearn.declares_constraint(RandomForestClassifier, "n_trees")
    assert not _sklearn.declares_constraint(dict, "n_estimators")
    assert _sklearn.constraint_violation(RandomForestClassifier, "n_estimators", 10) is None
    message = _sklearn.constraint_violation(RandomForestClassifier, "n_estimators", 0)
    assert message == (
        "The 'n_estimators' parameter of RandomForestClassifier must be an int in the range [1, inf). Got 0 instead."
    )


@pytest.mark.parametrize(
    ("target", "argument", "rule"),
    [
        ("xgboost.XGBClassifier", {"n_estimators": -5}, "1 <= n_estimators must hold"),
        ("xgboost.XGBClassifier", {"n_estimators": 0}, "1 <= n_estimators must hold"),
        ("xgboost.XGBClassifier", {"subsample": 0.0}, "0 < subsample <= 1 must hold"),
        ("xgboost.XGBClassifier", {"colsample_bytree": 1.5}, "0 < colsample_bytree <= 1 must hold"),
        ("xgboost.XGBClassifier", {"learning_rate": 0.0}, "0 < learning_rate must hold"),
        ("xgboost.XGBClassifier", {"max_depth": -1}, "0 <= max_depth must hold"),
        ("xgboost.XGBClassifier", {"max_bin": 1}, "2 <= max_bin must hold"),
        ("wineexp.sweep.rounds.PrunedXGBClassifier", {"n_estimators": -5}, "1 <= n_estimators must hold"),
        ("lightgbm.LGBMClassifier", {"n_estimators": 0}, "1 <= n_estimators must hold"),
        ("catboost.CatBoostClassifier", {"iterations": 0}, "1 <= iterations must hold"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(target: str, argument: dict[str, float], rule: str) -> None:
    pytest.importorskip(target.partition(".")[0])
    ((name, value),) = argument.items()
    assert check_node("model", node(_target_=target, **argument)) == [f"model.{name}={value}: {rule}"]
    assert check_node("model", node(_target_=target, **{name: 2 if name == "max_bin" else 1})) == []


@pytest.mark.parametrize("name", installed_models())
def test_a_number_of_trees_or_steps_below_1_is_refused_whatever_the_model(name: str) -> None:
    """The library checks it, or its bound is in `wineexp.core.bounds`."""
    counts = ("n_estimators", "max_iter", "iterations", "n_neighbors")
    for key in flatten_config(composed(f"model={name}")):
        if key.startswith("model.") and key.rpartition(".")[2] in counts:
            faults = check_node("model", composed(f"model={name}", f"{key}=-5").model)
            assert [fault.partition(":")[0] for fault in faults] == [f"{key}=-5"]
