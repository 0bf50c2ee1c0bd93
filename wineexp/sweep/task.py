"""A program's task on its way to another process."""

import importlib
import inspect
import sys
from dataclasses import dataclass
from typing import Any

from hydra.types import TaskFunction
from omegaconf import DictConfig


@dataclass(frozen=True)
class Imported:
    """A task that the other process imports by name.

    A launcher would pickle a function of `__main__` by value, with copies of everything it refers to; some things, a
    cache for one, cannot be copied.
    """

    module: str
    name: str

    def __call__(self, config: DictConfig) -> Any:
        """Run the task on a config."""
        return find(self.module, self.name)(config)


def find(module: str, name: str) -> Any:
    """The undecorated function of this name; the running program's own, if the module is what runs."""
    main = sys.modules["__main__"]
    home = main if _module_name(main) == module else importlib.import_module(module)
    return inspect.unwrap(getattr(home, name))


def portable(task: TaskFunction) -> TaskFunction:
    """The task by name, where it is a function of a program started by `python -m`; else the task itself."""
    module = _module_name(sys.modules["__main__"])
    name = getattr(task, "__name__", None)
    if module is None or name is None or not hasattr(sys.modules["__main__"], name):
        return task
    return Imported(module, name) if find(module, name) is inspect.unwrap(task) else task


def _module_name(main: Any) -> str | None:
    spec = getattr(main, "__spec__", None)
    return spec.name if spec is not None else None
