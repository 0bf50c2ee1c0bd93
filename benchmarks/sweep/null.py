"""The task of the benchmark: x² + y², or a heavy-tailed sleep. Run by every sweeper, so it knows none."""

import random
import time

import hydra
from omegaconf import DictConfig


@hydra.main(version_base=None, config_path="conf", config_name="null")
def main(cfg: DictConfig) -> float:
    """Sleep if told to, and give the squares' sum."""
    if cfg.sleep:
        # Heavy tails: the same lengths whoever sweeps, drawn from a parameter that every sweeper samples alike.
        time.sleep(min(cfg.sleep * random.Random(cfg.x).paretovariate(1.1), 40 * cfg.sleep))
    return float(cfg.x**2 + cfg.y**2)


if __name__ == "__main__":
    main()
