"""The monitor: reads the log of a version, holds it against its reference, and writes down what was found."""

import json
import logging
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from wineexp.core.errors import UserError
from wineexp.monitoring import prediction_log, verdicts
from wineexp.monitoring.column_shifts import ColumnFinding
from wineexp.monitoring.drift import Findings, HarmFinding, Monitor
from wineexp.monitoring.format import DECISION, INPUT, NUMBER, PROBABILITY, TIME, TRUTH_TIME
from wineexp.monitoring.reference import Reference, read_reference
from wineexp.monitoring.truth import JoinCounts
from wineexp.reports import monitor_page
from wineexp.reports.text import enumeration, number, percent, spaced
from wineexp.tracking.recorded_run import RecordedRun
from wineexp.tracking.registry import Registry, Version
from wineexp.tracking.run import Run
from wineexp.workflows import console

logger = logging.getLogger(__name__)

PAGE_FILE, JSON_FILE = "monitor.html", "monitor.json"
# Tags of the run that is left beside the version's.
MONITORED_MODEL, MONITORED_VERSION = "monitor.model", "monitor.version"
# Columns that a sentence names.
MAX_NAMED = 5


@dataclass(frozen=True)
class MonitorResult:
    """What was found, and where it was written.

    Attributes
    ----------
    version : Version
    findings : Findings
    reference : Reference
    page : Path
    run_id : str or None
    """

    version: Version
    findings: Findings
    reference: Reference
    page: Path
    run_id: str | None = None

    @property
    def alarm(self) -> bool:
        """Whether the loss is greater than it was at training, or has to be expected to be."""
        return self.findings.alarm

    def lines(self) -> list[str]:
        """What was found, in sentences."""
        return sentences(self.version, self.reference, self.findings)


def monitor(
    registry: Registry,
    version: Version,
    source: RecordedRun,
    log: str,
    *,
    alpha: float,
    tolerance: float,
    since: str | None,
    uri: str,
    folder: Path,
    files: Sequence[Path] = (),
) -> MonitorResult:
    """Hold the log of a version against its reference; leave a page, JSON, a run, and what the server shows.

    Parameters
    ----------
    registry : Registry
    version : Version
    source : RecordedRun
        The run that the version was registered from; the monitor's run becomes its child.
    log : str
        The log's folder or database.
    alpha, tolerance
        See `Monitor`.
    since : str or None
        Rows that were answered from this time on.
    uri : str
        The tracking store.
    folder : Path
        Where files are written.
    files : sequence of Path
        What Hydra and the log write for the run.

    Raises
    ------
    UserError
        There is no log, or the version has no reference.
    """
    reference = find_reference(registry, version)
    watch = Monitor(reference, alpha=alpha, tolerance=tolerance)
    chosen = {"since": since, "model": version.name, "version": version.number}
    for frame in console.count_rows(_needed(log, reference, chosen), "reading the log"):
        watch.update(frame)
    counts = JoinCounts()
    labelled = _labelled(log, reference, chosen, counts)
    if labelled is not None:
        watch.update_labels(labelled)
    watch.leave_out_labels(counts.not_numbers)
    findings = watch.findings()
    tags = {MONITORED_MODEL: version.name, MONITORED_VERSION: str(version.number)}
    name = f"monitor version {version.number}"
    run = Run(uri, experiment=source.experiment, name=name, tags=tags, folder=folder, parent=source.id, files=files)
    said = document(version, reference, findings, alpha=alpha, tolerance=tolerance)
    with run:
        page = run.file(PAGE_FILE)
        lines = sentences(version, reference, findings)
        page.write_text(monitor_page.render(version.name, version.number, reference, findings, lines), encoding="utf-8")
        run.file(JSON_FILE).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
        run.log(metrics=metrics(findings), tags={"monitor.alarm": str(findings.alarm)})
        run.describe("\n\n".join(lines))
    try:
        verdicts.write(log, version.name, version.number, verdicts.DRIFT, said)
    except UserError as error:
        logger.warning("%s", error)
    return MonitorResult(version, findings, reference, page, run.id)


def find_reference(registry: Registry, version: Version) -> Reference:
    """The reference that a version was registered with.

    Raises
    ------
    UserError
        It has none.
    """
    with tempfile.TemporaryDirectory() as scratch:
        reference = read_reference(registry.fetch(version, Path(scratch)))
    if reference is None:
        raise UserError(
            f"version {version.number} of {version.name} was registered without a reference to hold its rows against, "
            "as older versions were; promote its run anew"
        )
    return reference


def _answers(reference: Reference) -> list[str]:
    return [DECISION, *(PROBABILITY + label for label in reference.classes)] if reference.classes else [NUMBER]


def _needed(log: str, reference: Reference, chosen: dict[str, Any]) -> Iterator[pd.DataFrame]:
    columns = [TIME, *_answers(reference), *(INPUT + column.name for column in reference.columns)]
    return prediction_log.read(log, columns=columns, **chosen)


def _labelled(log: str, reference: Reference, chosen: dict[str, Any], counts: JoinCounts) -> pd.DataFrame | None:
    """The rows with a truth, in the order in which the truths came: a later one changes nothing before it."""
    columns = [TIME, *_answers(reference)]
    frames = list(prediction_log.read_with_truth(log, columns=columns, counts=counts, **chosen))
    return pd.concat(frames, ignore_index=True).sort_values(TRUTH_TIME, kind="stable") if frames else None


