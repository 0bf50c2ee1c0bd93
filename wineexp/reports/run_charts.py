"""Charts of one scored run, or of several beside each other, each as a data URI."""

import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from wineexp.evaluation.comparison import Comparison
from wineexp.reports.style import GROUND, INK, LINE, RC_PARAMS, ROSE, SOFT, WATER, WINE, data_uri, new_chart
from wineexp.reports.text import number, signed, spaced

# Wide enough for a run's name beside the chart, narrow enough to be legible on a phone.
WIDE_INCHES = 5.6
ROW_INCHES = 0.3

VERDICT_COLOURS = {"worse": WINE, "better": WATER}
# Colour and marker of the first and of the second run in a chart of two.
FIRST_AND_SECOND = [(WINE, "o"), (WATER, "s")]

# A difference of more than this many times the median reach of the intervals is not drawn to scale.
MAX_REACH_RATIO = 4

# A parameter whose greatest value is more than this many times its smallest is drawn on a logarithmic axis.
LOG_AXIS_RATIO = 50


def by_fold(names: Sequence[str], scores: Sequence[npt.NDArray[np.float64]], metric: str) -> str:
    """The scores (n_folds,) of each run in a row of its own, with a thin line through the runs for each fold."""
    with mpl.rc_context(RC_PARAMS):
        figure, axis = new_chart(0.8 + ROW_INCHES * len(names), WIDE_INCHES)
        table = np.array(scores)
        rows = range(len(names))
        for fold_scores in table.T:
            axis.plot(fold_scores, rows, color=ROSE, linewidth=1, marker="o", markersize=4)
        axis.plot(np.nanmean(table, axis=1), rows, "D", color=WINE, markersize=7, label="mean", linestyle="none")
        axis.set(xlabel=spaced(metric))
        _name_rows(axis, names)
        return data_uri(figure)


def forest(names: Sequence[str], comparisons: Sequence[Comparison], metric: str) -> str:
    """Each run's difference to the best with its interval.

    A difference that would shrink the others to dots is drawn as an arrow with its value.
    """
    reaches = [max(abs(comparison.low), abs(comparison.high)) for comparison in comparisons]
    limit = MAX_REACH_RATIO * float(np.median(reaches)) or math.inf
    drawn_to_scale = [comparison for comparison in comparisons if abs(comparison.difference) <= limit]
    with mpl.rc_context(RC_PARAMS):
        figure, axis = new_chart(0.8 + ROW_INCHES * len(names), WIDE_INCHES)
        axis.axvline(0, color=INK, linestyle=":", linewidth=1.2)
        bounds = [0.0, *(bound for comparison in drawn_to_scale for bound in (comparison.low, comparison.high))]
        left_edge = min(bounds) - 0.06 * (max(bounds) - min(bounds))
        for row, comparison in enumerate(comparisons):
            colour = VERDICT_COLOURS.get(comparison.verdict, SOFT)
            if comparison in drawn_to_scale:
                axis.plot(
                    [comparison.low, comparison.high], [row, row], color=colour, linewidth=2, solid_capstyle="round"
                )
                axis.plot(comparison.difference, row, "o", color=colour, markersize=6)
            else:
                axis.plot(left_edge, row, "<", color=colour, markersize=7, clip_on=False)
                axis.annotate(
                    signed(comparison.difference, 4),
                    (left_edge, row),
                    xytext=(8, 0),
                    textcoords="offset points",
                    va="center",
                    color=colour,
                    fontsize=8,
                )
        axis.set(xlabel=f"difference in {spaced(metric)}")
        _name_rows(axis, names)
        return data_uri(figure)


