"""Charts of the monitor, each as a data URI: a loss over time, and a column's distribution at training and now."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wineexp.monitoring.column_shifts import ColumnFinding
from wineexp.monitoring.drift import HarmFinding
from wineexp.monitoring.losses import Loss
from wineexp.monitoring.reference import CalibrationBin, ColumnSketch
from wineexp.reports.style import INK, LINE, RC_PARAMS, ROSE, SOFT, WATER, WIDTH_INCHES, WINE, data_uri, new_chart
from wineexp.reports.text import number

Floats = npt.NDArray[np.float64]

WIDE_INCHES = 7.2
# Levels of a column of texts that have a line over time.
MAX_LINES = 4
QUARTILES = (0.25, 0.5, 0.75)
# Characters of a level on an axis.
MAX_LEVEL_CHARS = 12


def loss_over_time(test: HarmFinding, loss: Loss, words: str) -> str:
    """The mean loss of each period with twice its standard error, beside that of training and what is tolerated."""
    with mpl.rc_context(RC_PARAMS):
        figure, axis = new_chart(2.6, WIDE_INCHES)
        places, means, errors = np.arange(len(test.periods)), *test.periods.T
        low, high = (np.array([loss.in_unit(value) for value in means + sign * 2 * errors]) for sign in (-1, 1))
        axis.fill_between(places, low, high, color=ROSE, alpha=0.45, linewidth=0)
        axis.plot(places, [loss.in_unit(mean) for mean in means], color=WINE, marker="o", markersize=3.5)
        axis.axhline(loss.in_unit(test.reference), color=WATER, linewidth=1.4)
        axis.axhline(loss.in_unit(test.bound), color=INK, linestyle=":", linewidth=1.2)
        for text, value, colour in (("training", test.reference, WATER), ("tolerated", test.bound, INK)):
            axis.annotate(
                *(text, (1.0, loss.in_unit(value))),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center" if abs(test.bound - test.reference) > 0.02 else "bottom" if text == "tolerated" else "top",
                fontsize=8,
                color=colour,
            )
        if test.alarm_row is not None and test.change_row is not None:
            rows_per_period = test.n_rows / max(1, len(test.periods))
            for row, style in ((test.change_row, ":"), (test.alarm_row, "-")):
                axis.axvline(row / rows_per_period - 0.5, color=SOFT, linestyle=style, linewidth=1.2)
        _days(axis, test.times)
        axis.set(ylabel=words)
        axis.grid(axis="y", color=LINE, linewidth=0.6)
        return data_uri(figure)


def column(found: ColumnFinding, times: Sequence[str]) -> str:
    """The shares of a column's bins at training and now, and below them how it went on over time."""
    with mpl.rc_context(RC_PARAMS):
        figure = Figure(figsize=(WIDTH_INCHES, 3.1), layout="constrained")
        upper, lower = figure.subplots(2, height_ratios=[1.25, 1])
        for axis in (upper, lower):
            axis.tick_params(length=0, labelsize=8)
        _shares(upper, found)
        if found.sketch.is_number:
            _quartiles(lower, found)
        else:
            _levels(lower, found)
        _days(lower, times)
        return data_uri(figure)


def calibration(reference: Sequence[CalibrationBin], now: Sequence[CalibrationBin], *, of_classes: bool) -> str:
    """What came true beside what was predicted, at training and now."""
    with mpl.rc_context(RC_PARAMS):
        figure, axis = new_chart(3.0, 4.2)
        ends = [value for each in (*reference, *now) for value in (each.predicted, each.true)]
        axis.plot([min(ends), max(ends)], [min(ends), max(ends)], color=SOFT, linestyle=":", linewidth=1)
        for bins, colour, marker, label in ((reference, WATER, "s", "training"), (now, WINE, "o", "now")):
            axis.plot(
                *([each.predicted for each in bins], [each.true for each in bins]),
                color=colour,
                marker=marker,
                markersize=4,
                label=label,
            )
        axis.set(
            xlabel="probability of the prediction" if of_classes else "prediction",
            ylabel="how often it was right" if of_classes else "true number",
        )
        axis.legend(frameon=False, fontsize=8)
        return data_uri(figure)


