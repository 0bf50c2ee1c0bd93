"""What makes a function a program: Hydra's command line, exit codes, and a mistake reported in one line."""

import functools
import io
import logging
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TextIO

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from wineexp.core import help as choices_help
from wineexp.core.addresses import keep_credentials, without_credentials
from wineexp.core.composition import (
    explain_command_line,
    find_config_folder,
    log_found_folder,
    refuse_hidden_choices,
    resolve_aliases,
)
from wineexp.core.error_messages import explain
from wineexp.core.in_process import make_callable
from wineexp.core.output_files import hide_credentials
from wineexp.core.paths import CONF
from wineexp.core.signals import TERMINATION_SIGNALS, cancel_repetition, handle_termination, received_signals
from wineexp.core.trust import trusting

Task = Callable[[DictConfig], Any]


class StdoutHandler(logging.StreamHandler[TextIO]):
    """Logs to the current `sys.stdout`, which a progress bar replaces to keep its own line below the log's."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)

    @property
    def stream(self) -> TextIO:
        """The current standard output."""
        return sys.stdout

    @stream.setter
    def stream(self, _: TextIO) -> None:
        """Standard output is looked up at every use."""


class _TaskFailed(BaseException):
    """Carries a task's exception past Hydra, which would print a line of its own about it."""


def program(schema: type) -> Callable[[Task], Callable[[], None]]:
    """Turn a task into a program whose config, `conf/<name>.yaml`, has this structured config as its schema.

    The task's module becomes callable: `train(cfg)` is the module's `run(cfg)` on a config of `compose`.

    The program exits with 0, with 1 and one message for a user's mistake, with 130 after Ctrl-C and 143 after SIGTERM.
    `HYDRA_FULL_ERROR=1` shows the traceback.

    Parameters
    ----------
    schema : type
        A dataclass of `wineexp.core.config`; the program's name is its name in lower case.
    """
    name = schema.__name__.lower()
    ConfigStore.instance().store(f"{name}_schema", schema)
    choices_help.register()

    def decorate(task: Task) -> Callable[[], None]:
        if task.__module__ != "__main__":
            make_callable(task.__module__)

        @functools.wraps(task)
        def guarded(cfg: DictConfig) -> Any:
            hide_credentials()
            log_found_folder()

            def call() -> Any:
                refuse_hidden_choices(HydraConfig.get())
                with trusting(cfg):
                    return task(select_keys(cfg, schema))

            if HydraConfig.get().mode == RunMode.MULTIRUN:
                return call()
            try:
                return call()
            except Exception as error:
                raise _TaskFailed from error

        run = hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(guarded)

        @functools.wraps(task)
        def main() -> None:
            show_traceback = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")
            _prepare_process()
            sys.argv[1:] = resolve_aliases(name, sys.argv[1:])
            if not _names_config_folder(sys.argv[1:]) and (folder := find_config_folder()):
                sys.argv[1:1] = ["--config-dir", str(folder)]
            try:
                try:
                    run()
                    sys.stdout.flush()
                except (_TaskFailed, Exception) as error:
                    if received_signals:
                        raise KeyboardInterrupt from error
                    _exit_failed(error, name, show_traceback=show_traceback)
                except (KeyboardInterrupt, SystemExit):
                    # A signal's exception is raised again each second, perhaps right here: the outer block catches it.
                    cancel_repetition()
                    raise
            except (KeyboardInterrupt, SystemExit) as error:
                if received_signals or isinstance(error, KeyboardInterrupt):
                    _exit_interrupted()
                raise

        return main

    return decorate


def _names_config_folder(arguments: Sequence[str]) -> bool:
    return any(re.match("--config-d|-cd", argument) for argument in arguments)


def select_keys(cfg: DictConfig, schema: type) -> DictConfig:
    """The keys of a program's schema, from a config that conf/pipeline.yaml composed for all stages of dvc.yaml.

    Any other config is returned as it is.
    """
    if "chosen" not in cfg:
        return cfg
    part = OmegaConf.masked_copy(cfg, [field.name for field in fields(schema)])
    merged = OmegaConf.merge(OmegaConf.structured(schema), part)
    assert isinstance(merged, DictConfig)  # noqa: S101  merge promises no more than one of two types
    return merged


