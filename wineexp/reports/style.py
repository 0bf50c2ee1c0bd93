"""The look of the charts: SVG images that carry the colours of a light and of a dark theme."""

import base64
import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wineexp.evaluation.palette import PALETTE

# Matplotlib draws in these placeholders. `data_uri` replaces them with the CSS variables that `stylesheet` defines.
INK, SOFT, LINE, WINE, ROSE = "#010101", "#020202", "#030303", "#040404", "#050505"
WATER, GROUND = "#060606", "#070707"
CSS_VARIABLES = {INK: "ink", SOFT: "soft", LINE: "line", WINE: "wine", ROSE: "rose", WATER: "water", GROUND: "ground"}

RC_PARAMS: dict[Any, Any] = {
    "svg.fonttype": "none",
    # The ids within an SVG then depend on its content alone, so that the same data make the same page.
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

WIDTH_INCHES = 3.6


def stylesheet() -> str:
    """CSS that defines each colour of the palette as a variable, for the light and for the dark theme."""
    light, dark = ("".join(f"--{name}:{values[theme]};" for name, values in PALETTE.items()) for theme in (0, 1))
    return f":root{{color-scheme:light dark;{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"


def new_chart(height_inches: float, width_inches: float = WIDTH_INCHES) -> tuple[Figure, Axes]:
    """An empty chart; call this and draw inside `matplotlib.rc_context(RC_PARAMS)`."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    axis = figure.subplots()
    axis.tick_params(length=0)
    axis.locator_params(axis="x", nbins=5)
    return figure, axis


def data_uri(figure: Figure) -> str:
    """A drawn chart as a data URI."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    for placeholder, name in CSS_VARIABLES.items():
        svg = svg.replace(placeholder, f"var(--{name})")
    opening_tag, _, content = svg.partition(">")
    css = stylesheet() + "text{font-family:system-ui,sans-serif!important}"
    themed = f"{opening_tag}><style>{css}</style>{content}"
    return "data:image/svg+xml;base64," + base64.b64encode(themed.encode()).decode()
