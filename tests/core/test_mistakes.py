"""A user's mistake becomes one message that says what to do, with exit code 1 and no traceback."""

from pathlib import Path

import pytest
import yaml

from tests.conftest import Command
from wineexp import UserError, compose, train

# What the user gave, and what the message must hold.
MISTAKES = {
    "unknown key": (["model.max_deph=3"], ["model.max_deph: no such key", "did you mean max_depth?"]),
    "unknown group": (["modle=xgb"], ["modle", "did you mean model?"]),
    "no choice of a group": (["~model"], ["model: nothing is chosen; --help lists the choices of model="]),
    "unknown choice": (["model=xgbost"], ["model=xgbost: no such choice", "did you mean xgb?", "logreg"]),
    "wrong type by the config schema": (["seed=abc"], ["seed: ", "'abc'"]),
    "wrong type by an annotation": (["model.max_depth=deep"], ["model.max_depth=deep: ", "int", "but got str"]),
    "value that scikit-learn refuses": (
        ["model=forest", "model.n_estimators=-1"],
        ["model.n_estimators=-1: ", "must be an int in the range [1, inf)"],
    ),
    "added key that XGBoost would ignore": (["+model.max_deph=3"], ["model.max_deph=3", "did you mean max_depth?"]),
    "missing argument": (["~feature.strategy"], ["feature.strategy is missing"]),
    "value that the splitter refuses": (["split.n_splits=1"], ["split: ", "n_splits=1"]),
    "more folds than rows": (["split.n_splits=1000"], ["split: ", "n_splits=1000"]),
    "value that XGBoost refuses": (["model.tree_method=histt"], ["fitting failed", "histt"]),
    "value that XGBoost does not check": (
        ["model.n_estimators=-5", "model.subsample=7"],
        ["2 faults:", "model.n_estimators=-5: 1 <= n_est", "model.subsample=7: 0 < subsample <= 1 must hold"],
    ),
    "no concurrent fold": (["n_jobs=0"], ["n_jobs=0: n_jobs >= 1 must hold"]),
    "holdout out of range": (["holdout.size=0.9"], ["holdout.size=0.9: 0 <= size <= 0.5 must hold"]),
    "fold of the holdout out of range": (
        ["holdout.fold=5"],
        ["holdout.fold=5: 0 <= fold < 5 must hold, where holdout.size=0.2"],
    ),
    "target of another data set": (["target=grade"], ["target.column=quality", "it has targets in cultivar"]),
    "metric of another target": (["target.metric=roc_auc"], ["target.metric=roc_auc", "choices: accuracy"]),
    "metric in the wrong direction": (
        ["target.direction=minimize"],
        ["target.direction=minimize: accuracy is to maximize"],
    ),
    "missing pin": (["data.path=data/raw/nope.dvc"], ["data/raw/nope.dvc", "data/raw/wine.data.dvc"]),
    "package that is not installed": (
        ["model._target_=lightgbn.LGBMClassifier"],
        [
            "model._target_=lightgbn.LGBMClassifier: there is no package lightgbn here",
            "pip install '.[boost]'",
            "PYTHONPATH",
        ],
    ),
    "target that wineexp 0.2 moved": (
        ["data._target_=wineexp.data.cultivar"],
        ["data._target_=wineexp.data.cultivar: wineexp has no such class or function", "must be trained anew"],
    ),
    "target that Hydra considers dangerous": (["model._target_=os.system"], ["model._target_=os.system: "]),
    "several at once": (
        ["model.max_depth=deep", "+feature.strateggy=mean"],
        ["2 faults:", "  - feature.strateggy=mean: ", "did you mean strategy?", "  - model.max_depth=deep: "],
    ),
    "several choices at once": (
        ["model=svmm", "model.C=1", "data=rde"],
        ["2 faults:", "  - model=svmm: no such choice; did you mean svm?", "  - data=rde: ", "did you mean red?"],
    ),
    "several keys at once": (
        ["model.max_dept=3", "seeds=1"],
        ["2 faults:", "  - model.max_dept: ", "did you mean max_depth?", "  - seeds: ", "did you mean seed?"],
    ),
    "key of another node": (["max_depth=3"], ["max_depth: no such key; did you mean model.max_depth?"]),
    "seed of a sampler": (
        ["hydra.sweeper.sampler.seed=1"],
        ["hydra.sweeper.sampler.seed: no such key; hydra.sweeper.seed is the seed"],
    ),
    "syntax of an override": (["model=[xgb"], ["[xgb"]),
    "store that is not there": (
        ["tracking=server", "tracking.uri=http://127.0.0.1:9"],
        ["tracking.uri=http://127.0.0.1:9", "tracking=off"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_explained_in_a_line_for_each_fault(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides, parts = MISTAKES[mistake]
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking = [] if any("tracking" in override for override in overrides) else ["tracking=off"]
    with pytest.raises(UserError) as caught:
        train(compose(*overrides, *tracking, f"hydra.run.dir={tmp_path}"))
    message = str(caught.value)
    assert [part for part in parts if part not in message] == [], message
    assert len(message.splitlines()) == (3 if "2 faults:" in parts else 1)


def test_a_file_of_conf_that_is_not_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/broken.yaml").write_text("a: b: c\n")
    with pytest.raises(UserError, match=r"mapping values are not allowed here .*broken\.yaml"):
        compose("model=broken", config_dir=tmp_path)


# Each of these leaves the program by a way of its own.
EXITS = {
    "mistake that Hydra finds": (["train", "model.max_deph=3"], ["model.max_deph: no such key"]),
    "mistakes that the program finds": (
        ["fetch", "~data.path", "+data.paths=wine.dvc"],
        ["2 faults:", "  - data.paths=wine.dvc: ", "did you mean path?", "  - data.path is missing: "],
    ),
    "several mistakes that Hydra finds": (
        ["train", "model=xbg", "data=rde", "--config-dir=."],
        ["2 faults:", "  - model=xbg: ", "did you mean xgb?", "  - data=rde: ", "did you mean red?"],
    ),
    "options of Hydra that exclude each other": (["train", "-m", "--cfg", "job"], ["Only one of", "--cfg"]),
}


@pytest.mark.parametrize("mistake", EXITS)
def test_a_mistake_on_the_command_line_exits_with_1_and_without_a_traceback(mistake: str, command: Command) -> None:
    arguments, parts = EXITS[mistake]
    done = command(*arguments, afresh=True)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert [part for part in parts if part not in done.stderr] == [], done.stderr
    assert len(done.stderr.splitlines()) == (3 if "2 faults:" in parts else 1)


def test_hydra_full_error_shows_the_traceback(command: Command) -> None:
    done = command("train", "model.max_deph=3", afresh=True, HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert "ConfigCompositionException: Could not override 'model.max_deph'" in done.stderr


def test_the_config_is_printed_instead_of_run(command: Command) -> None:
    done = command("train", "--cfg", "job", "--resolve", "model=forest", afresh=True)
    assert done.returncode == 0
    assert yaml.safe_load(done.stdout)["model"]["_target_"] == "sklearn.ensemble.RandomForestClassifier"


def test_tab_completion_after_python_m_completes_the_choices(command: Command) -> None:
    line = "python -m wineexp.train model=x"
    done = command("train", "-sc", "query=bash", afresh=True, COMP_LINE=line, COMP_POINT=str(len(line)))
    assert done.stdout.split() == ["model=xgb"]
