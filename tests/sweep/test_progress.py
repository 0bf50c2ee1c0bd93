"""How far a study is, in a line."""

import io
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import create_trial

from wineexp.sweep import progress
from wineexp.sweep.ledger import Budget, Ledger


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name="s")
    study.add_trial(create_trial(value=0.25))
    return Ledger(study, storage, tmp_path, Budget(n_trials=4, max_failures=None, retries=1))


def test_the_summary_counts_trials_and_names_the_best(ledger: Ledger) -> None:
    line = progress.summary(ledger, started=time.time() - 10)
    assert line.startswith("1/4, best 0.25 (trial 0), 6/min, 0:3")
    assert line.endswith(" left")


def test_a_terminal_shows_the_summary_again_and_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.01)
    with progress.live_line(ledger, started=time.time() - 61):
        ledger.study.add_trial(create_trial(value=0.125))
        deadline = time.monotonic() + 30
        while "best 0.125 (trial 1)" not in terminal.getvalue():
            assert time.monotonic() < deadline, terminal.getvalue()
            time.sleep(0.01)
    assert "00:01:01 1/4, best 0.25 (trial 0)" in terminal.getvalue()


def test_without_a_terminal_no_line_is_shown(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with progress.live_line(ledger, started=time.time()):
        pass
    assert stream.getvalue() == ""
