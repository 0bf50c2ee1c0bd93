"""The launcher `hydra/launcher=dask` as Hydra's plugin system wants it; the launching itself is in wineexp.sweep.

Hydra runs this module at every start of every program, so that it imports no large library.
"""

from collections.abc import Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from wineexp.core.errors import UserError
from wineexp.sweep.settings import DaskSettings

ConfigStore.instance().store(group="hydra/launcher", name="dask", node=DaskSettings, provider="wineexp")


class DaskLauncher(Launcher):
    """Runs jobs on the workers of a Dask cluster, one at a time on each."""

    # Hydra calls setup before launch.
    hydra_context: HydraContext
    config: DictConfig

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store what Hydra gives a launcher."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs and wait for them; Hydra shows a UserError without a traceback."""
        try:
            from wineexp.sweep import dask_cluster

            return dask_cluster.launch(
                self.settings, self.hydra_context, self.config, self.task_function, job_overrides, initial_job_idx
            )
        except UserError as error:
            raise CompactHydraException(str(error)) from error
