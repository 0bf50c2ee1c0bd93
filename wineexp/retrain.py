"""Train the champion anew on what became known since, as a challenger: `python -m wineexp.retrain alias=champion`."""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from wineexp.core.config import Retrain
from wineexp.core.errors import UserError
from wineexp.core.instantiation import build
from wineexp.core.output_files import written_by_hydra
from wineexp.core.program import program

if TYPE_CHECKING:
    from wineexp.tracking.registry import Version

log = logging.getLogger(__name__)

# A value of `since`: when that began which the monitor's last alarm is about.
SINCE_ALARM = "alarm"


@dataclass(frozen=True)
class RetrainResult:
    """What came of it.

    Attributes
    ----------
    version : Version or None
        The challenger; None where nothing was promoted.
    why : str
        Why nothing was promoted, in one line; empty otherwise.
    snapshot : Path or None
        The pin of the labelled rows that were added to the data; None where there were too few.
    """

    version: "Version | None"
    why: str
    snapshot: Path | None


@program(Retrain)
def main(cfg: DictConfig) -> None:
    """Run from the command line."""
    run(cfg)


def run(cfg: DictConfig) -> RetrainResult:
    """Pin the labelled rows that are new, train the champion's config on them too, and put it through the gate."""
    check(cfg)
    parts = ["gate", "baseline", "seed"]
    build(OmegaConf.masked_copy(cfg, parts))

    from wineexp.monitoring import verdicts
    from wineexp.tracking import store
    from wineexp.tracking.registry import Registry
    from wineexp.tracking.runs import Runs
    from wineexp.workflows import retraining, retraining_sweep
    from wineexp.workflows.promotion import Promotion, of_the_runs_kind

    with store.store_errors():
        registry = Registry(cfg.tracking.uri, cfg.registry.name)
        runs = Runs(cfg.tracking.uri, cfg.registry.name, access=store.Access.WRITE)
        champion = registry.version(cfg.alias)
        since = cfg.since
        if since == SINCE_ALARM:
            since = verdicts.alarm_since(cfg.log, champion.name, champion.number)
            if since is None:
                raise UserError(
                    f"since={SINCE_ALARM}: the monitor last raised no alarm about version {champion.number} of "
                    f"{champion.name}; run python -m wineexp.monitor, or give a time"
                )
            log.info("rows since %s count, when the alarm's cause began", since)
        source = runs.get(str(champion.number))
        merged = of_the_runs_kind(cfg, source.config())
        gate = build(OmegaConf.masked_copy(merged, [*parts, "target"]))["gate"]
        of_promotion = {"alias": cfg.challenger, "against": cfg.alias, "run": None, "split": None, "note": None}
        frame: Any = OmegaConf.merge(merged, of_promotion)
        folder, choices = Path(HydraConfig.get().runtime.output_dir), HydraConfig.get().runtime.choices
        # No split is chosen: that of the champion's run is taken.
        choices = {"split": "", **choices}
        promotion = Promotion(runs, registry, gate, frame, choices, folder, tuple(written_by_hydra()))
        tune = partial(retraining_sweep.tune, runs, uri=cfg.tracking.uri, n_trials=cfg.n_trials) if cfg.sweep else None
        version, why, snapshot = retraining.retrain(
            promotion, champion, source, cfg.log, min_rows=cfg.min_rows, since=since, until=cfg.until, tune=tune
        )
    if version is None:
        log.info("nothing was promoted: %s", why)
    else:
        log.info("%s names version %d of %s.", cfg.challenger, version.number, version.name)
    return RetrainResult(version, why, snapshot)


def check(cfg: DictConfig) -> None:
    """Check the config's values.

    Raises
    ------
    UserError
        With all faults.
    """
    from wineexp.monitoring.prediction_log import check_part

    faults = [f"allow={rule}: no such rule; choices: dirty" for rule in cfg.allow if rule != "dirty"]
    if cfg.tracking.uri is None:
        faults.append("tracking=off: the champion is in a registry; choose tracking=local or tracking=server")
    if cfg.alias == cfg.challenger:
        faults.append(f"challenger={cfg.challenger}: another alias than alias={cfg.alias} is wanted")
    if cfg.min_rows < 1:
        faults.append(f"min_rows={cfg.min_rows}: min_rows >= 1 must hold")
    if cfg.n_trials is not None and cfg.n_trials < 1:
        faults.append(f"n_trials={cfg.n_trials}: n_trials >= 1 must hold, or n_trials=null")
    if cfg.n_trials is not None and not cfg.sweep:
        faults.append(f"n_trials={cfg.n_trials}: only a sweep has trials; give sweep=true, too")
    faults += check_part(cfg.log, since=None if cfg.since == SINCE_ALARM else cfg.since, until=cfg.until)
    if cfg.repeats < 1:
        faults.append(f"repeats={cfg.repeats}: repeats >= 1 must hold")
    if faults:
        raise UserError(*faults)


if __name__ == "__main__":
    main()
