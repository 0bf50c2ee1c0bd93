"""The logs of jobs that follow each other: they differ in the names of their files alone, as a rule."""

import logging
import sys
from typing import Any

from hydra.core.utils import configure_log
from omegaconf import OmegaConf

FILE_HANDLER = "logging.FileHandler"


class JobLog:
    """Configures logging for each job as Hydra does, but opens other files alone where that comes to the same."""

    def __init__(self) -> None:
        self._configured: Any = None

    def configure(self, settings: Any, verbose: Any) -> None:
        """Log as a config says: `hydra.job_logging` and `hydra.verbose`."""
        resolved: Any = {} if settings is None else OmegaConf.to_container(settings, resolve=True)
        handlers = resolved.get("handlers") or {}
        files = {
            name: handler.pop("filename", None)
            for name, handler in handlers.items()
            if handler.get("class") == FILE_HANDLER
        }
        loggers = [logging.getLogger(name) for name in (None, *(resolved.get("loggers") or {}))]
        named = {handler.name: handler for logger in loggers for handler in logger.handlers}
        if (
            self._configured == (resolved, str(verbose), _state(loggers))
            and resolved.get("disable_existing_loggers") is False
            and all(type(named.get(name)) is logging.FileHandler for name in files)
        ):
            for name, file in files.items():
                _replace(loggers, named[name], file)
        else:
            configure_log(settings, verbose)
        self._configured = resolved, str(verbose), _state(loggers)


def _state(loggers: list[logging.Logger]) -> list[Any]:
    """What a task may change for itself, and the streams that handlers have looked up when they were made."""
    of_loggers = [(logger.disabled, logger.level, logger.propagate, [*logger.handlers]) for logger in loggers]
    return [sys.stdout, sys.stderr, *of_loggers]


def _replace(loggers: list[logging.Logger], old: Any, file: str) -> None:
    """Let a handler of the same kind write to another file."""
    new = logging.FileHandler(file, old.mode, old.encoding, old.delay, old.errors)
    new.name = old.name
    new.setLevel(old.level)
    new.setFormatter(old.formatter)
    new.filters = old.filters
    for logger in loggers:
        # In its place: handlers write in their order.
        logger.handlers[:] = [new if handler is old else handler for handler in logger.handlers]
    old.close()
