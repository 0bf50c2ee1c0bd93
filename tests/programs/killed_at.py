"""Runs a program in a project without git, and kills it with SIGKILL where a function is called.

python killed_at.py POINT PROGRAM OVERRIDES

POINT is `module:function:before`, `module:function:after`, `half a pin` or `nowhere`.
"""

import importlib
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

from wineexp.core import paths

# Whatever asks for the project's folder from here on gets this one.
paths.ROOT = Path.cwd()

from wineexp.tracking import registry  # noqa: E402
from wineexp.workflows import candidate, promotion  # noqa: E402


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(point: str) -> None:
    """Arrange that this process dies at a point."""
    if point == "half a pin":
        write_text = Path.write_text

        def write_half(self: Path, text: str, *options: Any, **more: Any) -> int:
            if self.suffix != ".dvc":
                return write_text(self, text, *options, **more)
            write_text(self, text[: len(text) // 2])
            die()
            return 0

        Path.write_text = write_half  # type: ignore[method-assign]
        return
    module, function, moment = point.split(":")
    owner: Any = importlib.import_module(module)
    *outer, name = function.split(".")
    for each in outer:
        owner = getattr(owner, each)
    original = getattr(owner, name)

    def call(*arguments: Any, **more: Any) -> None:
        if moment == "after":
            original(*arguments, **more)
        die()

    setattr(owner, name, staticmethod(call) if isinstance(getattr(original, "__self__", None), type) else call)


def main() -> None:
    # What is not tested: a compiled form, and a process of its own that loads the model.
    candidate.compile_pipeline = lambda *_: (None, "a test needs no compiled form")  # type: ignore[assignment]
    promotion.fresh_process.load = lambda *_: None
    # A killed holder of the registry's lock is waited for that long.
    registry.Registry.__init__.__defaults__ = (1.0,)  # type: ignore[misc]
    point, program, *overrides = sys.argv[1:]
    if point != "nowhere":
        kill_at(point)
    sys.argv = [program, *overrides]
    runpy.run_module(f"wineexp.{program}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