def optimization_history(trials: pd.Series, direction: str, metric: str) -> str:
    """The score of each trial (n_trials,), indexed by the trial's number, and the best score so far."""
    best = trials.cummax() if direction == "maximize" else trials.cummin()
    with mpl.rc_context(RC_PARAMS):
        figure, axis = new_chart(2.6, WIDE_INCHES)
        axis.plot(trials.index, trials, "o", color=ROSE, markersize=5, label="each trial")
        axis.step(best.index, best, color=WINE, linewidth=2, where="post", label="best so far")
        axis.set(xlabel="trial", ylabel=spaced(metric))
        axis.locator_params(axis="x", integer=True)
        axis.grid(axis="y", color=LINE, linewidth=0.6)
        # Above the chart, since the best score so far may run through every corner of it.
        axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
        return data_uri(figure)


def reliability(bins: pd.DataFrame) -> str:
    """How often the likeliest class is right against the probability it was given, in one run.

    On the dotted line, probabilities are calibrated.

    Parameters
    ----------
    bins : DataFrame of shape (n_bins, n_columns)
        as `calibration_curve` gives them; a dot's area is the share of all predictions that are in its bin.
    """
    with mpl.rc_context(RC_PARAMS):
        figure, axis = new_chart(3.2)
        axis.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1.2)
        axis.plot(bins["confidence"], bins["accuracy"], color=ROSE, linewidth=1.2)
        areas = 400 * bins["rows"] / bins["rows"].sum()
        axis.scatter(bins["confidence"], bins["accuracy"], s=areas, color=WINE, zorder=3)
        axis.set(xlabel="probability of the likeliest class", ylabel="how often it was right")
        axis.set(xlim=(0, 1.02), ylim=(0, 1.04))
        axis.grid(color=LINE, linewidth=0.6)
        return data_uri(figure)


def predicted_numbers(bins: pd.DataFrame, column: str) -> str:
    """The mean of the true numbers against the predicted ones, in one run.

    On the dotted line, both are equal.

    Parameters
    ----------
    bins : DataFrame of shape (n_bins, n_columns)
        As `metrics.binned_numbers` gives them; a dot's area is the share of all predictions that are in its bin.
    column : str
        What is predicted.
    """
    with mpl.rc_context(RC_PARAMS):
        figure, axis = new_chart(3.2)
        both = bins[["predicted", "true"]].to_numpy()
        axis.plot([both.min(), both.max()], [both.min(), both.max()], color=SOFT, linestyle=":", linewidth=1.2)
        axis.plot(bins["predicted"], bins["true"], color=ROSE, linewidth=1.2)
        axis.scatter(bins["predicted"], bins["true"], s=400 * bins["rows"] / bins["rows"].sum(), color=WINE, zorder=3)
        axis.set(xlabel=f"predicted {column}", ylabel=f"true {column}")
        axis.grid(color=LINE, linewidth=0.6)
        return data_uri(figure)


