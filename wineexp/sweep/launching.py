"""What a sweep needs to know of Hydra's launchers: which package each one is in, and how its workers are lost."""

import importlib.util
import sys
from concurrent.futures.process import BrokenProcessPool

DASK_LAUNCHER = "hydra_plugins.wineexp_dask_launcher.DaskLauncher"
# The module that a launcher imports only when it launches, and the command that installs it.
NEEDED_MODULES = {DASK_LAUNCHER: ("distributed", "pip install 'wineexp[dask]'")}


class WorkerLostError(Exception):
    """A launcher's process that ran a worker is gone."""


def is_loss(error: BaseException) -> bool:
    """Whether a launcher says by this error that a process of its is gone, whose trial the study knows."""
    return isinstance(error, BrokenProcessPool | WorkerLostError) or is_loss_of_one(error)


def is_loss_of_one(error: BaseException) -> bool:
    """Whether the launcher did not wait for its other processes: hydra-submitit-launcher reports a job at a time."""
    # Imported only by that launcher.
    submitit = sys.modules.get("submitit.core.utils")
    # A job whose worker raised an exception has failed; one that was cancelled, or whose time was over, is uncompleted.
    return (
        submitit is not None
        and isinstance(error, submitit.UncompletedJobError)
        and not isinstance(error, submitit.FailedJobError)
    )


def missing_launcher_package(target: str) -> list[str]:
    """The fault of a launcher whose package is not installed."""
    module, command = NEEDED_MODULES.get(target, ("", ""))
    if not module or importlib.util.find_spec(module) is not None:
        return []
    return [f"this launcher needs the package {module}, which is missing: {command}"]
