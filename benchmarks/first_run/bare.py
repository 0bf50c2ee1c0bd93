"""A Hydra program over the same conf/ that does nothing else."""

from dataclasses import dataclass
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf


@dataclass
class Train:
    data: Any = MISSING
    target: Any = MISSING
    feature: Any = MISSING
    split: Any = MISSING
    model: Any = MISSING
    tracking: Any = MISSING
    seed: Any = MISSING
    n_jobs: Any = MISSING
    holdout: Any = MISSING


ConfigStore.instance().store("train_schema", Train)
# The help in conf/ names this resolver, with which wineexp lists the choices of each group.
OmegaConf.register_new_resolver("help_choices", lambda _: "")


@hydra.main(version_base="1.3", config_path="../../conf", config_name="train")
def main(cfg: DictConfig) -> None:
    pass


if __name__ == "__main__":
    main()
