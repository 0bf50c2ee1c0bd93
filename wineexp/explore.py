"""Look at a data set before training on it: `python -m wineexp.explore data=red`."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from wineexp.core.config import Explore, flatten_config
from wineexp.core.instantiation import build
from wineexp.core.output_files import written_by_hydra
from wineexp.core.program import program

if TYPE_CHECKING:
    from wineexp.data.task import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExploreResult:
    """The page on a data set, its summary in one paragraph, the task, and the run that recorded them, if any."""

    page: Path
    summary: str
    task: "Task"
    run_id: str | None
    tracking_uri: str | None


@program(Explore)
def main(cfg: DictConfig) -> None:
    """Run from the command line."""
    run(cfg)


def run(cfg: DictConfig) -> ExploreResult:
    """Load the data, set the holdout aside, write the page and record it; log its summary and its path."""
    from wineexp.data.task import make_task
    from wineexp.reports import eda_page
    from wineexp.tracking import provenance, store
    from wineexp.tracking.run import Run

    parts = build(cfg)
    task = make_task(parts["data"](), parts["target"], None, cfg.holdout)
    choices = HydraConfig.get().runtime.choices
    tracked = Run(
        cfg.tracking.uri,
        experiment=f"{choices['data']}-{choices['target']}",
        name="explore",
        tags=provenance.provenance_tags() | task.tags(),
        folder=Path(HydraConfig.get().runtime.output_dir),
        files=written_by_hydra(),
    )
    with store.store_errors(), tracked:
        tracked.log(params={name: choices[name] for name in parts} | flatten_config(cfg))
        tracked.log_dataset(task, name=choices["data"])
        path = tracked.file("explore.html")
        findings = eda_page.find(task)
        page = eda_page.render(task, findings, data=choices["data"], target=choices["target"])
        path.write_text(page, encoding="utf-8")
    summary = eda_page.summary(task, findings)
    log.info(summary)
    log.info("Open the page: %s", path)
    if tracked.id is not None:
        log.info("Recorded as run %s in %s.", tracked.id, tracked.uri)
        log.info("Look at it: %s", tracked.how_to_view())
    return ExploreResult(path, summary, task, tracked.id, tracked.uri if tracked.id is not None else None)


if __name__ == "__main__":
    main()
