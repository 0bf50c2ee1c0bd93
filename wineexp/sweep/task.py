"""Handing a program's task to another process."""

import importlib
import inspect
import sys
from dataclasses import dataclass
from typing import Any

from hydra.types import TaskFunction
from omegaconf import DictConfig


@dataclass(frozen=True)
class ImportedTask:
    """A task that the other process imports by its module and name.

    A launcher would pickle a function of `__main__` by value, with copies of everything it refers to, and some objects,
    a cache for one, cannot be copied.
    """

    module: str
    name: str

    def __call__(self, config: DictConfig) -> Any:
        """Run the task on a config."""
        return _undecorated(self.module, self.name)(config)


def picklable(task: TaskFunction) -> TaskFunction:
    """The task by module and name, if it is a function of a program started by `python -m`; else the task itself."""
    main = sys.modules["__main__"]
    module, name = _module_name(main), getattr(task, "__name__", None)
    if module is None or name is None or not hasattr(main, name):
        return task
    return ImportedTask(module, name) if _undecorated(module, name) is inspect.unwrap(task) else task


def _undecorated(module: str, name: str) -> Any:
    """The function of this name without its decorators, taken from the running program if that is the module."""
    main = sys.modules["__main__"]
    home = main if _module_name(main) == module else importlib.import_module(module)
    return inspect.unwrap(getattr(home, name))


def _module_name(main: Any) -> str | None:
    spec = getattr(main, "__spec__", None)
    return spec.name if spec is not None else None
