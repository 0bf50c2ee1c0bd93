"""`device=cuda`: refused where it would not be what it says, recorded with the card, and served from the CPU.

No test needs a card but the last one: a driver's libraries are stood in for, and XGBoost trains on the CPU, with a
warning, where it sees no card.
"""

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from xgboost import XGBClassifier

from tests.conftest import new_database
from wineexp import UserError, compose, reproduce, train
from wineexp.models import _cuda, device
from wineexp.models._cuda import Card, first_card
from wineexp.models.device import on_device, predicting_on_cpu
from wineexp.models.pipeline import FixedClassesClassifier
from wineexp.reports import lineage
from wineexp.tracking.runs import Runs
from wineexp.workflows.experiment import config_faults

CARD = Card("NVIDIA Test 1", "550.1", "12.4")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that the project believes in."""
    monkeypatch.setattr(device, "first_card", lambda: CARD)


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (["device=gpu"], "device=gpu: one of cpu, cuda is wanted"),
        (["device=cuda"], "device=cuda: no CUDA card is visible here; choose device=cpu"),
        (["device=cuda", "model=logreg"], "a LogisticRegression is trained on the CPU alone; choose model=xgb"),
        (["+model.device=cuda"], "model.device=cuda: the key device=cuda says it for every model"),
    ],
)
def test_a_device_that_a_run_would_not_have_is_refused(
    monkeypatch: pytest.MonkeyPatch, overrides: list[str], fault: str
) -> None:
    monkeypatch.setattr(device, "first_card", lambda: None)
    (found,) = config_faults(compose("data=cultivar", "tracking=off", *overrides))
    assert fault in found


@pytest.mark.usefixtures("card")
def test_a_build_without_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xgboost.build_info", lambda: {"USE_CUDA": False})
    (fault,) = device.device_faults(XGBClassifier(), "cuda")
    assert fault.startswith("device=cuda: XGBoost ")
    assert "built without CUDA" in fault


@pytest.mark.usefixtures("card")
@pytest.mark.skipif(first_card() is not None, reason="a card is visible here, which a build with CUDA can use")
@pytest.mark.parametrize(("package", "model"), [("lightgbm", "LGBMClassifier"), ("catboost", "CatBoostClassifier")])
def test_other_libraries_that_see_no_card_are_refused(package: str, model: str) -> None:
    estimator = getattr(pytest.importorskip(package), model)()
    (fault,) = device.device_faults(estimator, "cuda")
    assert fault.startswith("device=cuda: ")
    assert "\n" not in fault


def test_the_card_is_that_which_the_driver_names(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        """Both of the driver's libraries, as far as they are called."""

        cuInit = staticmethod(lambda _: 0)  # noqa: N815  named as in C
        cuDeviceGet = staticmethod(lambda *_: 0)  # noqa: N815
        nvmlInit_v2 = staticmethod(lambda: 0)  # noqa: N815

        @staticmethod
        def cuDeviceGetName(text: Any, *_: Any) -> int:  # noqa: N802
            text.value = b"NVIDIA Test 1"
            return 0

        @staticmethod
        def cuDriverGetVersion(version: Any) -> int:  # noqa: N802
            version._obj.value = 12040
            return 0

        @staticmethod
        def nvmlSystemGetDriverVersion(text: Any, _: int) -> int:  # noqa: N802
            text.value = b"550.1"
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library)
    assert first_card.__wrapped__() == CARD
    monkeypatch.setattr(Library, "cuInit", staticmethod(lambda _: 100))
    assert first_card.__wrapped__() is None, "no device"


@pytest.mark.usefixtures("card")
def test_every_part_that_knows_a_device_gets_it() -> None:
    vote = VotingClassifier([("a", XGBClassifier()), ("b", RandomForestClassifier())])
    assert device.device_faults(vote, "cuda") == []
    assert on_device(vote, "cuda").estimators[0][1].device == "cuda"
    assert vote.estimators[0][1].device is None, "a copy was changed"
    assert on_device(vote, "cpu") is vote


@pytest.mark.filterwarnings("ignore:.*No visible GPU:UserWarning", "ignore:.*changed from GPU to CPU:UserWarning")
def test_a_model_that_was_trained_on_a_card_predicts_on_the_cpu() -> None:
    X, y = np.arange(40.0)[:, None], np.arange(40) // 20
    vote = VotingClassifier([("a", XGBClassifier(n_estimators=2, device="cuda"))], voting="soft")
    assert predicting_on_cpu(vote.fit(X, y)).estimators_[0].device == "cpu"
    model = FixedClassesClassifier(XGBClassifier(n_estimators=2, device="cuda"), [0, 1]).fit(X, y)
    assert model.estimator_.device == "cpu"


@pytest.mark.journey
@pytest.mark.usefixtures("card")
@pytest.mark.filterwarnings("ignore:.*No visible GPU:UserWarning", "ignore:.*changed from GPU to CPU:UserWarning")
def test_a_run_records_its_card_and_is_reproduced_on_another_one_only_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    new_database(tmp_path)
    uri = f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"
    settings = ["data=cultivar", "model.n_estimators=2", "split.n_splits=2", "device=cuda"]
    run_id = train(compose(*settings, uri)).run_id
    found = lineage.lineage(run_id, Runs(uri.partition("=")[2], "wine"))
    assert "trained on NVIDIA Test 1, driver 550.1, CUDA 12.4" in lineage.tree(found)

    def certificate(*overrides: str) -> Any:
        return reproduce(compose(f"run={run_id}", uri, *overrides, program="reproduce"))

    assert "machine.card" in [pair.name for pair in certificate().origin if pair.equal]
    monkeypatch.setattr(device, "first_card", lambda: Card("NVIDIA Test 2", "550.1", "12.4"))
    with pytest.raises(UserError, match=r"machine\.card: recorded NVIDIA Test 1, now NVIDIA Test 2"):
        certificate()
    monkeypatch.setattr(device, "first_card", lambda: None)
    with pytest.raises(UserError, match="no CUDA card is visible here"):
        certificate("strict=false")
    on_cpu = certificate("strict=false", "device=cpu")
    assert "not as recorded: machine.card: recorded NVIDIA Test 1, now nothing" in caplog.text
    assert on_cpu.first_difference is None, "XGBoost trained on the CPU both times"


@pytest.mark.skipif(first_card() is None, reason="no CUDA card is visible here; benchmarks/gpu has all checks of one")
def test_a_card_trains_twice_the_same() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(2000, 5)), columns=list("abcde"))
    y = (X.sum(axis=1) > 0).astype(int)
    model = on_device(XGBClassifier(n_estimators=20), "cuda")
    first, again = (FixedClassesClassifier(model, [0, 1]).fit(X, y).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert _cuda.first_card() is not None
