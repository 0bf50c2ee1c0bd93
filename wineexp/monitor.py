"""Hold the log against what the served version was trained on: `python -m wineexp.monitor alias=champion`."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from wineexp.core.config import Monitor
from wineexp.core.errors import UserError
from wineexp.core.program import program

if TYPE_CHECKING:
    from wineexp.workflows.monitoring import MonitorResult

log = logging.getLogger(__name__)

ALARM_EXIT_CODE = 3


@program(Monitor)
def main(cfg: DictConfig) -> None:
    """Run from the command line: exits with 3 on an alarm."""
    if run(cfg).alarm:
        sys.exit(ALARM_EXIT_CODE)


def run(cfg: DictConfig) -> "MonitorResult":
    """Read the log, test it, print what was found, and leave a page, JSON and a run beside that of the version."""
    check(cfg)

    from wineexp.core.output_files import written_by_hydra
    from wineexp.tracking import store
    from wineexp.tracking.registry import Registry
    from wineexp.tracking.runs import Runs
    from wineexp.workflows import monitoring

    with store.store_errors():
        registry = Registry(cfg.tracking.uri, cfg.registry.name, access=store.Access.READ)
        version = registry.version(cfg.alias)
        source = Runs(cfg.tracking.uri, cfg.registry.name).registered(version.run_id)
        result = monitoring.monitor(
            registry,
            version,
            source,
            cfg.log,
            alpha=cfg.alpha,
            tolerance=cfg.tolerance,
            since=cfg.since,
            uri=cfg.tracking.uri,
            folder=Path(HydraConfig.get().runtime.output_dir),
            files=tuple(written_by_hydra()),
        )
    for line in result.lines():
        log.info("%s", line)
    log.info("Open the page: %s", result.page)
    return result


def check(cfg: DictConfig) -> None:
    """Check the config's values.

    Raises
    ------
    UserError
        With all faults.
    """
    from wineexp.monitoring.prediction_log import check_part

    faults = []
    if cfg.tracking.uri is None:
        faults.append("tracking=off: the version is one of a registry; choose tracking=local or tracking=server")
    if not 0 < cfg.alpha < 1:
        faults.append(f"alpha={cfg.alpha}: 0 < alpha < 1 must hold")
    if not 0 <= cfg.tolerance < 100:
        faults.append(f"tolerance={cfg.tolerance}: 0 <= tolerance < 100 must hold; 0.05 is a twentieth of the loss")
    faults += check_part(cfg.log, since=cfg.since)
    if faults:
        raise UserError(*faults)


if __name__ == "__main__":
    main()