def _prepare_process() -> None:
    """Set up signals, output, completion and warnings of a process that is this program's alone."""
    handle_termination()
    sys.argv[1:] = map(keep_credentials, sys.argv[1:])
    make_record = logging.getLogRecordFactory()
    logging.setLogRecordFactory(lambda *arguments, **more: _without_credentials(make_record(*arguments, **more)))
    sys.excepthook = _print_exception
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Where only ASCII can be shown, a ± becomes a question mark instead of a traceback.
            stream.reconfigure(errors="replace")
    if "COMP_LINE" in os.environ:
        # Hydra's tab completion knows `python file.py` and `app`, but not `python -m app`.
        os.environ["COMP_LINE"] = re.sub(r"^\s*\S*python\S*\s+-m\s+", "", os.environ["COMP_LINE"])
    # A path in MLflow's variable begins in the folder where the program was started, which `hydra.job.chdir` leaves.
    scheme, separator, path = os.environ.get("MLFLOW_TRACKING_URI", "").partition("sqlite:///")
    if separator and not scheme:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{Path(path).absolute()}"
    logging.captureWarnings(True)
    # A log on a full disk would print a traceback for each line. What must be written fails by itself, with a message.
    logging.raiseExceptions = False
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}"
    # Makes Hydra pass exceptions on instead of printing them itself.
    os.environ["HYDRA_FULL_ERROR"] = "1"


def program_environment() -> dict[str, str]:
    """The environment of a program that another one starts, which sets HYDRA_FULL_ERROR at its own start."""
    return {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}


def _without_credentials(record: logging.LogRecord) -> logging.LogRecord:
    """A record of the log whose addresses show no credentials, whichever library it is from."""
    try:
        message = record.getMessage()
    except (TypeError, ValueError):
        # Its handler reports that it cannot be formatted.
        return record
    if (cut := without_credentials(message)) != message:
        record.msg, record.args = cut, None
    if record.exc_info and record.exc_info[0] and not record.exc_text:
        text = _traceback(*record.exc_info)
        if (cut := without_credentials(text)) != text:
            # A formatter takes this text, and makes none of its own.
            record.exc_text = cut
    return record


def _print_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback as Python does, without the credentials of addresses."""
    sys.stderr.write(without_credentials(_traceback(kind, error, trace) + "\n"))


def _traceback(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> str:
    return "".join(traceback.format_exception(kind, error, trace)).removesuffix("\n")


def _exit_interrupted() -> NoReturn:
    """Exit with 128 and the number of the signal that arrived first, as shells do."""
    cancel_repetition()
    for number in TERMINATION_SIGNALS:
        # One more ends the process at once: there is nothing left to complete.
        signal.signal(number, signal.SIG_DFL)
    print("interrupted", file=sys.stderr)
    sys.exit(128 + (received_signals[0] if received_signals else signal.SIGINT))


def _exit_failed(error: BaseException, name: str, *, show_traceback: bool) -> NoReturn:
    """Print a user's mistake in one message and exit with 1; raise what is the fault of the program of this name."""
    cause = error.__cause__ if isinstance(error, _TaskFailed) else error
    if isinstance(cause, BrokenPipeError):
        # The reader of the output, `head` for one, has closed it; at exit Python would try to flush once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    is_composed = isinstance(error, _TaskFailed)
    message = explain(cause) if is_composed else explain_command_line(name, sys.argv[1:], cause)
    if isinstance(error, ValueError) and not HydraConfig.initialized():
        # Hydra's own options contradict each other.
        message = str(cause)
    if show_traceback or message is None:
        raise cause from None  # type: ignore[misc]
    print(f"error: {without_credentials(message)}", file=sys.stderr)
    sys.exit(1)
