"""Training anew: answered rows whose truth became known are pinned, added to the training data, and trained on.

Each step can be repeated: a snapshot is named after its bytes, a model that was trained from the same config, code and
data is used again, and what was refused before is not tried again. So a process may be killed at any place, or started
twice.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from wineexp.core.errors import UserError
from wineexp.core.instantiation import build
from wineexp.data import pin
from wineexp.data.target import Target
from wineexp.data.task import labels_from_table
from wineexp.monitoring import prediction_log
from wineexp.monitoring.truth import JoinCounts
from wineexp.tracking.history import History
from wineexp.tracking.names import DATA_MD5
from wineexp.tracking.recorded_run import RecordedRun
from wineexp.tracking.registry import Version
from wineexp.workflows import feedback_snapshot
from wineexp.workflows.champion import feedback
from wineexp.workflows.experiment import assemble
from wineexp.workflows.promotion import Promotion

log = logging.getLogger(__name__)


def retrain(
    promotion: Promotion,
    champion: Version,
    source: RecordedRun,
    address: str,
    *,
    min_rows: int,
    since: str | None = None,
    until: str | None = None,
    tune: Callable[[RecordedRun, str], RecordedRun] | None = None,
) -> tuple[Version | None, str, Path | None]:
    """Train the champion's config anew with the labelled rows that are new, and put it through the gate.

    Parameters
    ----------
    promotion : Promotion
        Which compares with the champion's alias.
    champion : Version
    source : RecordedRun
        The run that the champion was promoted with.
    address : str
        Of the log.
    min_rows : int
        With fewer new rows nothing is trained.
    since, until : str, optional
        Rows answered from this time on, and before this time.
    tune : callable, optional
        Gives the best run of a sweep, from the champion's run and the pin of the snapshot; see `retraining_sweep`.

    Returns
    -------
    Version or None, str, Path or None
        The challenger; why nothing was promoted; the pin of the snapshot.

    Raises
    ------
    UserError
        There is no such log; it lacks inputs; or the data set needs columns that no log has.
    """
    cfg = source.config()
    target: Target = build(OmegaConf.masked_copy(cfg, ["target"]))["target"]
    known = feedback(cfg)
    table = source.predictions()
    classes = [] if table is None else labels_from_table(table)
    check_data(cfg)
    task = assemble(cfg).task
    if task.dates:
        raise UserError(*(f"{name} is a date, which a log holds as a number of days" for name in task.dates))
    counts = JoinCounts()
    lines = list(
        feedback_snapshot.new_rows(
            prediction_log.read_with_truth(address, since=since, until=until, model=champion.name, counts=counts),
            features=[str(name) for name in task.X],
            known=set().union(*(feedback_snapshot.keys(Path(file)) for file in known)),
            target=target,
            classes=classes,
            columns=cfg.data.get("columns") or {},
        )
    )
    if counts.not_numbers:
        log.info("%d rows are left out: their truth is no number, and numbers are predicted", counts.not_numbers)
    if len(lines) < min_rows:
        return None, f"{len(lines)} new rows have a label, and min_rows={min_rows} are wanted", None
    snapshot = feedback_snapshot.write(champion.name, lines, cfg.data)
    cfg.data.feedback = [*known, pin.display_path(snapshot)]
    log.info("%d new rows with a label are pinned in %s.", len(lines), pin.display_path(snapshot))
    if tune is None and (refusal := earlier_refusal(promotion, cfg)) is not None:
        return None, f"this was tried before on the same rows, and refused: {refusal}", snapshot
    try:
        if tune is not None:
            source = tune(source, pin.display_path(snapshot))
            cfg = source.config()
        return promotion.attempt_config(source, cfg, is_trained_anew=True), "", snapshot
    except UserError as error:
        return None, "; ".join(error.faults), snapshot


def check_data(cfg: DictConfig) -> None:
    """Check that rows of a log can be rows of the champion's data set.

    Raises
    ------
    UserError
        The data set has a role that no log has, or is no table.
    """
    if cfg.data["_target_"] != "wineexp.data.table":
        raise UserError(
            f"data._target_={cfg.data['_target_']}: rows can only be added to a data set of wineexp.data.table"
        )
    roles = [key for key in ("group", "time", "fold", "weight", "file_column") if cfg.data.get(key) is not None]
    if roles:
        raise UserError(
            *(
                f"data.{key}={cfg.data[key]}: the log does not say this of its rows, so that they cannot be added"
                for key in roles
            )
        )


def earlier_refusal(promotion: Promotion, cfg: DictConfig) -> str | None:
    """Why the same rows were refused before, while the champion was the same; None where they were not."""
    wanted = "+".join(each.md5 for each in build(OmegaConf.masked_copy(cfg, ["data"]))["data"]().pins)
    against, challenger = promotion.cfg.against, promotion.cfg.alias
    for decision in reversed(History(promotion.registry).decisions()):
        if against in decision.moves:
            return None
        if decision.kind == "refused" and decision.alias == challenger:
            tags = promotion.registry.client.get_run(decision.run_id).data.tags
            if tags.get(DATA_MD5) == wanted:
                return "; ".join(decision.why)
    return None
