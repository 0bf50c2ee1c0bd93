"""What a sweep needs to know of Hydra's launchers: which package each one is in, and how its workers are lost."""

import importlib.util
from concurrent.futures.process import BrokenProcessPool

DASK_LAUNCHER = "hydra_plugins.wineexp_dask_launcher.DaskLauncher"
# The module that a launcher imports only when it launches, and the command that installs it.
NEEDED_MODULES = {DASK_LAUNCHER: ("distributed", "pip install 'wineexp[dask]'")}


class WorkerLostError(Exception):
    """A launcher's process that ran a worker is gone."""


# What launchers raise where a process of theirs is gone; the trial that it ran is known to the study.
LOSSES = (BrokenProcessPool, WorkerLostError)


def missing_launcher_package(target: str) -> list[str]:
    """The fault of a launcher whose package is not installed."""
    module, command = NEEDED_MODULES.get(target, ("", ""))
    if not module or importlib.util.find_spec(module) is not None:
        return []
    return [f"this launcher needs the package {module}, which is missing: {command}"]
