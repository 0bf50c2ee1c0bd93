"""Charts of scored runs beside each other."""

import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from wineexp.evaluation.comparison import Comparison
from wineexp.reports.style import GROUND, INK, LINE, ROSE, SOFT, STYLE, WATER, WINE, blank, uri
from wineexp.reports.text import number, signed, words

# Inches: wide enough for a name beside a chart, narrow enough for a phone to show it legibly.
WIDE = 5.6
ROW = 0.3

COLOURS = {"worse": WINE, "better": WATER}
# Of a leader and a runner-up.
PAIR = [(WINE, "o"), (WATER, "s")]

# A difference beyond this many times the usual reach of the intervals is not drawn to scale.
FAR = 4

# A parameter whose values span more than this ratio is drawn on a logarithmic axis.
SPAN = 50


def by_fold(names: Sequence[str], scores: Sequence[npt.NDArray[np.float64]], metric: str) -> str:
    """Each run's scores (n_folds,), one line a run, a thin line through the runs for each fold; a data URI."""
    with mpl.rc_context(STYLE):
        figure, axis = blank(0.8 + ROW * len(names), WIDE)
        table = np.array(scores)
        for fold in table.T:
            axis.plot(fold, range(len(names)), color=ROSE, linewidth=1, marker="o", markersize=4)
        axis.plot(
            np.nanmean(table, axis=1), range(len(names)), "D", color=WINE, markersize=7, label="mean", linestyle="none"
        )
        axis.set(xlabel=words(metric))
        _name_rows(axis, names)
        return uri(figure)


