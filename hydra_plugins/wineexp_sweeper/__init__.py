"""The door that Hydra demands for a sweeper; what is behind it lives in wineexp.sweep.

Hydra runs this module at every start of every program, before it is in sys.modules: it imports nothing heavy
and defines no dataclass.
"""

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import CompactHydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from wineexp.core.errors import UserError
from wineexp.sweep.settings import Settings

ConfigStore.instance().store(group="hydra/sweeper", name="optuna_frame", node=Settings, provider="wineexp")


class OptunaSweeper(Sweeper):
    """Hydra's sweeper that hands its arguments to `wineexp.sweep.sweeper`."""

    # Set by Hydra's call of setup, which comes before that of sweep.
    hydra_context: HydraContext
    config: DictConfig

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives a sweeper."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        """Run the study; a mistake of the user's is shown without a traceback."""
        from wineexp.sweep.sweeper import sweep

        try:
            return sweep(self.settings, self.hydra_context, self.task_function, self.config, arguments)
        except UserError as error:
            raise CompactHydraException(str(error)) from error
