"""Charts as SVG images that carry their own light and dark colours, and those of single features."""

import base64
import io
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wineexp.evaluation.palette import PALETTE

# Matplotlib draws in these, and they are then replaced by the names above, which the style sheet gives colours to.
INK, SOFT, LINE, WINE, ROSE = "#010101", "#020202", "#030303", "#040404", "#050505"
WATER, GROUND = "#060606", "#070707"
NAMES = {INK: "ink", SOFT: "soft", LINE: "line", WINE: "wine", ROSE: "rose", WATER: "water", GROUND: "ground"}

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    # Ids come from the content alone, so that the same data makes the same page.
    "svg.hashsalt": "wineexp",
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}

WIDTH = 3.6

# A class of fewer rows is drawn as these rows: quartiles of a handful say more than anyone knows.
FEW = 10


def stylesheet() -> str:
    """CSS that gives every colour of the palette its value, by day and by night."""
    day, night = ("".join(f"--{name}:{colours[number]};" for name, colours in PALETTE.items()) for number in (0, 1))
    return f":root{{color-scheme:light dark;{day}}}@media(prefers-color-scheme:dark){{:root{{{night}}}}}"


def distribution(values: pd.Series, unit: str) -> str:
    """How often each value occurs: a histogram of numbers, a bar for each text; a data URI."""
    with mpl.rc_context(STYLE):
        figure, axis = blank(2.2)
        if pd.api.types.is_numeric_dtype(values):
            present = values.dropna()
            axis.hist(present, bins=_edges(present), color=WINE)
            axis.axvline(present.median(), color=INK, linestyle=":", linewidth=1.2)
            axis.set(ylabel="rows", xlabel=unit)
        else:
            counts = values.value_counts().sort_index(ascending=False)
            # At numbered places: matplotlib warns of labels that look like numbers.
            axis.barh(range(len(counts)), counts, height=0.6, color=WINE)
            axis.set_yticks(range(len(counts)), list(counts.index))
            axis.set(xlabel="rows")
        return uri(figure)


def by_class(values: pd.Series, y: pd.Series, classes: npt.NDArray[np.generic], unit: str) -> str:
    """One feature in each class: boxes or, of `FEW` rows, dots of numbers; stacked shares of text; a data URI."""
    groups = [values[(y == label).to_numpy()].dropna() for label in classes]
    names = [str(label) for label in classes]
    with mpl.rc_context(STYLE):
        figure, axis = blank(0.9 + 0.27 * len(classes))
        if pd.api.types.is_numeric_dtype(values):
            _boxes(axis, groups)
            axis.set_yticks(range(len(names)), names)
            axis.set(xlabel=unit, ylim=(-0.6, len(names) - 0.4))
        else:
            _stack(axis, groups, names)
        axis.invert_yaxis()
        axis.grid(axis="x", color=LINE, linewidth=0.6)
        return uri(figure)


def reliability(bins: pd.DataFrame) -> str:
    """How often the likeliest class is right against the probability it was given, of `confidence` and `accuracy`.

    A dot's area is the share of `rows` in its bin; on the dotted line, probabilities are what they say. A data URI.
    """
    with mpl.rc_context(STYLE):
        figure, axis = blank(3.2)
        axis.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1.2)
        axis.plot(bins["confidence"], bins["accuracy"], color=ROSE, linewidth=1.2)
        axis.scatter(
            bins["confidence"], bins["accuracy"], s=400 * bins["rows"] / bins["rows"].sum(), color=WINE, zorder=3
        )
        axis.set(xlabel="probability of the likeliest class", ylabel="how often it was right")
        axis.set(xlim=(0, 1.02), ylim=(0, 1.04))
        axis.grid(color=LINE, linewidth=0.6)
        return uri(figure)


def _boxes(axis: Axes, groups: list[pd.Series]) -> None:
    many = [position for position, group in enumerate(groups) if len(group) >= FEW]
    axis.boxplot(
        [groups[position] for position in many],
        positions=many,
        orientation="horizontal",
        whis=(5, 95),
        showfliers=False,
        widths=0.6,
        patch_artist=True,
        boxprops={"facecolor": ROSE, "edgecolor": WINE},
        medianprops={"color": WINE, "linewidth": 2},
        whiskerprops={"color": WINE},
        capprops={"color": WINE},
    )
    for position, group in enumerate(groups):
        if position not in many:
            axis.plot(group, [position] * len(group), ".", color=WINE)


def _stack(axis: Axes, groups: list[pd.Series], names: list[str]) -> None:
    shares = pd.DataFrame([group.value_counts(normalize=True) for group in groups]).fillna(0.0)
    shares = shares[sorted(shares.columns)]
    colours = [WINE, ROSE, SOFT, LINE]
    left = np.zeros(len(shares))
    for number, value in enumerate(shares):
        axis.barh(
            range(len(names)),
            shares[value],
            height=0.6,
            left=left,
            label=str(value),
            color=colours[number % len(colours)],
        )
        left += shares[value].to_numpy()
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="share", xlim=(0, 1))
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(colours), frameon=False)


def _edges(values: pd.Series) -> list[float]:
    # At most 40 bins, which the width of a phone still tells apart.
    edges = np.histogram_bin_edges(values, bins="fd")
    return list(edges if len(edges) <= 41 else np.histogram_bin_edges(values, bins=40))


def blank(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    """An empty chart of a width and height in inches; to be called, and drawn in, under `STYLE`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    axis.tick_params(length=0)
    axis.locator_params(axis="x", nbins=5)
    return figure, axis


def uri(figure: Figure) -> str:
    """A drawn chart as a data URI."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    for placeholder, name in NAMES.items():
        svg = svg.replace(placeholder, f"var(--{name})")
    head, _, body = svg.partition(">")
    css = stylesheet() + "text{font-family:system-ui,sans-serif!important}"
    return "data:image/svg+xml;base64," + base64.b64encode(f"{head}><style>{css}</style>{body}".encode()).decode()