def sentences(version: Version, reference: Reference, found: Findings) -> list[str]:
    """What was found, the verdict first."""
    nouns = reference.noun[1]
    if not found.n_rows:
        return [f"{version.name}, version {version.number}: the log holds no {nouns} that it answered"]
    head = f"{version.name}, version {version.number}: {found.n_rows:,} {nouns} from {found.first} to {found.last}, "
    lines = [f"{'ALARM' if found.alarm else 'no alarm'}: {head}{found.n_labels:,} of them with a label"]
    if found.n_labels:
        lines.append(f"with labels: {_harm_sentence(reference, found.labelled, 'is')}")
        metric = spaced(reference.metric)
        if found.score is not None and not math.isnan(found.score):
            lines.append(f"{metric}: {number(found.score)} now, {number(reference.score)} at training")
    else:
        lines.append("with labels: none yet; POST /feedback or python -m wineexp.feedback gives them")
    if found.expected is None:
        lines.append("without labels: nothing is expected, since too few training rows or no inputs are stored")
    else:
        lines.append(f"without labels: {_harm_sentence(reference, found.expected, 'is expected to be')}")
    if found.unlike is not None:
        lines.append(f"without labels: {_unlike_sentence(found.unlike, nouns)}")
    if found.n_unknown_labels:
        what = "classes that the model does not know" if reference.classes else "no numbers, and left out"
        lines.append(f"{found.n_unknown_labels:,} labels are {what}")
    lines.append(_shift_sentence(found.shifted, nouns))
    return lines


def _harm_sentence(reference: Reference, test: HarmFinding, verb: str) -> str:
    now, before = (number(reference.loss.in_unit(mean)) for mean in (test.mean, test.reference))
    values = f"the {reference.loss.name} {verb} {now}, and was {before} at training"
    if not test.alarm:
        return f"{values}; it is not shown to be greater by more than what is tolerated"
    values += f"; it is greater since about {test.change_time}, which was certain by {test.alarm_time}"
    return f"{values}, but {test.overruled}" if test.overruled else values


def _unlike_sentence(test: HarmFinding, nouns: str) -> str:
    values = f"{percent(test.mean)} of the {nouns} are unlike those of training, where {percent(test.reference)} were"
    if not test.alarm:
        return values
    values += f"; more are since about {test.change_time}, which was certain by {test.alarm_time}"
    return f"{values}, but {test.overruled}" if test.overruled else values


def _shift_sentence(shifted: list[ColumnFinding], nouns: str) -> str:
    if not shifted:
        return "no column's distribution is shown to have changed"
    named = [f"{spaced(each.sketch.name)} ({percent(each.moved, 0)} of the {nouns})" for each in shifted[:MAX_NAMED]]
    more = [f"{len(shifted) - MAX_NAMED} more"] if len(shifted) > MAX_NAMED else []
    return f"distributions that have changed, which alone is no alarm: {enumeration([*named, *more])}"


def metrics(found: Findings) -> dict[str, float]:
    """What was found as metrics of a run."""
    columns = {f"moved/{column.sketch.name}": column.moved for column in [*found.columns, *found.answers]}
    values = {
        "monitor/alarm": float(found.alarm),
        "monitor/rows": float(found.n_rows),
        "monitor/labels": float(found.n_labels),
        "monitor/shifted_columns": float(len(found.shifted)),
        "monitor/loss": found.labelled.mean,
        "monitor/log_e_value": found.labelled.log_e_value,
        **({"monitor/expected_loss": found.expected.mean} if found.expected else {}),
        **({"monitor/unlike_training": found.unlike.mean} if found.unlike else {}),
        **({"monitor/score": found.score} if found.score is not None else {}),
        **columns,
    }
    return {name.replace("=", " "): value for name, value in values.items() if not math.isnan(value)}


def document(
    version: Version, reference: Reference, found: Findings, *, alpha: float, tolerance: float
) -> dict[str, Any]:
    """What was found, for JSON."""
    return {
        "model": version.name,
        "version": version.number,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "alarm": found.alarm,
        "said": sentences(version, reference, found),
        "rows": found.n_rows,
        "first": found.first,
        "last": found.last,
        "labels": found.n_labels,
        "unknown_labels": found.n_unknown_labels,
        "alpha": alpha,
        "tolerance": tolerance,
        "metric": {"name": reference.metric, "now": _finite(found.score), "training": _finite(reference.score)},
        "loss": {"name": reference.loss.name, "low": reference.loss.low, "high": reference.loss.high},
        "with_labels": _harm_document(found.labelled),
        "without_labels": None if found.expected is None else _harm_document(found.expected),
        "unlike_training": None if found.unlike is None else _harm_document(found.unlike),
        "shifted": [column.sketch.name for column in found.shifted],
        "columns": [_column_document(column) for column in [*found.columns, *found.answers]],
    }


def _harm_document(test: HarmFinding) -> dict[str, Any]:
    values = vars(test) | {"periods": test.periods.tolist()}
    return {name: _finite(value) for name, value in values.items()}


def _column_document(column: ColumnFinding) -> dict[str, Any]:
    before_outside, outside = column.share(column.sketch.outside_bins)
    before_missing, missing = column.share([column.sketch.missing_bin])
    return {
        "name": column.sketch.name,
        "shifted": column.shifted,
        "log_e_value": column.log_e_value,
        "moved": column.moved,
        "outside": outside,
        "missing": missing,
        "missing_at_training": before_missing,
        "outside_at_training": before_outside,
    }


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