def quartiles(counts: npt.ArrayLike, sketch: ColumnSketch) -> Floats:
    """The quartiles of numbers in the bins of a sketch (n_bins,), interpolated within bins; NaN without any."""
    known = np.asarray(counts, dtype=float)[:-1]
    if not known.sum():
        return np.full(3, np.nan)
    # What is below the range counts as its lower end, what is above as its upper one.
    upto = np.cumsum(known)[:-1] / known.sum()
    edges = np.asarray(sketch.edges)
    return np.asarray(np.interp(QUARTILES, upto, edges))


def _shares(axis: Axes, found: ColumnFinding) -> None:
    sketch, counts = found.sketch, np.asarray(found.sketch.counts)
    before, now = (part / max(1, part.sum()) for part in (counts, found.counts))
    places = np.arange(sketch.n_bins)
    outside = [*sketch.outside_bins, sketch.missing_bin]
    axis.bar(places, now, width=0.8, color=[WINE if place in outside else ROSE for place in places])
    axis.step(
        np.append(places, places[-1] + 1) - 0.5, np.append(before, before[-1]), where="post", color=WATER, linewidth=1.6
    )
    if sketch.is_number:
        last = len(sketch.edges) - 1
        ticks = {0: "\nbelow", last + 1: "\nabove", sketch.missing_bin: "missing"}
        if last >= 4:
            ticks |= {place: number(sketch.edges[place if place > 1 else 0]) for place in (1, last // 2, last)}
    else:
        shown = sketch.levels if len(sketch.levels) <= 5 else []
        ticks = {place: level[:MAX_LEVEL_CHARS] for place, level in enumerate(shown)}
        ticks |= {sketch.n_bins - 2: "\nnew", sketch.missing_bin: "\n   missing"}
    axis.set_xticks(list(ticks), list(ticks.values()), fontsize=7)
    axis.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1, decimals=0))
    axis.locator_params(axis="y", nbins=4)


def _quartiles(axis: Axes, found: ColumnFinding) -> None:
    of_training = quartiles(found.sketch.counts, found.sketch)
    axis.axhspan(of_training[0], of_training[2], color=WATER, alpha=0.16, linewidth=0)
    axis.axhline(of_training[1], color=WATER, linewidth=1.2)
    lines = np.array([quartiles(counts, found.sketch) for counts in found.periods]).reshape(-1, 3)
    axis.fill_between(np.arange(len(lines)), lines[:, 0], lines[:, 2], color=ROSE, alpha=0.45, linewidth=0)
    axis.plot(lines[:, 1], color=WINE, marker="o", markersize=2.5, linewidth=1.4)
    axis.locator_params(axis="y", nbins=4)


def _levels(axis: Axes, found: ColumnFinding) -> None:
    shares = found.periods / np.maximum(1, found.periods.sum(axis=1, keepdims=True))
    new = found.sketch.n_bins - 2
    order = [place for place in np.argsort(-found.counts) if found.counts[place]][:MAX_LINES]
    for place, style in zip(order, ("-", "--", "-.", ":"), strict=False):
        name = (
            found.sketch.levels[place]
            if place < len(found.sketch.levels)
            else "new"
            if place == new
            else "others, or missing"
        )
        axis.plot(shares[:, place], color=WINE if place == new else SOFT, linestyle=style, label=name[:MAX_LEVEL_CHARS])
    axis.legend(frameon=False, fontsize=7, ncols=2, loc="best")
    axis.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1, decimals=0))
    axis.locator_params(axis="y", nbins=4)


def _days(axis: Axes, times: Sequence[str]) -> None:
    """Name a few periods by their days, or by their hours where all are of one day."""
    if not times:
        return
    is_one_day = times[0][:10] == times[-1][:10]
    places = np.unique(np.linspace(0, len(times) - 1, min(4, len(times))).astype(int))
    axis.set_xticks(places, [times[place][11:16] if is_one_day else times[place][:10] for place in places], fontsize=8)