def calibration(curves: Mapping[str, pd.DataFrame], label: str) -> str:
    """The calibration curves of up to two runs, by the run's name, as `calibration_curve` gives them."""
    with mpl.rc_context(RC_PARAMS):
        figure, axis = new_chart(3.6)
        axis.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1.2)
        for (name, curve), (colour, marker) in zip(curves.items(), FIRST_AND_SECOND, strict=False):
            axis.plot(curve["confidence"], curve["accuracy"], color=colour, marker=marker, markersize=4, label=name)
        axis.set(xlabel=label, ylabel="observed frequency", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axis.legend(loc="lower left", bbox_to_anchor=(-0.1, 1), frameon=False)
        return data_uri(figure)


def importances(drops: Mapping[str, pd.DataFrame], metric: str) -> str:
    """Permutation importances (n_features, n_repeats) of up to two runs, by the run's name."""
    first = next(iter(drops.values()))
    order = list(first.mean(axis=1).sort_values(ascending=False).index)
    with mpl.rc_context(RC_PARAMS):
        figure, axis = new_chart(1.2 + 0.34 * len(order), WIDE_INCHES)
        axis.axvline(0, color=LINE, linewidth=1)
        for position, (name, table) in enumerate(drops.items()):
            colour, marker = FIRST_AND_SECOND[position]
            heights = np.arange(len(order)) + (position - (len(drops) - 1) / 2) * 0.3
            rows = table.reindex(order)
            axis.hlines(heights, rows.min(axis=1), rows.max(axis=1), color=colour, linewidth=2)
            axis.plot(rows.mean(axis=1), heights, marker, color=colour, markersize=5, label=name, linestyle="none")
        axis.set(xlabel=f"{spaced(metric)} lost when the column is shuffled")
        _name_rows(axis, [spaced(name) for name in order])
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
        return data_uri(figure)


def parallel_coordinates(parameters: pd.DataFrame, quality: pd.Series, names: Sequence[str]) -> str:
    """Each run as a line through the values of its parameters.

    Parameters
    ----------
    parameters : DataFrame of shape (n_runs, n_parameters)
        As text. A missing value, of a parameter that a run does not have, leaves a gap in its line.
    quality : Series of shape (n_runs,)
        From 0 for the worst run to 1 for the best, whose line is the strongest.
    names : sequence of str
        Of the runs; the best and the worst are named above the chart.
    """
    with mpl.rc_context(RC_PARAMS):
        figure, axis = new_chart(4.2, max(WIDE_INCHES, 1.15 * parameters.shape[1]))
        heights = pd.DataFrame(index=parameters.index)
        for position, name in enumerate(parameters):
            heights[name], ticks = _parameter_axis(parameters[name])
            axis.axvline(position, color=LINE, linewidth=1)
            for height, label in ticks:
                # The background keeps the label legible where lines run through it.
                background = {"facecolor": GROUND, "edgecolor": "none", "pad": 1}
                axis.text(
                    position + 0.05, height, label, fontsize=8, color=SOFT, va="center", bbox=background, zorder=3
                )
        order = np.argsort(quality.to_numpy(), kind="stable")
        for run in order:
            values, strength = heights.iloc[int(run)].to_numpy(dtype=float), float(quality.iloc[int(run)])
            axis.plot(
                range(len(values)),
                values,
                color=WINE,
                alpha=0.15 + 0.8 * strength**2,
                linewidth=1 + 1.5 * strength,
                marker="o",
                markersize=3,
                label=names[int(run)] if run in (order[0], order[-1]) else None,
            )
        axis.set_xticks(range(parameters.shape[1]), [_wrapped_key(str(name)) for name in parameters], fontsize=9)
        axis.set(yticks=[], xlim=(-0.2, parameters.shape[1] - 0.4), ylim=(-0.06, 1.06))
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, reverse=True)
        axis.spines[["left", "bottom"]].set_visible(False)
        return data_uri(figure)


def _parameter_axis(values: pd.Series) -> tuple[pd.Series, list[tuple[float, str]]]:
    """Values as heights from 0 to 1, and the ticks of their axis: heights and labels."""
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().equals(values.notna()):
        low, high = float(numbers.min()), float(numbers.max())
        if low > 0 and high / low > LOG_AXIS_RATIO:
            scaled, (start, end) = np.log(numbers), (math.log(low), math.log(high))
        else:
            scaled, (start, end) = numbers, (low, high)
        return (scaled - start) / (end - start or 1.0), [(0.0, number(low)), (1.0, number(high))]
    categories = sorted(values.dropna().unique(), key=lambda category: (_as_number(category), category))
    heights = {category: position / max(1, len(categories) - 1) for position, category in enumerate(categories)}
    return values.map(heights), [(height, str(category)) for category, height in heights.items()]


def _as_number(text: str) -> float:
    """The number that a text spells; infinity for other texts, which sorts them last."""
    try:
        return float(text)
    except ValueError:
        return math.inf


def _wrapped_key(name: str) -> str:
    """A dotted key with line breaks, so that it does not run into the name of the next axis."""
    return name.replace("_target_", "type").replace(".", ".\n").replace("_", "_\n")


def _name_rows(axis: Axes, names: Sequence[str]) -> None:
    axis.set_yticks(range(len(names)), list(names))
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(axis="x", color=LINE, linewidth=0.6)
