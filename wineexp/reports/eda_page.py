"""The page on a data set: one HTML file that needs no network, no server and no other file.

Each column by itself, its distribution and its associations with other columns are shown by skrub's TableReport, which
the page embeds. The sections before it show what that report does not: where the rows come from, the balance of the
classes, how well each feature separates them, outliers, and copies of rows with the leak that they cause.
"""

import logging
import re
from dataclasses import dataclass
from itertools import pairwise

import matplotlib
import matplotlib.style
import numpy as np
import numpy.typing as npt
import pandas as pd
from skrub import TableReport

from wineexp.data import eda
from wineexp.data.task import Task
from wineexp.reports import data_charts, templates
from wineexp.reports.text import enumeration, exact, number, percent, signed, spaced

# The leak of copies is given for one fold of five, the number of folds that training uses by default.
TEST_SHARE = 0.2
# The summary names no feature whose separation rounds to 0 %.
MIN_NAMED_SEPARATION = 0.005

# At level INFO, this logger remarks on the bar charts that skrub draws of columns with few different values.
logging.getLogger("matplotlib.category").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Findings:
    """What is found out about a task's data.

    Of the rows outside the holdout are all but `missing`, `occurrences` and `leak`, which are of the whole file.

    Attributes
    ----------
    y, classes : Series of shape (n_training,), ndarray of shape (n_classes,)
        The label of each row, and all labels in their order; the bands of a target of numbers.
    balance, separation, correlated, outliers
        As `eda.class_balance`, `class_separation`, `most_correlated` and `outliers` give them.
    n_rows_with_outliers : int
    missing : Series
        As `eda.missing_values` gives it.
    occurrences : Series of int
        By a number of times: how many different rows occur so often.
    leak : float
        Expected share of a fold's test rows that have a copy in training.
    """

    y: pd.Series
    classes: npt.NDArray[np.generic]
    balance: pd.DataFrame
    separation: pd.Series
    correlated: tuple[str, str, float] | None
    outliers: pd.DataFrame
    n_rows_with_outliers: int
    missing: pd.Series
    occurrences: pd.Series
    leak: float


def find(task: Task) -> Findings:
    """Find out what the page and its summary say."""
    y, classes = _bands(task.y) if task.target.is_number else (task.y, task.classes)
    outliers = eda.outliers(task.X)
    # The features of all rows, those held out included.
    occurrences = eda.row_occurrences(task.dataset.frame[list(task.X.columns)])
    times = occurrences.value_counts().sort_index()
    return Findings(
        y=y,
        classes=classes,
        balance=eda.class_balance(y, classes),
        separation=eda.class_separation(task.X, y),
        correlated=eda.most_correlated(task.X),
        outliers=outliers,
        n_rows_with_outliers=eda.rows_with_outliers(task.X, outliers),
        missing=eda.missing_values(task.dataset.frame),
        occurrences=times // times.index,
        leak=eda.expected_leak(occurrences, TEST_SHARE),
    )


def _bands(y: pd.Series) -> tuple[pd.Series, npt.NDArray[np.generic]]:
    """The band of each number in words, and all bands in their order."""
    codes, edges = eda.bands(y)
    words = [exact(edge) for edge in edges]
    if len(set(words)) < len(words):
        words = [repr(edge) for edge in edges]
    names = ["all"]
    if words:
        first = f"{'exactly' if edges[0] == y.min() else 'up to'} {words[0]}"
        names = [first, *(f"over {low} up to {high}" for low, high in pairwise(words)), f"over {words[-1]}"]
    labels = np.array(names, dtype=object)
    return pd.Series(labels[codes], y.index, name=y.name), labels


