"""The logs of jobs that follow each other: they differ in the names of their files alone, as a rule."""

import logging
import sys
from collections.abc import Mapping
from typing import Any

from hydra.core.utils import configure_log
from omegaconf import OmegaConf

FILE_HANDLER = "logging.FileHandler"

# What a handler's settings hold beside the arguments of its class.
NO_ARGUMENTS = ("class", "level", "formatter", "filters")

# A logger, whether and how it logs, and its handlers.
LoggerState = tuple[logging.Logger, bool, int, bool, list[logging.Handler]]


class JobLog:
    """Configures logging for each job as Hydra does, but opens other files alone where that comes to the same."""

    def __init__(self) -> None:
        self._settings: Any = None
        self._loggers: list[LoggerState] = []
        self._streams: Any = None

    def configure(self, settings: Any, verbose: Any) -> None:
        """Log as a config says: `hydra.job_logging` and `hydra.verbose`."""
        resolved: Any = None if settings is None else OmegaConf.to_container(settings, resolve=True)
        without_files = _without_files(resolved), str(verbose)
        handlers = {handler.name: handler for *_, of_logger in self._loggers for handler in of_logger}
        files = _files(resolved)
        if (
            without_files == self._settings
            # A task may have changed them, and has done so for itself alone.
            and self._loggers == _loggers(resolved)
            # Which a handler has looked up when it was made.
            and self._streams == (sys.stdout, sys.stderr)
            and (resolved or {}).get("disable_existing_loggers") is False
            and all(type(handlers.get(name)) is logging.FileHandler for name in files)
        ):
            for name, arguments in files.items():
                self._replace(handlers[name], logging.FileHandler(**arguments))
        else:
            configure_log(settings, verbose)
        self._settings, self._loggers, self._streams = without_files, _loggers(resolved), (sys.stdout, sys.stderr)

    def _replace(self, old: logging.Handler, new: logging.Handler) -> None:
        new.name = old.name
        new.setLevel(old.level)
        new.setFormatter(old.formatter)
        new.filters = old.filters
        for logger, *_, handlers in self._loggers:
            if old in handlers:
                # In its place: handlers write in their order.
                logger.handlers[handlers.index(old)] = new
        old.close()


def _files(settings: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The arguments of the handlers that write to files, by their names."""
    return {
        name: {key: value for key, value in handler.items() if key not in NO_ARGUMENTS}
        for name, handler in ((settings or {}).get("handlers") or {}).items()
        if handler.get("class") == FILE_HANDLER
    }


def _without_files(settings: Mapping[str, Any] | None) -> Any:
    """Settings without the names of files."""
    if settings is None:
        return None
    handlers = {
        name: handler | {"filename": None} if handler.get("class") == FILE_HANDLER else handler
        for name, handler in (settings.get("handlers") or {}).items()
    }
    return {**settings, "handlers": handlers}


def _loggers(settings: Mapping[str, Any] | None) -> list[LoggerState]:
    """How the root logger is, and those that the settings name."""
    loggers = [logging.getLogger(name) for name in [None, *((settings or {}).get("loggers") or {})]]
    return [(logger, logger.disabled, logger.level, logger.propagate, [*logger.handlers]) for logger in loggers]
