"""Write a data set as tables, cleaned and featured: `python -m wineexp.prepare data=red feature=domain`."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from wineexp.config import Prepare, build
from wineexp.program import program

log = logging.getLogger(__name__)


@program(Prepare)
def main(cfg: DictConfig) -> None:
    """Compose, load, set the holdout aside, write both tables, say what they hold."""
    from wineexp import preparation
    from wineexp.problem import pose

    parts = build(cfg)
    problem = pose(parts["data"](), parts["target"], None, cfg.holdout)
    tables = {"cleaned": preparation.cleaned(problem), "featured": preparation.featured(problem, parts["feature"])}
    folder = Path(cfg.processed)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        path = folder / f"{name}.csv"
        table.to_csv(path, index=False)
        log.info("%s: %d rows, %d columns.", path, *table.shape)


if __name__ == "__main__":
    main()