def render(task: Task, findings: Findings, *, data: str, target: str) -> str:
    """The page as HTML.

    Parameters
    ----------
    task : Task
    findings : Findings
        As `find` gives them.
    data, target : str
        The names of the data set and of the target in the config.
    """
    X, y, classes = task.X, findings.y, findings.classes
    features = dict.fromkeys(str(name).partition("=")[0] for name in findings.separation.index)
    return templates.template("eda_page.html").render(
        task=task,
        found=findings,
        data=data,
        target=target,
        summary=summary(task, findings),
        by_class={name: data_charts.by_class(X[name], y, classes, task.dataset.units[name]) for name in features},
        min_box_rows=data_charts.MIN_BOX_ROWS,
        medians=eda.numeric_columns(X).groupby(y.to_numpy()).median().reindex(classes),
        fence=eda.FENCE_IN_QUARTILE_RANGES,
        table_report=_table_report(task.frame),
    )


def _target_sentence(task: Task, balance: pd.DataFrame) -> str:
    if task.target.is_number:
        y = task.y
        return (
            f"{task.target.column} runs from {exact(y.min())} to {exact(y.max())}, around a mean of "
            f"{number(y.mean())}: always predicting the mean has a root mean squared error of "
            f"{number(y.std(ddof=0))}."
        )
    return (
        f"The most frequent of {len(balance)} classes is {balance['rows'].idxmax()}: always predicting it is "
        f"{percent(balance['share'].max())} accurate; the rarest, {balance['rows'].idxmin()}, has "
        f"{balance['rows'].min():,} of {len(task.y):,} rows."
    )


def summary(task: Task, findings: Findings) -> str:
    """What the data show, in one paragraph."""
    dataset = task.dataset
    n_missing = int(findings.missing.sum())
    separating = findings.separation[findings.separation >= MIN_NAMED_SEPARATION][:3]
    best = [f"{spaced(name)} ({percent(share, 0)} of its rank variance)" for name, share in separating.items()]
    apart = "low from high values" if task.target.is_number else "the classes"
    sentences = [
        f"{dataset.n_rows:,} rows with {task.X.shape[1]} features"
        + (f", of which a sample of {len(dataset.frame):,} is looked at" if dataset.external else "")
        + f"; {n_missing or 'none'} of "
        f"{dataset.frame.size:,} values {'is' if n_missing in (0, 1) else 'are'} missing.",
        _repeats(task, findings.leak),
        _target_sentence(task, findings.balance),
    ]
    if not best:
        sentences.append(f"No feature by itself separates {apart}.")
    else:
        subject, verb = ("features that separate", "are") if len(best) > 1 else ("feature that separates", "is")
        sentences.append(f"The {subject} {apart} best {verb} {enumeration(best)}.")
    if findings.correlated:
        first, second, correlation = findings.correlated
        sentences.append(
            f"The most correlated features are {spaced(first)} and {spaced(second)} (rank correlation "
            f"{signed(correlation)})."
        )
    return " ".join(sentences)


def _repeats(task: Task, leak: float) -> str:
    """Whether rows repeat others, and whether they may be copies of them."""
    dataset = task.dataset
    n_repeats = dataset.duplicates
    if not n_repeats:
        return "No row repeats another."
    if dataset.is_repeated_by_chance:
        return (
            f"{n_repeats:,} rows equal an earlier one, which with so few different values they do by chance "
            f"({dataset.chance_duplicates:,} would if the columns were independent): they need not be "
            "copies."
        )
    return (
        f"{n_repeats:,} rows repeat an earlier one exactly: a split that ignores it would have a copy of "
        f"{percent(leak, 0)} of its test rows in training."
    )


def _table_report(frame: pd.DataFrame) -> str:
    """The HTML of skrub's report, made reproducible: random ids become numbers, and figures lose their dates.

    Its figures have matplotlib's own style, whatever this process has set.
    """
    with matplotlib.style.context("default"), matplotlib.rc_context({"svg.hashsalt": "wineexp"}):
        html = str(TableReport(frame, verbose=0).html_snippet())
    for place, random_id in enumerate(dict.fromkeys(re.findall(r'id="((?:report_)?[0-9a-f]{8})\b', html))):
        html = html.replace(random_id, f"skrub_{place:03}")
    return re.sub("<dc:date>.*?</dc:date>", "", html)
