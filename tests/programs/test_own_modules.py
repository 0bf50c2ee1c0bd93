"""Classes of the user's own, in modules outside wineexp: trusted, recorded, promoted and reproduced."""

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.conftest import new_database, run
from wineexp import UserError, compose, load, promote, reproduce, train
from wineexp.core.paths import ROOT
from wineexp.models import persistence
from wineexp.tracking import modules
from wineexp.tracking.runs import Runs
from wineexp.workflows import candidate

MODEL = """
from sklearn.linear_model import LogisticRegression
from own_settings import ITERATIONS

class Own(LogisticRegression):
    fits = 0

    def fit(self, X, y):
        type(self).fits += 1
        return super().fit(X, y)
"""
OWN_TYPE = "own_models.linear.Own"
CHEAP = ("model=own", "split.n_splits=2")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a store, a model class of the user's own in a folder on the path, and its YAML."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    new_database(tmp_path)
    for name, text in {
        "code/own_models/__init__.py": "",
        "code/own_models/linear.py": MODEL,
        "code/own_settings.py": "ITERATIONS = 100",
        "conf/model/own.yaml": f"_target_: {OWN_TYPE}\nmax_iter: 1000\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "code")
    yield tmp_path
    forget_modules()


def forget_modules() -> None:
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


def train_own(*overrides: str) -> str:
    return train(compose(*CHEAP, *overrides)).run_id


@pytest.mark.usefixtures("project")
def test_a_type_that_is_not_trusted_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(UserError, match=rf"say 'trust=\[{OWN_TYPE}\]' wherever"):
        train_own("trust=[elsewhere.Other]")
    with pytest.raises(UserError, match=r"trust=Own: the full name of a class is wanted, as my\.module\.Model"):
        train_own("trust=[Own]")
    assert sys.modules["own_models.linear"].Own.fits == 0


@pytest.mark.journey
def test_a_sweep_refuses_a_choice_whose_type_is_not_trusted_before_its_first_trial(project: Path) -> None:
    (project / "conf/model/own.yaml").write_text(f"_target_: {OWN_TYPE}\nC: 1.0\n")
    sweep = ("train", "-m", "model=logreg,own", "model.C=1,-1")
    done = run(project, *sweep, PYTHONPATH=f"{ROOT}:{project}/code")
    assert done.returncode == 1
    for fault in (f"WINEEXP_TRUSTED_TYPES={OWN_TYPE}", "model.C=-1: The 'C' parameter of LogisticRegression must be"):
        assert fault in done.stderr
    assert not (project / "multirun").exists()
    done = run(project, *sweep, f"trust=[{OWN_TYPE}]", PYTHONPATH=f"{ROOT}:{project}/code")
    assert "model.C=-1" in done.stderr
    assert "trust" not in done.stderr


def test_an_estimator_that_scikit_learn_cannot_copy_is_refused_before_it_is_fitted(project: Path) -> None:
    source = MODEL.replace("    fits = 0", "    def __init__(self, strength=1):\n        self.C = strength")
    (project / "code/own_models/linear.py").write_text(source)
    (project / "conf/model/own.yaml").write_text(f"_target_: {OWN_TYPE}\n")
    with pytest.raises(UserError, match=rf"model\._target_={OWN_TYPE}: .* must name each of them and store it under"):
        train_own()


def test_a_type_that_only_a_fitted_model_holds_is_refused_after_the_first_fold(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINEEXP_TRUSTED_TYPES", OWN_TYPE)
    source = MODEL.replace("return super()", "self.note_ = Note()\n        return super()") + "\nclass Note: pass\n"
    (project / "code/own_models/linear.py").write_text(source)
    with pytest.raises(UserError, match=r"the model holds own_models\.linear\.Note, which is not trusted"):
        train_own()
    assert sys.modules["own_models.linear"].Own.fits == 1


def test_a_trusted_type_is_recorded_with_its_modules_and_a_missing_one_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = train_own(f"trust=[elsewhere.Other,{OWN_TYPE}]")
    assert "WINEEXP_TRUSTED_TYPES" not in os.environ
    tags = MlflowClient().get_run(run_id).data.tags
    sha256 = hashlib.sha256(MODEL.encode()).hexdigest()
    assert tags["module.own_models.linear"] == sha256
    # What the module imports counts, and the package that it is in.
    assert {tag for tag in tags if tag.startswith("module.")} == {
        f"module.{name}" for name in ("own_models", "own_models.linear", "own_settings")
    }
    stored = Path(MlflowClient().download_artifacts(run_id, "modules"))
    assert (stored / "own_models/linear.py").read_text() == MODEL
    assert (stored / "own_models/__init__.py").is_file()
    # What the run's config trusted does not count, as it does not for a server.
    with pytest.raises(UserError, match=r"not trusted"):
        persistence.load(Path(MlflowClient().download_artifacts(run_id, "model")))
    monkeypatch.setenv("WINEEXP_TRUSTED_TYPES", f"elsewhere.Other, {OWN_TYPE}")
    assert reproduce(compose(f"run={run_id}", program="reproduce")).first_difference is None
    record, restored = Runs(f"sqlite:///{project}/mlflow.db", "wine").get(run_id), project / "restored"
    assert modules.restore(record, restored) == restored / "modules"
    assert (restored / "modules/own_models/linear.py").read_text() == MODEL
    MlflowClient().log_text(run_id, "ITERATIONS = 3", "modules/own_settings.py")
    with pytest.raises(UserError, match=r"used the module own_settings, of which it has no copy that equals the tag"):
        modules.restore(record, restored)
    (project / "code/own_settings.py").write_text("ITERATIONS = 101")
    shutil.rmtree(project / "code/own_models")
    forget_modules()
    with pytest.raises(UserError) as refusal:
        reproduce(compose(f"run={run_id}", program="reproduce"))
    message = str(refusal.value)
    assert f"module.own_models.linear: recorded {sha256}, now nothing" in message
    assert "module.own_settings: recorded" in message
    assert "The run used own_models, own_models.linear, not found here: put the folder that holds it" in message


@pytest.mark.journey
@pytest.mark.usefixtures("project")
def test_a_type_that_only_this_process_trusts_moves_no_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    trusted = persistence.TRUSTED_TYPES
    monkeypatch.setattr(persistence, "TRUSTED_TYPES", [*trusted, OWN_TYPE])
    monkeypatch.setattr(candidate, "compile_pipeline", lambda *_: (None, "a test needs no compiled form"))
    run_id = train_own()
    cheap = ["repeats=1", "model@baseline=majority", "allow=[dirty]"]
    with pytest.raises(UserError, match=f"refused by served: no server can load it: the model holds {OWN_TYPE}"):
        promote(compose(f"run={run_id}", *cheap, program="promote"))
    assert MlflowClient().get_registered_model("wine").aliases == {}
    # Whose config trusts it gets the version, and nobody else.
    monkeypatch.setattr(persistence, "TRUSTED_TYPES", trusted)
    promote(compose(f"run={run_id}", *cheap, f"trust=[{OWN_TYPE}]", program="promote"))
    with pytest.raises(UserError, match="not trusted"):
        load("champion")
    assert type(load("champion", trust=[OWN_TYPE])[-1].estimator_).__name__ == "Own"
