"""Predict the rows of a file: `python -m wineexp.predict input=rows.csv alias=champion output=answers.parquet`."""

import logging
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from wineexp.core.config import Predict
from wineexp.core.errors import UserError
from wineexp.core.program import program

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictResult:
    """The answers, how many there are, which version gave them, and the file that says what made them."""

    output: Path
    rows: int
    version: int
    provenance: Path


@program(Predict)
def main(cfg: DictConfig) -> None:
    """Run from the command line."""
    run(cfg)


def run(cfg: DictConfig) -> PredictResult:
    """Fetch the version, predict the rows in chunks, write the answers and what made them."""
    faults = [
        f"{key}: nothing is given; {key}={example}"
        for key, example in (("input", "ROWS.csv"), ("output", "ANSWERS.parquet"))
        if OmegaConf.is_missing(cfg, key)
    ]
    if cfg.tracking.uri is None:
        faults.append("tracking=off: the version is fetched from an MLflow store; choose another tracking=")
    if cfg.chunk_rows < 1:
        faults.append(f"chunk_rows={cfg.chunk_rows}: chunk_rows >= 1 must hold")
    if faults:
        raise UserError(*faults)
    from wineexp.tracking import store
    from wineexp.tracking.registry import Registry
    from wineexp.workflows import batch_scoring
    from wineexp.workflows.row_file import RowFile

    file, output = RowFile("input", Path(cfg.input)), Path(cfg.output)
    with store.store_errors():
        registry = Registry(cfg.tracking.uri, cfg.registry.name, access=store.Access.READ)
        predictor = batch_scoring.load_predictor(registry, str(cfg.alias), cfg.chunk_rows)
    scored = batch_scoring.score(predictor, file, output, cfg.chunk_rows)
    version = predictor.lineage.version
    if scored.resumed_rows:
        log.info("%s of the rows had been predicted before", f"{scored.resumed_rows:,}")
    log.info("%s rows predicted by version %d of %s: %s", f"{scored.rows:,}", version, predictor.lineage.name, output)
    log.info("What made them: %s", scored.provenance)
    return PredictResult(output, scored.rows, version, scored.provenance)


if __name__ == "__main__":
    main()
