"""Say which of two versions is better on live traffic: `python -m wineexp.abtest challenger=challenger`."""

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from wineexp.core.config import CHALLENGER_MODES, Abtest
from wineexp.core.errors import UserError, did_you_mean
from wineexp.core.program import program

if TYPE_CHECKING:
    from wineexp.workflows.live_comparison import LiveComparison

log = logging.getLogger(__name__)

# The exit code where the challenger is worse, as that of an alarm of the monitor.
WORSE_EXIT_CODE = 3


@program(Abtest)
def main(cfg: DictConfig) -> None:
    """Run from the command line: exits with 3 where the challenger is worse."""
    if run(cfg).test.verdict == "worse":
        sys.exit(WORSE_EXIT_CODE)


def run(cfg: DictConfig) -> "LiveComparison":
    """Read the log with its labels, compare the two versions, print and write what was found as `abtest.json`."""
    check(cfg)

    from wineexp.monitoring import verdicts
    from wineexp.tracking import store
    from wineexp.tracking.registry import Registry
    from wineexp.tracking.runs import Runs
    from wineexp.workflows import live_comparison

    with store.store_errors():
        registry = Registry(cfg.tracking.uri, cfg.registry.name, access=store.Access.READ)
        champion, challenger = registry.version(cfg.alias), registry.version(cfg.challenger)
        if champion.number == challenger.number:
            raise UserError(
                f"{cfg.alias} and {cfg.challenger} both name version {champion.number} of {registry.name}: there is "
                "nothing to compare; promote another model to the challenger's alias"
            )
        found = live_comparison.compare(
            cfg.log,
            registry,
            Runs(cfg.tracking.uri, cfg.registry.name),
            champion,
            challenger,
            level=cfg.level,
            sizes=cfg.sizes,
            mode=cfg.mode,
            share=cfg.share,
            since=cfg.since,
            until=cfg.until,
        )
    for line in found.lines():
        log.info("%s", line)
    said = found.document() | {"when": datetime.now(UTC).isoformat(timespec="seconds")}
    for number in (found.champion, found.challenger):
        try:
            # From there the server shows it, whichever of the two it serves.
            verdicts.write(cfg.log, found.name, number, verdicts.LIVE_TEST, said)
        except UserError as error:
            log.warning("%s", error)
    path = Path(HydraConfig.get().runtime.output_dir) / "abtest.json"
    path.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    return found


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
        faults.append("tracking=off: the versions are those of a registry; choose tracking=local or tracking=server")
    if cfg.mode is not None and cfg.mode not in CHALLENGER_MODES:
        faults.append(f"mode={cfg.mode}: {did_you_mean(cfg.mode, CHALLENGER_MODES)}; or null")
    if cfg.share is not None and not 0 < cfg.share < 1:
        faults.append(f"share={cfg.share}: 0 < share < 1 must hold, or share=null")
    if not 0.5 <= cfg.level < 1:
        faults.append(f"level={cfg.level}: 0.5 <= level < 1 must hold")
    faults += [f"sizes: {size}: a gain is more than 0 and less than 1" for size in cfg.sizes if not 0 < size < 1]
    faults += check_part(cfg.log, since=cfg.since, until=cfg.until)
    if faults:
        raise UserError(*faults)


if __name__ == "__main__":
    main()
