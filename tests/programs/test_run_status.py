"""How a run is closed in MLflow that fails or is stopped."""

import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import LoggedModelStatus

from tests import preloaded
from tests.conftest import Command, environment, new_database, start_preloaded
from tests.programs.test_train import client, runs
from wineexp.tracking import run as tracking_run


def test_a_run_that_fails_is_closed_as_failed(command: Command, tmp_path: Path) -> None:
    done = command("train", "model.tree_method=histt")
    assert done.returncode == 1
    (failed,) = runs(tmp_path)
    assert failed.info.status == "FAILED"
    assert "histt" in failed.data.tags["error"]
    assert "traceback.txt" in {artifact.path for artifact in client(tmp_path).list_artifacts(failed.info.run_id)}


def wait_for_a_run(database: Path, process: preloaded.Process) -> None:
    """Wait until a process has opened its run; read past MLflow, which would make the tables itself."""
    deadline = time.monotonic() + 120
    while process.is_running() and time.monotonic() < deadline:
        try:
            with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
                if connection.execute("SELECT count(*) FROM runs").fetchone() != (0,):
                    return
        except sqlite3.OperationalError:
            pass
        time.sleep(0.1)
    pytest.fail(f"no run was opened: {process.wait(0)}")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_is_closed_as_killed(number: signal.Signals, code: int, tmp_path: Path) -> None:
    new_database(tmp_path)
    arguments = ["-m", "wineexp.train", "model=forest", "model.n_estimators=1000000"]
    process = start_preloaded(arguments, tmp_path, environment(tmp_path))
    wait_for_a_run(tmp_path / "mlflow.db", process)
    os.kill(process.pid, number)
    done = process.wait(60)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    (stopped,) = runs(tmp_path)
    assert stopped.info.status == "KILLED", done.stderr


def tracked_run(folder: Path) -> tracking_run.Run:
    """A run in a store of the folder's, with no files of its own."""
    (folder / "files").mkdir()
    new_database(folder)
    return tracking_run.Run(f"sqlite:///{folder}/mlflow.db", experiment="e", name="n", tags={}, folder=folder / "files")


def stop_while_storing_a_model(folder: Path) -> None:
    with tracked_run(folder) as storing:
        mlflow.initialize_logged_model("model", source_run_id=storing.id)
        raise KeyboardInterrupt


def test_a_model_that_was_being_stored_is_not_left_pending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(KeyboardInterrupt):
        stop_while_storing_a_model(tmp_path)
    (killed,) = runs(tmp_path)
    assert killed.info.status == "KILLED"
    (model,) = client(tmp_path).search_logged_models([killed.info.experiment_id])
    assert model.status == LoggedModelStatus.FAILED


def fail_with_an_error_of_a_library(folder: Path) -> None:
    with tracked_run(folder):
        raise ValueError("count <= total_entries")


@pytest.mark.parametrize(("signals", "status"), [([signal.SIGINT], "KILLED"), ([], "FAILED")])
def test_a_stop_that_a_library_turned_into_a_failure_is_still_a_stop(
    signals: list[int], status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    # XGBoost raises an error of its own if Ctrl-C arrives during a callback.
    monkeypatch.setattr(tracking_run, "received_signals", signals)
    with pytest.raises(ValueError, match="total_entries"):
        fail_with_an_error_of_a_library(tmp_path)
    (ended,) = runs(tmp_path)
    assert ended.info.status == status


def test_a_run_whose_files_cannot_be_stored_is_not_closed_as_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def fail(*_: str | None) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(mlflow, "log_artifact", fail)
    with pytest.raises(OSError, match="no space"), tracked_run(tmp_path) as failing:
        failing.file("notes.txt").write_text("a note")
    (failed,) = runs(tmp_path)
    assert failed.info.status == "FAILED"
