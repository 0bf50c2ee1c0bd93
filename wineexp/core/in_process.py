"""Programs without a command line: a notebook or a test composes a config and calls a program with it."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from wineexp.core.composition import compose_program, find_config_folder, log_found_folder, refuse_hidden_choices
from wineexp.core.errors import UserError
from wineexp.core.trust import trusting


def compose(*overrides: str, program: str = "train", config_dir: str | Path | None = None) -> DictConfig:
    """The config of `python -m wineexp.<program> <overrides>`, as the argument of `wineexp.<program>`.

    Parameters
    ----------
    *overrides : str
        As on the command line: `"model=xgb"`, `"model.max_depth=3"`.
    program : str
        Name of the program: `train`, `promote`, `compare`, ...
    config_dir : str or Path, optional
        Folder with further choices of config groups, as the option `--config-dir`; by default `conf` in the working
        folder, where it has some.

    Returns
    -------
    DictConfig
        It includes Hydra's own settings, under the key `hydra`.

    Raises
    ------
    UserError
        Choices or keys do not exist, or a value has the wrong type; it lists all such faults.
    """
    # The import registers the config schema that conf/<program>.yaml names.
    importlib.import_module(f"wineexp.{program}")
    folder = find_config_folder() if config_dir is None else config_dir
    return compose_program(program, overrides, [] if folder is None else [folder])


@contextmanager
def _hydra_settings(cfg: DictConfig) -> Iterator[DictConfig]:
    """Make the Hydra settings of a composed config the current ones, and yield the rest of the config."""
    if "hydra" not in cfg:
        raise UserError("the config has no key hydra: make it with wineexp.compose(...), which keeps Hydra's settings")
    instance = HydraConfig.instance()
    previous = instance.cfg
    folder = Path(cfg.hydra.run.dir).absolute()
    with read_write(cfg.hydra), open_dict(cfg.hydra):
        cfg.hydra.runtime.output_dir = str(folder)
        cfg.hydra.mode = RunMode.RUN
        # Only a command line makes Hydra write its records.
        cfg.hydra.output_subdir = None
    instance.set_config(cfg)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    finally:
        instance.cfg = previous


class Program(ModuleType):
    """A program's module, which can be called like a function: `train(compose("model=xgb"))`."""

    run: Callable[[DictConfig], Any]

    def __call__(self, cfg: DictConfig) -> Any:
        """Run the program in this process on a config that `compose` made; see the module's `run`.

        Raises
        ------
        UserError
            The config has a mistake, or the data, run or store that it names is not usable.
        """
        log_found_folder()
        with trusting(cfg), _hydra_settings(cfg) as task_config:
            refuse_hidden_choices(cfg.hydra)
            return self.run(task_config)


def make_callable(module: str) -> None:
    """Make a program's module callable, because `from wineexp import train` gives the module of that name."""
    sys.modules[module].__class__ = Program
