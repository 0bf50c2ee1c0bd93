"""The logs of jobs that follow each other in one process."""

import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from wineexp.sweep import job_log
from wineexp.sweep.job_log import JobLog


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    """The root logger, without handlers of others."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers
    root.handlers = []
    yield root
    for handler in root.handlers:
        handler.close()
    root.handlers, root.level = handlers, level


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The settings with which Hydra has configured logging."""
    calls: list[Any] = []
    configure_log = job_log.configure_log
    monkeypatch.setattr(job_log, "configure_log", lambda *given: (calls.append(given), configure_log(*given)))
    return calls


def settings(file: Path, **more: Any) -> Any:
    """What `hydra/job_logging=default` says for a job whose log is this file."""
    return OmegaConf.create(
        {
            "version": 1,
            "formatters": {"simple": {"format": "%(levelname)s %(message)s"}},
            "handlers": {
                "console": {"class": "logging.StreamHandler", "formatter": "simple", "stream": "ext://sys.stdout"},
                "file": {"class": "logging.FileHandler", "formatter": "simple", "filename": str(file)},
            },
            "root": {"level": "INFO", "handlers": ["console", "file"]},
            "disable_existing_loggers": False,
        }
        | more
    )


def test_each_job_has_a_file_of_its_own_and_logging_is_configured_once(
    tmp_path: Path, root: logging.Logger, configured: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    log = JobLog()
    for number in range(3):
        log.configure(settings(tmp_path / f"{number}.log"), verbose=False)
        logging.getLogger("task").info("job %d", number)
    logging.getLogger("task").debug("not of interest")
    assert [(tmp_path / f"{number}.log").read_text() for number in range(3)] == [f"INFO job {n}\n" for n in range(3)]
    assert capsys.readouterr().out == "INFO job 0\nINFO job 1\nINFO job 2\n"
    assert [handler.name for handler in root.handlers] == ["console", "file"]
    assert len(configured) == 1


def test_a_file_that_nothing_is_written_to_is_there(tmp_path: Path) -> None:
    log = JobLog()
    for number in range(2):
        log.configure(settings(tmp_path / f"{number}.log"), verbose=False)
        assert (tmp_path / f"{number}.log").read_text() == ""


def add_handler(root: logging.Logger) -> None:
    root.addHandler(logging.NullHandler())


def change_level(root: logging.Logger) -> None:
    root.setLevel(logging.DEBUG)


def replace_stream(_: logging.Logger) -> None:
    sys.stdout = io.StringIO()


@pytest.mark.parametrize("change", [add_handler, change_level, replace_stream])
def test_what_a_task_changed_is_as_configured_for_the_next(
    tmp_path: Path, root: logging.Logger, configured: list[Any], monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    log = JobLog()
    log.configure(settings(tmp_path / "0.log"), verbose=False)
    change(root)
    log.configure(settings(tmp_path / "1.log"), verbose=False)
    assert len(configured) == 2
    assert [handler.name for handler in root.handlers] == ["console", "file"]
    assert root.level == logging.INFO
    assert root.handlers[0].stream is sys.stdout  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("more", "verbose"),
    [
        ({}, True),
        ({"disable_existing_loggers": True}, False),
        ({"root": {"level": "WARNING", "handlers": ["file"]}}, False),
    ],
)
def test_other_settings_are_configured_by_hydra(
    tmp_path: Path, configured: list[Any], more: dict[str, Any], verbose: bool
) -> None:
    log = JobLog()
    log.configure(settings(tmp_path / "0.log"), verbose=False)
    for number in (1, 2):
        log.configure(settings(tmp_path / f"{number}.log", **more), verbose)
    assert len(configured) == 2 + ("disable_existing_loggers" in more)
