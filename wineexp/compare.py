"""Rank recorded runs, or show the lineage of one: `python -m wineexp.compare runs=cultivar-cultivar`."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig

from wineexp.core.config import Compare
from wineexp.core.errors import UserError, did_you_mean
from wineexp.core.program import program

if TYPE_CHECKING:
    from wineexp.tracking.ranking import Ranking
    from wineexp.tracking.recorded_run import RecordedRun
    from wineexp.tracking.runs import Runs

log = logging.getLogger(__name__)

FORMATS = ["table", "html", "csv", "json"]


@dataclass(frozen=True)
class CompareResult:
    """The rankings of runs, or the lineage of one.

    Attributes
    ----------
    rankings : list of Ranking
        One for each combination of data, target and folds; empty with `lineage=`.
    left_out : dict of str to int
        How many runs could not be ranked, by reason.
    lineage : dict or None
        As `lineage.lineage` returns it; None without `lineage=`.
    page : Path or None
        The HTML page, with `format=html`.
    """

    rankings: "list[Ranking]"
    left_out: dict[str, int]
    lineage: "dict[str, Any] | None" = None
    page: Path | None = None


@program(Compare)
def main(cfg: DictConfig) -> None:
    """Run from the command line."""
    run(cfg)


def run(cfg: DictConfig) -> CompareResult:
    """Find the runs, rank those with the same data, target and folds, print them; or print the lineage of one run."""
    check(cfg)
    from wineexp.tracking import store

    with store.store_errors():
        return compare(cfg)


def compare(cfg: DictConfig) -> CompareResult:
    """As `run`, on a config whose values were checked."""
    from wineexp.tracking.runs import Runs

    runs = Runs(cfg.tracking.uri, cfg.registry.name)
    if cfg.lineage is not None:
        from wineexp.reports import lineage

        origin = lineage.lineage(cfg.lineage, runs)
        print(json.dumps(origin, indent=2) if cfg.format == "json" else lineage.tree(origin))
        return CompareResult([], {}, lineage=origin)

    from wineexp.tracking import ranking

    rankings, left_out = ranking.rank(select_runs(cfg, runs), alpha=cfg.alpha, limit=cfg.limit)
    if not rankings:
        reasons = "; ".join(f"{number} {reason}" for reason, number in left_out.items()) or "no training is recorded"
        raise UserError(f"there is nothing to rank in {runs.uri}: {reasons}; `python -m wineexp.train` records a run")
    if cfg.format == "html":
        from wineexp.reports import leaderboard_html

        studies = {record.parent for ranked in rankings for record in ranked.records if record.parent}
        path = Path(HydraConfig.get().runtime.output_dir) / "compare.html"
        page = leaderboard_html.render(rankings, left_out, {study: runs.get(study).name for study in studies})
        path.write_text(page, encoding="utf-8")
        print(f"Open the page: {path}")
        return CompareResult(rankings, left_out, page=path)
    from wineexp.reports import leaderboard_text

    leaderboard_text.PRINTERS[cfg.format](rankings, left_out)
    return CompareResult(rankings, left_out)


def check(cfg: DictConfig) -> None:
    """Check the config's values.

    Raises
    ------
    UserError
        Lists every value that breaks its rule.
    """
    faults = []
    if cfg.tracking.uri is None:
        faults.append(
            "tracking=off: compare reads recorded runs, and tracking=off records none; choose another tracking="
        )
    if cfg.format not in FORMATS:
        faults.append(f"format={cfg.format}: no such format; {did_you_mean(cfg.format, FORMATS)}")
    elif cfg.lineage is not None and cfg.format not in ("table", "json"):
        faults.append(f"format={cfg.format}: a lineage is printed as a tree with format=table, or with format=json")
    if not 0 < cfg.alpha < 1:
        faults.append(f"alpha={cfg.alpha}: 0 < alpha < 1 must hold")
    if cfg.limit is not None and cfg.limit < 1:
        faults.append(f"limit={cfg.limit}: limit >= 1 must hold, or limit=null for all")
    if isinstance(cfg.runs, DictConfig):
        faults.append(f"runs={cfg.runs}: runs must be a name or a list of names, as in 'runs=[champion,2]'")
    if cfg.runs is not None and cfg.lineage is not None:
        faults.append("runs= and lineage= exclude each other; give only one of them")
    if faults:
        raise UserError(*faults)


def select_runs(cfg: DictConfig, runs: "Runs") -> "list[RecordedRun]":
    """The runs that the config names; by default those of the only experiment there is.

    Raises
    ------
    UserError
        Lists every name that nothing has; or there is no experiment, or more than one.
    """
    if cfg.runs is not None:
        names = cfg.runs if isinstance(cfg.runs, ListConfig) else [cfg.runs]
        records: list[RecordedRun] = []
        faults: list[str] = []
        for name in names:
            try:
                records += runs.select(str(name))
            except UserError as error:
                faults += error.faults
        if faults:
            raise UserError(*faults)
        return records
    experiments = runs.experiments()
    if not experiments:
        raise UserError(f"{runs.uri} holds no runs; `python -m wineexp.train` records one")
    if len(experiments) > 1:
        raise UserError(f"{runs.uri} holds several experiments; give runs=, one of {', '.join(sorted(experiments))}")
    return runs.select(experiments[0])


if __name__ == "__main__":
    main()
