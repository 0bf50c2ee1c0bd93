"""A user's mistake is told in one message that says what to do, with exit code 1 and no traceback."""

from pathlib import Path

import pytest

from tests.conftest import Command

MISTAKES = {
    "unknown key": (["model.max_deph=3"], ["model.max_deph", "did you mean max_depth?"]),
    "unknown group": (["modle=xgb"], ["modle", "did you mean model?"]),
    "nothing chosen": (["~model"], ["model: nothing is chosen"]),
    "unknown choice": (["model=xgbost"], ["model=xgbost", "did you mean xgb?", "logreg"]),
    "wrong type in the frame": (["seed=abc"], ["seed", "abc"]),
    "wrong type for a library without checks": (["model.max_depth=deep"], ["model.max_depth=deep", "int"]),
    "value that scikit-learn refuses": (
        ["model=forest", "model.n_estimators=-1"],
        ["model.n_estimators=-1", "must be an int in the range [1, inf)"],
    ),
    "added key that XGBoost would swallow": (["+model.max_deph=3"], ["model.max_deph=3", "did you mean max_depth?"]),
    "all at once": (
        ["model.max_depth=deep", "+feature.strateggy=mean"],
        ["2 faults", "model.max_depth=deep", "feature.strateggy=mean", "did you mean strategy?"],
    ),
    "missing argument": (["~feature.strategy"], ["feature.strategy is missing"]),
    "splitter's own rule": (["split.n_splits=1"], ["split", "n_splits=1"]),
    "more folds than rows": (["split.n_splits=1000"], ["split", "n_splits=1000"]),
    "XGBoost's own rule": (["model.subsample=7"], ["fitting failed", "subsample"]),
    "no fold at a time": (["n_jobs=0"], ["n_jobs=0", "n_jobs >= 1"]),
    "holdout out of range": (["holdout.size=0.9"], ["holdout.size=0.9", "0 <= size <= 0.5"]),
    "fold of the holdout out of range": (["holdout.fold=5"], ["holdout.fold=5", "0 <= fold < 5", "holdout.size=0.2"]),
    "target of other data": (["target=grade"], ["target.column=quality", "cultivar"]),
    "metric of another target": (["target.metric=roc_auc"], ["target.metric=roc_auc", "choices: accuracy"]),
    "metric the other way": (["target.direction=minimize"], ["target.direction=minimize", "accuracy"]),
    "missing pin": (["data.pin_file=data/raw/nope.dvc"], ["data/raw/nope.dvc", "data/raw/wine.data.dvc"]),
    "package that is not installed": (
        ["model._target_=lightgbn.LGBMClassifier"],
        ["model._target_=lightgbn.LGBMClassifier: there is no package lightgbn here", "pip install '.[boost]'"],
    ),
    "dangerous target": (["model._target_=os.system"], ["os.system"]),
    "options that exclude each other": (["-m", "--cfg", "job"], ["Only one of", "--cfg"]),
    "syntax": (["model=[xgb"], ["[xgb"]),
    "no server": (["tracking=server", "tracking.uri=http://127.0.0.1:9"], ["tracking.uri=http://127.0.0.1:9", "off"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_message(mistake: str, command: Command) -> None:
    arguments, told = MISTAKES[mistake]
    store = {"MLFLOW_TRACKING_URI": ""} if mistake == "no server" else {}
    done = command("train", *arguments, **store)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: ")
    for part in told:
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == (3 if mistake == "all at once" else 1)


def test_a_file_of_conf_that_is_no_yaml_is_named(command: Command, tmp_path: Path) -> None:
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/broken.yaml").write_text("a: b: c\n")
    done = command("train", "--config-dir", str(tmp_path / "conf"), "model=broken")
    assert done.returncode == 1
    assert "broken.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_traceback_is_there_for_who_asks(command: Command) -> None:
    done = command("train", "model.max_deph=3", HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["--info", "defaults"]])
def test_questions_about_the_config_are_answered(arguments: list[str], command: Command) -> None:
    done = command("train", *arguments, afresh=True)
    assert done.returncode == 0
    assert "model" in done.stdout


def test_tab_completion_knows_the_choices(command: Command) -> None:
    done = command("train", "-sc", "query=bash", COMP_LINE="python -m wineexp.train model=x", COMP_POINT="31")
    assert "model=xgb" in done.stdout
