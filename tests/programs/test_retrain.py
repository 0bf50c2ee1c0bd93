"""`python -m wineexp.retrain`: labelled rows become a pinned part of the data, and what learned from them is judged."""

import hashlib
import importlib
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import wineexp.add
from tests import preloaded
from tests.conftest import environment, new_database
from wineexp import UserError, abtest, compose, promote, retrain, train
from wineexp.core import paths
from wineexp.data import pin
from wineexp.monitoring import prediction_log, verdicts
from wineexp.monitoring.format import predictions_layout
from wineexp.retrain import RetrainResult
from wineexp.tracking.registry import Registry
from wineexp.tracking.runs import Runs
from wineexp.workflows import candidate, retraining_sweep

URI = "sqlite:///mlflow.db"
GATE = ("allow=[dirty]", "repeats=1", "model@baseline=majority", "gate.calibration_margin=1", "registry.name=churn")


def customers(n_rows: int, *, turned: bool, seed: int) -> pd.DataFrame:
    """Customers who leave where they call much; or others, who call more, and leave where they call little."""
    rng = np.random.default_rng(seed)
    calls = rng.normal(0, 1, n_rows).round(3)
    churned = np.where((calls < 0) if turned else (calls > 0), "yes", "no")
    return pd.DataFrame(
        {"Calls Made": calls + 10 * turned, "plan": rng.choice(["pro", "basic"], n_rows), "churned": churned}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A user's folder with a data set and a champion."""
    folder = tmp_path_factory.mktemp("churn")
    new_database(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(paths, "ROOT", folder)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        monkeypatch.setattr(candidate, "compile_pipeline", lambda *_: (None, "a test needs no compiled form"))
        customers(300, turned=False, seed=0).to_csv("churn.csv", index=False)
        wineexp.add(compose("file=churn.csv", "target=churned", program="add"))
        run = train(
            compose(
                "data=churn", "model=forest", "model.n_estimators=20", "split.n_splits=3", config_dir=folder / "conf"
            )
        ).run_id
        promote(compose(f"run={run}", *GATE, program="promote", config_dir=folder / "conf"))
        shutil.copytree(folder, folder.with_name("untouched"))
        yield folder


def answered(log: Path, rows: pd.DataFrame, prefix: str, *, labelled: bool = True) -> None:
    store, now = prediction_log.open_store(str(log)), time.time_ns() // 1000
    inputs = [("Calls_Made", False), ("plan", True)]
    layout = predictions_layout("churn", 1, inputs, classes=["no", "yes"])
    lines = zip(rows["Calls Made"], rows["plan"], strict=True)
    store.write(
        layout,
        [(now + i, f"{prefix}{i}", 0, 1.0, "", "no", 0.6, 0.4, float(a), b) for i, (a, b) in enumerate(lines)],
    )
    if labelled:
        store.write_truths([(now + 10**7, f"{prefix}{i}", 0, label) for i, label in enumerate(rows["churned"])])
    store.close()


def run(folder: Path, log: Path, *overrides: str) -> RetrainResult:
    result = retrain(compose(f"log={log}", *GATE, *overrides, program="retrain", config_dir=folder / "conf"))
    assert isinstance(result, RetrainResult)
    return result


@pytest.mark.journey
def test_what_turned_is_learned_pinned_and_promoted_as_a_challenger(folder: Path, tmp_path: Path) -> None:
    answered(tmp_path / "log", customers(150, turned=True, seed=1), "a")
    answered(tmp_path / "log", customers(50, turned=True, seed=2), "b", labelled=False)
    first = run(folder, tmp_path / "log")
    assert first.version is not None, first.why
    registry = Registry(URI, "churn")
    assert registry.aliases() == {"champion": 1, "challenger": 2}
    # The snapshot has a pin of its own, whose md5 is in the version's lineage.
    assert first.snapshot is not None
    assert first.snapshot.parent == folder / "data/feedback"
    record = Runs(URI, "churn").get("challenger")
    own, feedback = record.tags["data.md5"].split("+")
    assert feedback[:12] in first.snapshot.name
    assert Runs(URI, "churn").get("champion").tags["data.md5"] == own
    assert record.tags["data.rows"] == "450"
    # No row of feedback is held out: the holdout is that of the champion.
    tables = [Runs(URI, "churn").get(alias).predictions() for alias in ("champion", "challenger")]
    held_out = [set(table.loc[table["fold"] == -1, "row"]) for table in tables if table is not None]
    assert held_out[0] == held_out[1]
    # Started again, it finds all of it done, and mends what a process left that was killed while it wrote.
    first.snapshot.write_text("outs:\n- md5: ")
    assert run(folder, tmp_path / "log").version == first.version
    assert len(list((folder / "data/feedback").glob("*.dvc"))) == 1


# In the order in which they are reached; the lines below the break hold the registry's lock.
KILLS = [
    "wineexp.data.pinned_file:write:before",
    "wineexp.data.pin:write:before",
    "half a pin",
    "wineexp.data.pin:store_in_cache:before",
    "wineexp.tracking.run:Run.__enter__:after",
    "wineexp.workflows.candidate:Candidate.train:after",
    "wineexp.workflows.candidate:Candidate.store:after",
    "wineexp.tracking.registry:Registry.verify_stored_model:after",
    #
    "wineexp.tracking.registry:Registry.register:before",
    "wineexp.tracking.registry:Registry.register:after",
    "wineexp.tracking.history:History.append:after",
    "mlflow:MlflowClient.set_registered_model_alias:after",
]


@pytest.mark.journey
def test_wherever_it_is_killed_or_started_twice_it_makes_one_version_of_all_feedback(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = folder.with_name("untouched")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{own}/mlflow.db")
    answered(own / "log", customers(150, turned=True, seed=1), "a")

    def start(point: str) -> preloaded.Process:
        script = str(Path(__file__).with_name("killed_at.py"))
        return preloaded.Process([script, point, "retrain", "log=log", *GATE], own, environment(own))

    for point in KILLS:
        assert start(point).wait(120).returncode == -signal.SIGKILL, point
    last = start("nowhere").wait(120)
    assert last.returncode == 0, last.stderr
    registry = Registry(f"sqlite:///{own}/mlflow.db", "churn")
    assert [version.number for version in registry.versions()] == [2, 1]
    assert registry.aliases() == {"champion": 1, "challenger": 2}
    (pinned,) = (own / "data/feedback").glob("*.dvc")
    assert pin.read(pinned).md5 == hashlib.md5(pinned.with_suffix("").read_bytes()).hexdigest()
    assert Runs(registry.uri, "churn").get("challenger").tags["data.rows"] == "450"
    # More rows, and two processes at once.
    answered(own / "log", customers(150, turned=True, seed=7), "b")
    processes = [start("nowhere"), start("nowhere")]
    assert [process.wait(120).returncode for process in processes] == [0, 0]
    assert [version.number for version in registry.versions()] == [3, 2, 1]
    assert registry.aliases() == {"champion": 1, "challenger": 3, "previous-challenger": 2}
    assert Runs(registry.uri, "churn").get("challenger").tags["data.rows"] == "600"


def test_nothing_is_promoted_for_a_reason_of_one_line(folder: Path, tmp_path: Path) -> None:
    answered(tmp_path / "few", customers(30, turned=True, seed=3), "c")
    assert run(folder, tmp_path / "few").why == "30 new rows have a label, and min_rows=100 are wanted"
    with pytest.raises(UserError, match="since=alarm: the monitor last raised no alarm about version 1 of churn"):
        run(folder, tmp_path / "few", "since=alarm")
    quiet, changed = (
        {"alarm": alarm, "overruled": "", "since": when} for alarm, when in ((False, None), (True, "2999-01-01"))
    )
    said = {
        "with_labels": changed,
        "without_labels": quiet,
        "unlike_training": changed | {"overruled": "x", "since": "2000-01-01"},
    }
    verdicts.write(str(tmp_path / "few"), "churn", 1, verdicts.DRIFT, said)
    assert run(folder, tmp_path / "few", "since=alarm").why.startswith("0 new rows have a label")
    answered(tmp_path / "same", customers(120, turned=False, seed=4), "d")
    refused = run(folder, tmp_path / "same")
    assert refused.version is None
    assert refused.why.startswith("refused by better: ")
    again = run(folder, tmp_path / "same")
    assert again.why.startswith("this was tried before on the same rows, and refused: better: ")


@pytest.mark.journey
def test_a_gate_that_requires_a_live_test_takes_its_word(folder: Path, tmp_path: Path) -> None:
    live = (*GATE, "gate.live=required", "run=challenger", f"log={tmp_path / 'log'}")
    answered(tmp_path / "log", customers(10, turned=True, seed=5), "x")
    with pytest.raises(UserError, match=r"refused by live: .*no row of the test has a label yet"):
        promote(compose(*live, program="promote", config_dir=folder / "conf"))
    store, now = prediction_log.open_store(str(tmp_path / "log")), time.time_ns() // 1000
    for version, variant, decision, share in ((1, "champion", "no", 0.2), (2, "challenger", "yes", 0.8)):
        layout = predictions_layout("churn", version, [], variant=variant, classes=["no", "yes"])
        store.write(layout, [(now + i, f"live{i}", 0, 1.0, "", decision, 1 - share, share) for i in range(60)])
    store.write_truths([(now + 10**7, f"live{i}", 0, "yes") for i in range(60)])
    store.close()
    assert abtest(compose(f"log={tmp_path / 'log'}", "registry.name=churn", program="abtest")).test.verdict == "better"
    result = promote(compose(*live, program="promote", config_dir=folder / "conf"))
    assert result.version.number == 2
    history = promote(compose("history=true", "registry.name=churn", program="promote")).decisions[-1]
    assert any(line.startswith("live: churn: version 2 (challenger) beside version 1") for line in history.why)


def test_what_cannot_be_trained_anew_is_refused(folder: Path) -> None:
    with pytest.raises(UserError) as refusal:
        run(folder, Path("log"), "challenger=champion", "min_rows=0", "allow=[data]")
    assert len(refusal.value.faults) == 4


def test_a_sweep_has_the_champions_config_but_for_what_it_varies(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps: list[list[str]] = []
    really_run = subprocess.run

    def fail(command: list[str], **options: Any) -> Any:
        if "-m" not in command[3:]:
            return really_run(command, **options)
        sweeps.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(retraining_sweep.subprocess, "run", fail)
    answered(tmp_path / "log", customers(110, turned=True, seed=6), "s")
    result = run(folder, tmp_path / "log", "sweep=true", "n_trials=3", "alias=1")
    assert result.why.startswith("the sweep churn-")
    assert result.snapshot is not None
    (command,) = sweeps
    overrides = [word for word in command[4:] if not word.startswith("hydra.")]
    assert command[:4] == [sys.executable, "-m", "wineexp.train", "-m"]
    assert f"hydra.sweeper.study_name={result.snapshot.name.partition('.')[0]}" in command
    cfg = compose(*overrides, config_dir=folder / "conf")
    assert list(cfg.data.feedback) == [f"data/feedback/{result.snapshot.name}"]
    # That is the champion's; the number of trees is the sweep's to choose.
    assert cfg.split.n_splits == 3
    assert not any(word.startswith("model.n_estimators") for word in overrides)


@pytest.mark.parametrize("program", ["retrain", "abtest", "monitor"])
def test_a_part_of_the_log_that_cannot_be_is_refused_with_all_faults(program: str, tmp_path: Path) -> None:
    times = {"monitor": ["since"]}.get(program, ["since", "until"])
    options = [f"log={tmp_path}/nowhere", *(f"{name}=gestern" for name in times)]
    with pytest.raises(UserError) as refused:
        importlib.import_module(f"wineexp.{program}")(compose(*options, program=program))
    assert refused.value.faults == (
        f"log={tmp_path}/nowhere: there is no such folder; a server makes one with serve.log={tmp_path}/nowhere",
        *(f"{name}=gestern: this is no time; give one such as 2026-11-01 or 2026-11-01T08:00" for name in times),
    )
