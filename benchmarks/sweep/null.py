"""The task of the benchmark: x² + y², or a heavy-tailed sleep. It depends on no sweeper, so that each can run it."""

import random
import time

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig


@hydra.main(version_base=None, config_path="conf", config_name="null")
def main(cfg: DictConfig) -> float:
    """Sleep if configured, and return the sum of squares."""
    if cfg.sleep:
        # The n-th trial sleeps equally long under each sweeper. The cap keeps one trial from deciding the result.
        tail = random.Random(HydraConfig.get().job.num).paretovariate(1.1)
        time.sleep(cfg.sleep * min(tail, 30))
    return float(cfg.x**2 + cfg.y**2)


if __name__ == "__main__":
    main()
