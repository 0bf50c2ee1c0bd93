"""Write a data set as two tables, cleaned and with features: `python -m wineexp.prepare data=red feature=domain`."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from wineexp.core.config import Prepare
from wineexp.core.instantiation import build
from wineexp.core.program import program

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrepareResult:
    """The tables `cleaned` and `featured`, and the files that they were written to, by name."""

    tables: "dict[str, pd.DataFrame]"
    files: dict[str, Path]


@program(Prepare)
def main(cfg: DictConfig) -> None:
    """Run from the command line."""
    run(cfg)


def run(cfg: DictConfig) -> PrepareResult:
    """Load the data, set the holdout aside and write both tables; log their paths and shapes."""
    from wineexp.data.tables import cleaned, featured
    from wineexp.data.task import make_task
    from wineexp.models.features import with_dates

    parts = build(cfg)
    task = make_task(parts["data"](), parts["target"], None, cfg.holdout)
    tables = {"cleaned": cleaned(task), "featured": featured(task, with_dates(parts["feature"], task.dates))}
    folder = Path(cfg.processed)
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"{name}.csv" for name in tables}
    for name, table in tables.items():
        table.to_csv(files[name], index=False)
        log.info("%s: %d rows, %d columns.", files[name], *table.shape)
    return PrepareResult(tables, files)


if __name__ == "__main__":
    main()
