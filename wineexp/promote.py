"""Promote what a run found, undo it, tell what was decided, or export it: `python -m wineexp.promote run=ID`."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from wineexp.core.config import Promote
from wineexp.core.errors import UserError, did_you_mean
from wineexp.core.instantiation import build
from wineexp.core.program import program

if TYPE_CHECKING:
    from wineexp.tracking.history import Decision
    from wineexp.tracking.registry import Registry, Version
    from wineexp.tracking.runs import Record, Runs

log = logging.getLogger(__name__)

DOES = ("run", "study", "best_of", "rollback", "history", "export")
# Names that MLflow takes, and that cannot be taken for a version's number. `previous-` has to fit in front of it.
LONGEST = 200
ALIAS = rf"(?!(?i:latest|v\d+)$)[A-Za-z][A-Za-z0-9_-]{{0,{LONGEST - 1}}}"
# The rules that can be waived, by name.
WAIVABLE = ("data", "dirty")


@dataclass(frozen=True)
class PromoteResult:
    """What a decision left: the version that the alias names, every decision so far, or the exported folder."""

    version: "Version | None" = None
    decisions: "tuple[Decision, ...]" = ()
    export: Path | None = None


@program(Promote)
def main(cfg: DictConfig) -> None:
    """Run from the command line."""
    run(cfg)


def run(cfg: DictConfig) -> PromoteResult:
    """Find what is to be promoted, put it through the gate; or go back; or show the history; or export a version."""
    check(cfg)
    # All that is needed in the end, before anything is trained.
    gate = build(OmegaConf.masked_copy(cfg, ["gate", "split", "baseline", "seed"]))["gate"]

    from wineexp.tracking import store
    from wineexp.tracking.registry import Registry
    from wineexp.tracking.runs import Runs
    from wineexp.workflows import promotion

    with store.told():
        registry = Registry(cfg.tracking.uri, cfg.registry.name)
        if cfg.history:
            return PromoteResult(decisions=tuple(show(registry)))
        if cfg.rollback:
            version = promotion.roll_back(registry, cfg.alias, cfg.reason)
            log.info("%s names version %d of %s again.", cfg.alias, version.number, registry.name)
            return PromoteResult(version)
        if cfg.export:
            from wineexp.serving import exporter

            kept = exporter.write(registry, cfg.alias, Path(cfg.export), cfg.told).kept
            log.info("version %d of %s, which %s names, is in %s.", kept.number, kept.name, cfg.alias, cfg.export)
            log.info("Serve it: python -m wineexp.serve serve.export_folder=%s", cfg.export)
            return PromoteResult(export=Path(cfg.export))
        runs = Runs(cfg.tracking.uri, cfg.registry.name)
        folder, choices = Path(HydraConfig.get().runtime.output_dir), HydraConfig.get().runtime.choices
        attempt = promotion.Promotion(runs, registry, gate, cfg, choices, folder)
        return PromoteResult(attempt.attempt(chosen(cfg, runs)))


def check(cfg: DictConfig) -> None:
    """Hold the command against what can be asked for.

    Raises
    ------
    UserError
        With all faults.
    """
    faults = []
    said = [name for name in DOES if cfg[name]]
    if len(said) != 1:
        faults.append(f"say one of {', '.join(f'{name}=...' for name in DOES)}; got {', '.join(said) or 'none'}")
    faults += [
        f"allow={rule}: no such rule; {did_you_mean(rule, WAIVABLE)}" for rule in cfg.allow if rule not in WAIVABLE
    ]
    if cfg.alias.startswith("previous"):
        faults.append(f"alias={cfg.alias}: this alias is moved by promotions alone; choose another name")
    elif not re.fullmatch(ALIAS, cfg.alias):
        faults.append(
            f"alias={cfg.alias}: letters, digits, - and _ are wanted, beginning with a letter, {LONGEST} at most, and "
            "neither latest nor v and a number, which have a meaning of their own"
        )
    if cfg.baseline is not None and not isinstance(cfg.baseline, DictConfig):
        faults.append(f"baseline={cfg.baseline}: a model is chosen with model@baseline={cfg.baseline}")
    if cfg.tracking.uri is None:
        faults.append("tracking=off: a promotion needs the store that holds the run; choose tracking=local or server")
    if faults:
        raise UserError(*faults)


def chosen(cfg: DictConfig, runs: "Runs") -> "Record":
    """The run that is to be promoted."""
    from wineexp.workflows import promotion

    found = promotion.best(runs, cfg.best_of) if cfg.best_of else runs.one(cfg.run or cfg.study)
    log.info("promoting run %s (%s)", found.id, found.name)
    return found


def show(registry: "Registry") -> "list[Decision]":
    """Log every decision, and what does not add up."""
    from wineexp.tracking.history import Audit

    audit = Audit(registry)
    decisions = audit.decisions()
    log.info("%d decisions on %s in %s", len(decisions), registry.name, registry.uri)
    for each in decisions:
        moved = ", ".join(
            f"{alias} {start or 'nothing'} → {to or 'nothing'}" for alias, (start, to) in each.moves.items()
        )
        log.info("\n%d. %s, %s by %s (run %s)", each.number, each.when, each.kind, each.who, each.run_id)
        for line in [moved or f"{each.alias} not moved".lstrip(), *each.why]:
            log.info("   %s", line)
    for fault in audit.faults():
        log.warning("%s", fault)
    return decisions


if __name__ == "__main__":
    main()