def forest(names: Sequence[str], comparisons: Sequence[Comparison], metric: str) -> str:
    """Each run's difference to the best with its interval; a data URI.

    One so far off that the others would shrink to dots is an arrow with its figure.
    """
    reaches = [max(abs(told.low), abs(told.high)) for told in comparisons]
    far = FAR * float(np.median(reaches)) or math.inf
    shown = [told for told in comparisons if abs(told.difference) <= far]
    with mpl.rc_context(STYLE):
        figure, axis = blank(0.8 + ROW * len(names), WIDE)
        axis.axvline(0, color=INK, linestyle=":", linewidth=1.2)
        edges = [0.0, *(told.low for told in shown), *(told.high for told in shown)]
        edge = min(edges) - 0.06 * (max(edges) - min(edges))
        for place, told in enumerate(comparisons):
            colour = COLOURS.get(told.verdict, SOFT)
            if told in shown:
                axis.plot([told.low, told.high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
                axis.plot(told.difference, place, "o", color=colour, markersize=6)
            else:
                axis.plot(edge, place, "<", color=colour, markersize=7, clip_on=False)
                axis.annotate(
                    signed(told.difference, 4),
                    (edge, place),
                    xytext=(8, 0),
                    textcoords="offset points",
                    va="center",
                    color=colour,
                    fontsize=8,
                )
        axis.set(xlabel=f"difference in {words(metric)}")
        _name_rows(axis, names)
        return uri(figure)


def learning(trials: pd.Series, direction: str, metric: str) -> str:
    """The score of each trial (n_trials,), by number, and the best so far; a data URI."""
    best = trials.cummax() if direction == "maximize" else trials.cummin()
    with mpl.rc_context(STYLE):
        figure, axis = blank(2.6, WIDE)
        axis.plot(trials.index, trials, "o", color=ROSE, markersize=5, label="each trial")
        axis.step(best.index, best, color=WINE, linewidth=2, where="post", label="best so far")
        axis.set(xlabel="trial", ylabel=words(metric))
        axis.locator_params(axis="x", integer=True)
        axis.grid(axis="y", color=LINE, linewidth=0.6)
        # Over the chart: at its end the best so far would run through it.
        axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
        return uri(figure)


def calibration(curves: Mapping[str, pd.DataFrame], label: str) -> str:
    """Calibration curves, with `confidence` and `accuracy` of each bin, of up to two runs; a data URI."""
    with mpl.rc_context(STYLE):
        figure, axis = blank(3.6)
        axis.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1.2)
        for (name, curve), (colour, marker) in zip(curves.items(), PAIR, strict=False):
            axis.plot(curve["confidence"], curve["accuracy"], color=colour, marker=marker, markersize=4, label=name)
        axis.set(xlabel=label, ylabel="how often it was so", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axis.legend(loc="lower left", bbox_to_anchor=(-0.1, 1), frameon=False)
        return uri(figure)


def importances(drops: Mapping[str, pd.DataFrame], metric: str) -> str:
    """How much worse the metric gets, of up to two runs, each table (n_features, n_repeats); a data URI."""
    first = next(iter(drops.values()))
    order = list(first.mean(axis=1).sort_values(ascending=False).index)
    with mpl.rc_context(STYLE):
        figure, axis = blank(1.2 + 0.34 * len(order), WIDE)
        axis.axvline(0, color=LINE, linewidth=1)
        for place, (name, table) in enumerate(drops.items()):
            colour, marker = PAIR[place]
            at = np.arange(len(order)) + (place - (len(drops) - 1) / 2) * 0.3
            rows = table.reindex(order)
            axis.hlines(at, rows.min(axis=1), rows.max(axis=1), color=colour, linewidth=2)
            axis.plot(rows.mean(axis=1), at, marker, color=colour, markersize=5, label=name, linestyle="none")
        axis.set(xlabel=f"{words(metric)} lost when the column is shuffled")
        _name_rows(axis, [words(name) for name in order])
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
        return uri(figure)


def parallel(parameters: pd.DataFrame, goodness: pd.Series) -> str:
    """Runs as lines through the values of their parameters (n_runs, n_parameters), the better the stronger.

    Parameters
    ----------
    parameters : DataFrame of shape (n_runs, n_parameters)
        As text; missing where a run has no such parameter, where its line has a gap.
    goodness : Series of shape (n_runs,)
        From 0, the worst, to 1.

    Returns
    -------
    str
        A data URI.
    """
    with mpl.rc_context(STYLE):
        figure, axis = blank(4.2, max(WIDE, 1.15 * parameters.shape[1]))
        heights = pd.DataFrame(index=parameters.index)
        for place, name in enumerate(parameters):
            heights[name], ticks = _axis(parameters[name])
            axis.axvline(place, color=LINE, linewidth=1)
            for height, text in ticks:
                # On a ground of its own, over the lines.
                ground = {"facecolor": GROUND, "edgecolor": "none", "pad": 1}
                axis.text(place + 0.05, height, text, fontsize=8, color=SOFT, va="center", bbox=ground, zorder=3)
        for line in np.argsort(goodness.to_numpy()):
            values, good = heights.iloc[int(line)].to_numpy(dtype=float), float(goodness.iloc[int(line)])
            axis.plot(
                range(len(values)),
                values,
                color=WINE,
                alpha=0.15 + 0.8 * good**2,
                linewidth=1 + 1.5 * good,
                marker="o",
                markersize=3,
            )
        labels = [_folded(str(name)) for name in parameters]
        axis.set_xticks(range(parameters.shape[1]), labels, fontsize=9)
        axis.set(yticks=[], xlim=(-0.2, parameters.shape[1] - 0.4), ylim=(-0.06, 1.06))
        axis.spines[["left", "bottom"]].set_visible(False)
        return uri(figure)


def _axis(values: pd.Series) -> tuple[pd.Series, list[tuple[float, str]]]:
    """Values as heights from 0 to 1, and the marks beside the axis."""
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().equals(values.notna()):
        low, high = float(numbers.min()), float(numbers.max())
        if low > 0 and high / low > SPAN:
            scaled, ends = np.log(numbers), (math.log(low), math.log(high))
        else:
            scaled, ends = numbers, (low, high)
        reach = ends[1] - ends[0] or 1.0
        return (scaled - ends[0]) / reach, [(0.0, number(low)), (1.0, number(high))]
    kinds = sorted(values.dropna().unique(), key=lambda kind: (_number(kind), kind))
    height = {kind: place / max(1, len(kinds) - 1) for place, kind in enumerate(kinds)}
    return values.map(height), [(at, str(kind)) for kind, at in height.items()]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.inf


def _folded(name: str) -> str:
    """A dotted key on lines of its own: names of neighbouring axes would else run into each other."""
    return name.replace("_target_", "type").replace(".", ".\n").replace("_", "_\n")


def _name_rows(axis: Axes, names: Sequence[str]) -> None:
    axis.set_yticks(range(len(names)), list(names))
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(axis="x", color=LINE, linewidth=0.6)
