"""`python -m wineexp.monitor`: what it finds in a log, what it leaves, what a server shows of it, what it refuses."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.serving.conftest import Store, copy_store
from wineexp import UserError, compose, monitor
from wineexp.models.manifest import EXTRA_FOLDER, REFERENCE_FILE
from wineexp.monitoring import prediction_log, verdicts
from wineexp.monitoring.reference import Reference, read_reference
from wineexp.workflows.monitoring import MonitorResult

pytestmark = pytest.mark.usefixtures("watched")

START = pd.Timestamp("2026-03-01", tz="UTC")


@pytest.fixture(scope="module")
def watched(promoted: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = copy_store(promoted, tmp_path_factory.mktemp("monitor"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(store.folder)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
        yield store


@pytest.fixture(scope="module")
def reference(watched: Store) -> Reference:
    reference = read_reference(watched.files(2))
    assert reference is not None
    return reference


def write_log(folder: Path, reference: Reference, n_rows: int, *, shift: float, right: float) -> str:
    """A log of rows like those of training, all moved by so much, of which a share is answered rightly."""
    random = np.random.default_rng(0)
    sample = pd.DataFrame(reference.sample).sample(n_rows, replace=True, random_state=0).reset_index(drop=True)
    decided = random.choice(reference.classes, n_rows)
    log = pd.DataFrame(
        {
            "time": START + pd.to_timedelta(np.arange(n_rows), "h"),
            "request_id": [f"r{number}" for number in range(n_rows)],
            "row": 0,
            "latency_ms": 1.0,
            "outside": "",
            "decision": decided,
            **{f"probability.{name}": np.where(decided == name, 0.8, 0.1) for name in reference.classes},
            **{f"input.{name}": sample[name] + shift * sample[name].std() for name in sample},
        }
    )
    prediction_log.append(str(folder), "wine", 2, log)
    truths = np.where(random.random(n_rows) < right, decided, np.roll(reference.classes, 1)[0])
    received = int(START.value // 1000)
    prediction_log.append_truths(
        str(folder), [(received + number, f"r{number}", 0, str(truth)) for number, truth in enumerate(truths)]
    )
    return str(folder)


def run(log: str, *overrides: str) -> MonitorResult:
    found: MonitorResult = monitor(compose(f"log={log}", *overrides, program="monitor"))
    return found


def test_the_reference_says_what_the_version_was_trained_on(reference: Reference) -> None:
    assert (reference.classes, reference.metric) == (["1", "2", "3"], "accuracy")
    assert len(reference.columns) == 13
    assert all(sum(column.counts) == reference.n_rows == 142 for column in reference.columns)
    assert [column.name for column in reference.answers] == ["prediction", "probability of the prediction"]
    assert reference.losses.n_rows == len(reference.sample_losses) == 142
    assert sum(each.n_rows for each in reference.calibration) >= 142


def test_a_stable_stream_raises_no_alarm_and_leaves_a_page_json_and_a_run(
    watched: Store, reference: Reference, tmp_path: Path
) -> None:
    log = write_log(tmp_path / "log", reference, 150, shift=0, right=1 - reference.losses.mean)
    found = run(log)
    assert not found.alarm
    assert found.lines()[0].startswith("no alarm: wine, version 2: 150 ")
    page = found.page.read_text()
    assert "no alarm" in page
    assert "http" not in page.replace("http-equiv", "")
    said = json.loads(found.page.with_name("monitor.json").read_text())
    assert (said["alarm"], said["rows"], said["labels"]) == (False, 150, 150)
    recorded = watched.client.get_run(str(found.run_id))
    assert recorded.data.metrics["monitor/labels"] == 150
    assert recorded.data.tags["monitor.version"] == "2"
    assert recorded.data.tags["mlflow.parentRunId"] == found.version.run_id
    assert verdicts.of_version(log, "wine", 2) == {verdicts.DRIFT: said}


def test_a_shift_with_wrong_answers_raises_the_alarm(reference: Reference, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", reference, 150, shift=3, right=0.3)
    # Rows from a time on alone.
    found = run(log, "since=2026-03-02")
    assert found.findings.n_rows == 150 - 24
    assert found.alarm
    assert found.findings.labelled.alarm
    assert found.findings.unlike is not None
    assert found.findings.unlike.alarm
    assert len(found.findings.shifted) >= 13
    assert found.lines()[0].startswith("ALARM")


def test_an_empty_log_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    found = run(str(tmp_path / "log"))
    assert found.lines() == ["wine, version 2: the log holds no wines that it answered"]
    assert not found.alarm


def test_mistakes_are_named_all_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tracking=off") as caught:
        run("", "tracking=off", "alpha=2", "tolerance=-1", "since=soon")
    assert [fault.split("=")[0].split(":")[0] for fault in caught.value.faults] == [
        *("tracking", "alpha", "tolerance", "log", "since")
    ]
    with pytest.raises(UserError, match="there is no such folder"):
        run(str(tmp_path / "nothing"))


def test_a_reference_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert read_reference(tmp_path) is None
    (tmp_path / EXTRA_FOLDER).mkdir()
    (tmp_path / EXTRA_FOLDER / REFERENCE_FILE).write_text("{}")
    with pytest.raises(UserError, match=r"the reference .* cannot be read"):
        read_reference(tmp_path)
