"""Look at a data set before training on it: `python -m wineexp.explore data=red`."""

import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from wineexp.core.config import Explore, build, leaves
from wineexp.core.program import program

log = logging.getLogger(__name__)


@program(Explore)
def main(cfg: DictConfig) -> None:
    """Compose, load, set the holdout aside, draw the page, record it; say what it shows and where it is."""
    from wineexp.data.task import make_task
    from wineexp.reports import eda_page
    from wineexp.tracking import provenance, store
    from wineexp.tracking.run import Run

    parts = build(cfg)
    task = make_task(parts["data"](), parts["target"], None, cfg.holdout)
    choices = HydraConfig.get().runtime.choices
    folder = Path(HydraConfig.get().runtime.output_dir)
    run = Run(
        cfg.tracking.uri,
        experiment=f"{choices['data']}-{choices['target']}",
        name="explore",
        tags=provenance.facts() | task.facts(),
        # The page is written there, and so becomes an artifact.
        folder=folder,
    )
    with store.told(), run:
        run.log(params={name: choices[name] for name in parts} | leaves(cfg))
        run.log_dataset(task, name=choices["data"])
        path = folder / "explore.html"
        path.write_text(eda_page.render(task, data=choices["data"], target=choices["target"]), encoding="utf-8")
    log.info(eda_page.paragraph(task))
    log.info("Open the page: %s", path)
    if run.id is not None:
        log.info("Recorded as run %s in %s.", run.id, run.uri)
        log.info("Look at it: %s", store.how_to_look(str(run.uri)))


if __name__ == "__main__":
    main()
