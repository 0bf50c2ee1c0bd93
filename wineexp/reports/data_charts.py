"""Charts of one feature in each class, for the page on a data set."""

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from wineexp.core.columns import as_texts, is_number
from wineexp.reports.style import LINE, RC_PARAMS, ROSE, SOFT, WINE, data_uri, new_chart

# A class of fewer rows is drawn as dots, because the quartiles of so few rows say little.
MIN_BOX_ROWS = 10


def by_class(values: pd.Series, y: pd.Series, classes: npt.NDArray[np.generic], unit: str) -> str:
    """One feature in each class, as a data URI.

    Numbers are drawn as boxes, or as dots in a class of fewer than `MIN_BOX_ROWS` rows; texts as stacked shares.

    Parameters
    ----------
    values, y : Series of shape (n_samples,)
        The feature and the labels.
    classes : ndarray of shape (n_classes,)
        The labels in the order of the chart, from top to bottom.
    unit : str
        The label of the axis; empty where the unit is not known.
    """
    groups = [values[(y == label).to_numpy()].dropna() for label in classes]
    names = [str(label) for label in classes]
    with mpl.rc_context(RC_PARAMS):
        figure, axis = new_chart(0.9 + 0.27 * len(classes))
        if is_number(values):
            _boxes(axis, groups)
            axis.set_yticks(range(len(names)), names)
            axis.set(xlabel=unit, ylim=(-0.6, len(names) - 0.4))
        else:
            _stacked_shares(axis, groups, names)
        axis.invert_yaxis()
        axis.grid(axis="x", color=LINE, linewidth=0.6)
        return data_uri(figure)


def _boxes(axis: Axes, groups: list[pd.Series]) -> None:
    boxed = [position for position, group in enumerate(groups) if len(group) >= MIN_BOX_ROWS]
    axis.boxplot(
        [groups[position] for position in boxed],
        positions=boxed,
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
        if position not in boxed:
            axis.plot(group, [position] * len(group), ".", color=WINE)


def _stacked_shares(axis: Axes, groups: list[pd.Series], names: list[str]) -> None:
    shares = pd.DataFrame([as_texts(group).value_counts(normalize=True) for group in groups]).fillna(0.0)
    shares = shares[sorted(shares.columns)]
    colours = [WINE, ROSE, SOFT, LINE]
    left = np.zeros(len(shares))
    for position, value in enumerate(shares):
        axis.barh(
            range(len(names)),
            shares[value],
            height=0.6,
            left=left,
            label=str(value),
            color=colours[position % len(colours)],
        )
        left += shares[value].to_numpy()
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="share", xlim=(0, 1))
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(colours), frameon=False)
