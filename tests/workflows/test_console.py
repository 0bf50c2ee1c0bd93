"""What is shown while a program works for long."""

import logging
import time
from collections.abc import Iterator

import numpy as np
import pytest

from wineexp.evaluation.cross_validation import Fold
from wineexp.evaluation.predictions import Predictions
from wineexp.workflows import console

NOTICE_SECONDS = 0.05


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(console, "NOTICE_SECONDS", NOTICE_SECONDS)
    caplog.set_level(logging.INFO, logger="wineexp.workflows.console")
    return caplog


def folds(first_seconds: float) -> Iterator[Fold]:
    time.sleep(first_seconds)
    predictions = Predictions(np.array([0]), np.array([0]), np.array([[1.0]]))
    for number in range(2):
        yield Fold(number, np.array([0]), predictions, {"accuracy": 1.0}, 0, 0.1, 0.0)
        time.sleep(4 * NOTICE_SECONDS)


def test_what_takes_long_before_the_first_fold_is_said(lines: pytest.LogCaptureFixture) -> None:
    with console.notice_if_slow("reading the data ..."):
        time.sleep(4 * NOTICE_SECONDS)
    list(console.show_progress(folds(4 * NOTICE_SECONDS), total=2, metric="accuracy", title="candidate"))
    assert lines.messages == [
        "reading the data ...",
        "candidate, fitting fold 1 of 2 ...",
        "candidate, fold 1/2: accuracy 1.0000 (fitted in 0.10 s)",
        "candidate, fold 2/2: accuracy 1.0000 (fitted in 0.10 s)",
    ]


def test_what_is_quick_is_not_announced(lines: pytest.LogCaptureFixture) -> None:
    with console.notice_if_slow("reading the data ..."):
        pass
    list(console.show_progress(folds(0), total=2, metric="accuracy"))
    time.sleep(2 * NOTICE_SECONDS)
    assert [line.split(":")[0] for line in lines.messages] == ["fold 1/2", "fold 2/2"]
