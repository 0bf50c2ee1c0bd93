"""The page of the monitor: one HTML file that needs no network, no server and no other file."""

from collections.abc import Sequence

from wineexp.monitoring.column_shifts import ColumnFinding
from wineexp.monitoring.drift import Findings, HarmFinding
from wineexp.monitoring.losses import Loss
from wineexp.monitoring.reference import Reference
from wineexp.reports import monitor_charts, templates
from wineexp.reports.text import number, percent, spaced

# Columns that have a picture: those whose distribution has changed, and then those of which most has moved.
MAX_PICTURES = 24


def render(name: str, version: int, reference: Reference, found: Findings, lines: Sequence[str]) -> str:
    """The page as HTML.

    Parameters
    ----------
    name : str
        The registered model.
    version : int
    reference : Reference
    found : Findings
    lines : sequence of str
        What was found, in sentences, the verdict first.
    """
    columns = sorted(
        [*found.columns, *found.answers], key=lambda column: (not column.shifted, -column.log_e_value, -column.moved)
    )
    tests = [("With labels", "labels", found.labelled)]
    tests += [("Expected loss", "expected", found.expected)] if found.expected else []
    tests += [("Unlike training", "unlike", found.unlike)] if found.unlike else []
    return templates.template("monitor_page.html").render(
        name=name,
        version=version,
        reference=reference,
        found=found,
        lines=[line[0].upper() + line[1:] for line in lines],
        tests=[(title, key, test, *_shown(reference, test, key)) for title, key, test in tests],
        calibration=monitor_charts.calibration(
            reference.calibration, found.calibration, of_classes=bool(reference.classes)
        )
        if found.calibration
        else None,
        columns=[(column, _row(column)) for column in columns],
        pictures=[
            (column, monitor_charts.column(column, found.times), _words(column))
            for column in columns[:MAX_PICTURES]
            if column.counts.sum()
        ],
    )


def _shown(reference: Reference, test: HarmFinding, key: str) -> tuple[dict[str, str], str | None]:
    """The figures of a test by what they are, and its chart; None where it has too few rows."""
    # What is counted is a loss of 0 or 1.
    loss, words = (Loss("error"), "share unlike training") if key == "unlike" else (reference.loss, reference.loss.name)
    low, high = (number(loss.in_unit(end)) for end in (test.low, test.high))
    figures = {
        f"{words}, of {test.n_rows:,} {reference.noun[1]}": number(loss.in_unit(test.mean)),
        "interval that holds at any time": f"{low} to {high}",
        "at training": number(loss.in_unit(test.reference)),
        "tolerated": number(loss.in_unit(test.bound)),
        "of the evidence that raises the alarm": percent(min(1.0, max(0.0, test.log_e_value) / test.needed), 0),
    }
    return figures, monitor_charts.loss_over_time(test, loss, words) if len(test.periods) > 1 else None


def _row(column: ColumnFinding) -> dict[str, tuple[float, float]]:
    return {
        "outside": column.share(column.sketch.outside_bins),
        "missing": column.share([column.sketch.missing_bin]),
    }


def _words(column: ColumnFinding) -> str:
    """A picture in words, for those who do not see it."""
    text = f"{percent(column.moved, 0)} of the rows of {spaced(column.sketch.name)} are in other bins than at training"
    if column.sketch.is_number:
        before, now = (
            monitor_charts.quartiles(counts, column.sketch)[1] for counts in (column.sketch.counts, column.counts)
        )
        text += f"; median {number(before)} at training, {number(now)} now"
    return text
