"""The sweeper as Hydra's plugin system wants it; the sweep itself is in wineexp.sweep.

Hydra runs this module at every start of every program, so that it imports no large library. The module is not in
sys.modules at that time, so that it cannot define a dataclass.
"""

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import CompactHydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from wineexp.core.errors import UserError
from wineexp.sweep.settings import Settings

ConfigStore.instance().store(group="hydra/sweeper", name="optuna_schema", node=Settings, provider="wineexp")


class OptunaSweeper(Sweeper):
    """Hands what Hydra gives a sweeper to `wineexp.sweep.sweeper.run_sweep`."""

    # Hydra calls setup before sweep.
    hydra_context: HydraContext
    config: DictConfig

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store what Hydra gives a sweeper."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        """Run the study; Hydra shows a UserError without a traceback."""
        from wineexp.sweep.sweeper import run_sweep

        try:
            return run_sweep(self.settings, self.hydra_context, self.task_function, self.config, arguments)
        except UserError as error:
            raise CompactHydraException(str(error)) from error
