"""The page on a data set: one HTML file that needs no network, no server and no other file.

Each column by itself, its distribution and its associations with other columns are shown by skrub's TableReport, which
the page embeds. The sections before it show what that report does not: where the rows come from, the balance of the
classes, how well each feature separates them, outliers, and copies of rows with the leak that they cause.
"""

import logging
import re

import matplotlib
import matplotlib.style
import numpy as np
import numpy.typing as npt
import pandas as pd
from skrub import TableReport

from wineexp.data import eda
from wineexp.data.task import Task
from wineexp.reports import data_charts, templates
from wineexp.reports.text import enumeration, percent, signed, spaced

# The leak of copies is given for one fold of five, the number of folds that training uses by default.
TEST_SHARE = 0.2

# At level INFO, this logger remarks on the bar charts that skrub draws of columns with few different values.
logging.getLogger("matplotlib.category").setLevel(logging.WARNING)


def render(task: Task, *, data: str, target: str) -> str:
    """The page as HTML.

    Labels and values are shown of the rows outside the holdout only. Rows, missing values and duplicates are counted in
    the whole file.

    Parameters
    ----------
    task : Task
    data, target : str
        The names of the data set and of the target in the config.
    """
    X = task.X
    y, classes = _classes(task)
    separation = eda.class_separation(X, y)
    features = dict.fromkeys(str(name).partition("=")[0] for name in separation.index)
    return templates.template("eda_page.html").render(
        task=task,
        data=data,
        target=target,
        summary=summary(task),
        balance=eda.class_balance(y, classes),
        separation=separation,
        by_class={name: data_charts.by_class(X[name], y, classes, task.dataset.units[name]) for name in features},
        min_box_rows=data_charts.MIN_BOX_ROWS,
        medians=eda.numeric_columns(X).groupby(y.to_numpy()).median().reindex(classes),
        missing=eda.missing_values(task.dataset.frame),
        fence=eda.FENCE_IN_QUARTILE_RANGES,
        outliers=eda.outliers(X),
        rows_with_outliers=eda.rows_with_outliers(X),
        occurrences=_occurrences(task),
        leak=_leak(task),
        table_report=_table_report(task.frame),
    )


def _classes(task: Task) -> tuple[pd.Series, npt.NDArray[np.generic]]:
    """The label of each row, and all labels in their order; the bands of a target of numbers."""
    return eda.bands(task.y) if task.target.is_number else (task.y, task.classes)


def _target_sentence(task: Task, balance: pd.DataFrame) -> str:
    if task.target.is_number:
        y = task.y
        return (
            f"{task.target.column} runs from {y.min():g} to {y.max():g}, around a mean of {y.mean():.4g}: always "
            f"predicting the mean has a root mean squared error of {y.std(ddof=0):.4g}."
        )
    return (
        f"The most frequent of {len(balance)} classes is {balance['rows'].idxmax()}: always predicting it is "
        f"{percent(balance['share'].max())} accurate; the rarest, {balance['rows'].idxmin()}, has "
        f"{balance['rows'].min():,} of {len(task.y):,} rows."
    )


def summary(task: Task) -> str:
    """What the data show, in one paragraph."""
    dataset = task.dataset
    n_missing = int(eda.missing_values(dataset.frame).sum())
    y, classes = _classes(task)
    balance = eda.class_balance(y, classes)
    separation = eda.class_separation(task.X, y)
    first, second, correlation = eda.most_correlated(task.X)
    best = [f"{spaced(name)} ({percent(share, 0)} of its rank variance)" for name, share in separation[:3].items()]
    apart = "low from high values" if task.target.is_number else "the classes"
    sentences = [
        f"{len(dataset.frame):,} rows with {task.X.shape[1]} features; {n_missing or 'none'} of "
        f"{dataset.frame.size:,} values {'is' if n_missing in (0, 1) else 'are'} missing.",
        _repeats(task),
        _target_sentence(task, balance),
        f"The features that separate {apart} best are {enumeration(best)}.",
        f"The most correlated features are {spaced(first)} and {spaced(second)} (rank correlation "
        f"{signed(correlation)}).",
    ]
    return " ".join(sentences)


def _repeats(task: Task) -> str:
    """Whether rows repeat others, and whether they may be copies of them."""
    dataset = task.dataset
    number = dataset.duplicates
    if not number:
        return "No row repeats another."
    if dataset.is_repeated_by_chance:
        return (
            f"{number:,} rows equal an earlier one, which with so few different values they do by chance "
            f"({dataset.chance_duplicates:,} would if the columns were independent): they need not be "
            "copies."
        )
    return (
        f"{number:,} rows repeat an earlier one exactly: a split that ignores it would have a copy of "
        f"{percent(_leak(task), 0)} of its test rows in training."
    )


def _table_report(frame: pd.DataFrame) -> str:
    """The HTML of skrub's report, made reproducible: random ids become numbers, and figures lose their dates.

    Its figures have matplotlib's own style, whatever this process has set.
    """
    with matplotlib.style.context("default"), matplotlib.rc_context({"svg.hashsalt": "wineexp"}):
        html = str(TableReport(frame, verbose=0).html_snippet())
    for number, random_id in enumerate(dict.fromkeys(re.findall(r'id="((?:report_)?[0-9a-f]{8})\b', html))):
        html = html.replace(random_id, f"skrub_{number:03}")
    return re.sub("<dc:date>.*?</dc:date>", "", html)


def _occurrences(task: Task) -> pd.Series:
    """How many different rows of the whole file occur once, twice, and so on."""
    times = eda.row_occurrences(_all_rows(task)).value_counts().sort_index()
    return times // times.index


def _leak(task: Task) -> float:
    return eda.expected_leak(_all_rows(task), TEST_SHARE)


def _all_rows(task: Task) -> pd.DataFrame:
    """The features of all rows, those held out included."""
    return task.dataset.frame[list(task.X.columns)]
