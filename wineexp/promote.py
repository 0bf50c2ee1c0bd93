"""Promote a recorded run, roll back, show the history or export a version: `python -m wineexp.promote run=ID`."""

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
from wineexp.core.output_files import written_by_hydra
from wineexp.core.program import program

if TYPE_CHECKING:
    from wineexp.tracking.history import Decision
    from wineexp.tracking.recorded_run import RecordedRun
    from wineexp.tracking.registry import Registry, Version
    from wineexp.tracking.runs import Runs

log = logging.getLogger(__name__)

ACTIONS = ("run", "study", "best_of", "rollback", "history", "export")

# Names that MLflow takes, and that cannot be mistaken for a version's number; `previous-` must fit in front of them.
MAX_ALIAS_CHARS = 200
ALIAS = rf"(?!(?i:latest|v\d+)$)[A-Za-z][A-Za-z0-9_-]{{0,{MAX_ALIAS_CHARS - 1}}}"

# Names of the rules that can be waived.
WAIVABLE = ("data", "dirty")


@dataclass(frozen=True)
class PromoteResult:
    """The version that the alias names now, every decision so far, or the exported folder."""

    version: "Version | None" = None
    decisions: "tuple[Decision, ...]" = ()
    export: Path | None = None


@program(Promote)
def main(cfg: DictConfig) -> None:
    """Run from the command line."""
    run(cfg)


def run(cfg: DictConfig) -> PromoteResult:
    """Put a run through the gate, or roll back, show the history or export a version."""
    check(cfg)
    # Built first, so that mistakes in them are found before anything is trained.
    parts = ["gate", "baseline", "seed"] + ["split"] * (cfg.split is not None)
    build(OmegaConf.masked_copy(cfg, parts))

    from wineexp.tracking import store
    from wineexp.tracking.registry import Registry
    from wineexp.tracking.runs import Runs
    from wineexp.workflows import alias_move
    from wineexp.workflows.promotion import Promotion, of_the_runs_kind

    with store.store_errors():
        access = store.Access.READ if cfg.history or cfg.export else store.Access.WRITE
        registry = Registry(cfg.tracking.uri, cfg.registry.name, access=access)
        if cfg.history:
            return PromoteResult(decisions=tuple(show_history(registry)))
        if cfg.rollback:
            version = alias_move.roll_back(registry, cfg.alias, cfg.reason)
            log.info("%s names version %d of %s again.", cfg.alias, version.number, registry.name)
            return PromoteResult(version)
        if cfg.export:
            from wineexp.serving import exporter

            exported = exporter.write(registry, cfg.alias, Path(cfg.export), cfg.note).version
            log.info(
                "version %d of %s, which %s names, is in %s.", exported.number, exported.name, cfg.alias, cfg.export
            )
            log.info("Serve it: python -m wineexp.serve serve.export_folder=%s", cfg.export)
            return PromoteResult(export=Path(cfg.export))
        runs = Runs(cfg.tracking.uri, cfg.registry.name, access=access)
        source = source_run(cfg, runs)
        cfg = of_the_runs_kind(cfg, source.config())
        gate = build(OmegaConf.masked_copy(cfg, [*parts, "target"]))["gate"]
        folder, choices = Path(HydraConfig.get().runtime.output_dir), HydraConfig.get().runtime.choices
        promotion = Promotion(runs, registry, gate, cfg, choices, folder, tuple(written_by_hydra()))
        return PromoteResult(promotion.attempt(source))


def check(cfg: DictConfig) -> None:
    """Check the config's values.

    Raises
    ------
    UserError
        With all faults.
    """
    faults = []
    actions = [name for name in ACTIONS if cfg[name]]
    if len(actions) != 1:
        choices = ", ".join(f"{name}=..." for name in ACTIONS)
        faults.append(f"give exactly one of {choices}; got {', '.join(actions) or 'none'}")
    faults += [
        f"allow={rule}: no such rule; {did_you_mean(rule, WAIVABLE)}" for rule in cfg.allow if rule not in WAIVABLE
    ]
    if cfg.alias.startswith("previous"):
        faults.append(f"alias={cfg.alias}: only promotions move this alias; choose another name")
    elif not re.fullmatch(ALIAS, cfg.alias):
        faults.append(
            f"alias={cfg.alias}: an alias has letters, digits, - and _, begins with a letter, has at most "
            f"{MAX_ALIAS_CHARS} characters, and is neither latest nor v and a number, which have a meaning of their own"
        )
    if cfg.repeats < 1:
        faults.append(f"repeats={cfg.repeats}: repeats >= 1 must hold")
    if cfg.baseline is not None and not isinstance(cfg.baseline, DictConfig):
        faults.append(f"baseline={cfg.baseline}: a model is chosen with model@baseline={cfg.baseline}")
    if cfg.tracking.uri is None:
        faults.append("tracking=off: a promotion needs the store that holds the run; choose tracking=local or server")
    if faults:
        raise UserError(*faults)


def source_run(cfg: DictConfig, runs: "Runs") -> "RecordedRun":
    """The run that is to be promoted."""
    from wineexp.tracking import ranking

    record = ranking.best_run(runs, cfg.best_of) if cfg.best_of else runs.get(cfg.run or cfg.study)
    log.info("promoting run %s (%s)", record.id, record.name)
    return record


def show_history(registry: "Registry") -> "list[Decision]":
    """Print and return every decision, and warn of whatever is missing or was moved by other means."""
    from wineexp.tracking.history import History

    history = History(registry)
    decisions = history.decisions()
    log.info("%d decisions on %s in %s", len(decisions), registry.name, registry.uri)
    for decision in decisions:
        moves = ", ".join(
            f"{alias} {start or 'nothing'} → {end or 'nothing'}" for alias, (start, end) in decision.moves.items()
        )
        log.info(
            "\n%d. %s, %s by %s (run %s)",
            *(decision.number, decision.when, decision.kind, decision.who, decision.run_id),
        )
        for line in [moves or f"{decision.alias} not moved".lstrip(), *decision.why]:
            log.info("   %s", line)
    for fault in history.faults():
        log.warning("%s", fault)
    return decisions


if __name__ == "__main__":
    main()
