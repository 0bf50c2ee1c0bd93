"""What makes a function a wineexp program: Hydra's command line, and errors that are told in one line."""

import functools
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TextIO

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from wineexp.core import help as choices_help
from wineexp.core.error_messages import explain
from wineexp.core.in_process import make_callable
from wineexp.core.paths import CONF
from wineexp.core.signals import cancel_repetition, handle_termination, received_signals

Task = Callable[[DictConfig], Any]


class StdoutHandler(logging.StreamHandler[TextIO]):
    """Logs to whatever `sys.stdout` is at the moment, so that a progress bar can keep its line below the log's."""

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
    """Carries a task's exception past Hydra, which would announce it with a line of its own."""


def program(frame: type) -> Callable[[Task], Callable[[], None]]:
    """Turn a task into a program whose config, `conf/<name>.yaml`, fits the frame of that name.

    Its module becomes callable: `train(cfg)` is the module's `run(cfg)` on a config of `compose`.

    The program exits with 0, with 1 and one message for a mistake of the user's, with 130 after Ctrl-C and 143 after
    SIGTERM. `HYDRA_FULL_ERROR=1` shows the traceback.
    """
    name = frame.__name__.lower()
    ConfigStore.instance().store(f"{name}_frame", frame)
    choices_help.register()

    def decorate(task: Task) -> Callable[[], None]:
        if task.__module__ != "__main__":
            make_callable(task.__module__)

        @functools.wraps(task)
        def guarded(cfg: DictConfig) -> Any:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                return task(framed(cfg, frame))
            try:
                return task(framed(cfg, frame))
            except Exception as error:
                raise _TaskFailed from error

        run = hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(guarded)

        @functools.wraps(task)
        def main() -> None:
            handle_termination()
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, io.TextIOWrapper):
                    # Where only ASCII can be shown, a ± becomes a question mark instead of a traceback.
                    stream.reconfigure(errors="replace")
            if "COMP_LINE" in os.environ:
                # Hydra's tab completion knows `python file.py` and `app`, but not `python -m app`.
                os.environ["COMP_LINE"] = re.sub(r"^\s*\S*python\S*\s+-m\s+", "", os.environ["COMP_LINE"])
            logging.captureWarnings(True)
            warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}"
            full = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")
            # Hydra then hands exceptions on instead of printing them itself.
            os.environ["HYDRA_FULL_ERROR"] = "1"
            try:
                run()
                sys.stdout.flush()
            except KeyboardInterrupt:
                cancel_repetition()
                print("interrupted", file=sys.stderr)
                sys.exit(130)
            except (_TaskFailed, Exception) as error:
                if received_signals:
                    cancel_repetition()
                    print("interrupted", file=sys.stderr)
                    sys.exit(128 + received_signals[0])
                cause = error.__cause__ if isinstance(error, _TaskFailed) else error
                if isinstance(cause, BrokenPipeError):
                    # Whoever reads the output, head say, has had enough; at its exit Python would try once more.
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                    sys.exit(1)
                message = explain(cause)
                if isinstance(error, ValueError) and not HydraConfig.initialized():
                    # Hydra's own options do not go together.
                    message = str(cause)
                if full or message is None:
                    raise cause from None  # type: ignore[misc]
                print(f"error: {message}", file=sys.stderr)
                sys.exit(1)

        return main

    return decorate


def framed(cfg: DictConfig, frame: type) -> DictConfig:
    """A program's part of a config that names its choices, as conf/pipeline.yaml makes one for all stages."""
    if "chosen" not in cfg:
        return cfg
    part = OmegaConf.masked_copy(cfg, [field.name for field in fields(frame)])
    merged = OmegaConf.merge(OmegaConf.structured(frame), part)
    assert isinstance(merged, DictConfig)  # noqa: S101  merge promises no more than one of two types
    return merged
