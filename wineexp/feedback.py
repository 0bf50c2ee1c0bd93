"""Store the truth of logged predictions: `python -m wineexp.feedback file=truth.csv`."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from wineexp.core.config import Feedback
from wineexp.core.errors import UserError
from wineexp.core.program import program

if TYPE_CHECKING:
    from wineexp.monitoring.truth import JoinCounts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeedbackResult:
    """How many truths were stored, and what becomes of them in the log; None with `joined=false`."""

    stored: int
    counts: "JoinCounts | None"


@program(Feedback)
def main(cfg: DictConfig) -> None:
    """Run from the command line."""
    run(cfg)


def run(cfg: DictConfig) -> FeedbackResult:
    """Check the whole file, store its truths, then say which of them belong to no logged prediction."""
    from wineexp.core.addresses import without_credentials
    from wineexp.monitoring import prediction_log
    from wineexp.workflows import truth_file
    from wineexp.workflows.row_file import RowFile

    faults: list[str] = []
    try:
        prediction_log.check_log("log", cfg.log)
    except UserError as error:
        faults += error.faults
    try:
        if OmegaConf.is_missing(cfg, "file"):
            raise UserError("file: nothing is given; file=TRUTH.csv")
        file = RowFile("file", Path(cfg.file))
    except UserError as error:
        faults += error.faults
    if faults:
        raise UserError(*faults)
    truth_file.check(file)
    # Before anything is stored: the log says whether truths have to be numbers.
    counts = truth_file.join(file, cfg.log) if cfg.joined else None
    stored = truth_file.store(file, cfg.log)
    log.info("%s truths are stored in %s", f"{stored:,}", without_credentials(cfg.log))
    if counts is None:
        return FeedbackResult(stored, None)
    if counts.replaced:
        log.info(
            "%s of them have a later one in this file, which counts; %s of those say something else",
            f"{counts.replaced:,}",
            f"{counts.contradicted:,}",
        )
    log.info("%s predictions have their truth by this file", f"{counts.joined:,}")
    if counts.unjoined:
        log.warning(
            "%s truths belong to no logged prediction, so far; request id and row of the first of them: %s",
            f"{counts.unjoined:,}",
            "; ".join(counts.unjoined_ids[:10]),
        )
    return FeedbackResult(stored, counts)


if __name__ == "__main__":
    main()
