"""Write a data set as tables, cleaned and featured: `python -m wineexp.prepare data=red feature=domain`."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from wineexp.core.config import Prepare, build
from wineexp.core.program import program

log = logging.getLogger(__name__)


@program(Prepare)
def main(cfg: DictConfig) -> None:
    """Compose, load, set the holdout aside, write both tables, say what they hold."""
    from wineexp.data.tables import cleaned, featured
    from wineexp.data.task import make_task

    parts = build(cfg)
    task = make_task(parts["data"](), parts["target"], None, cfg.holdout)
    tables = {"cleaned": cleaned(task), "featured": featured(task, parts["feature"])}
    folder = Path(cfg.processed)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        path = folder / f"{name}.csv"
        table.to_csv(path, index=False)
        log.info("%s: %d rows, %d columns.", path, *table.shape)


if __name__ == "__main__":
    main()
