"""The page on a data set: one HTML file that needs no network, no server and no other file."""

import logging
import re

import matplotlib
import pandas as pd
from skrub import TableReport

from wineexp.data import eda
from wineexp.data.task import Task
from wineexp.reports import style, templates
from wineexp.reports.text import listed, percent, signed, words

# A split that ignores equal rows is judged by what five folds of it would do.
TEST_SHARE = 0.2

# At level INFO it remarks on the bars that skrub draws of a column of few values.
logging.getLogger("matplotlib.category").setLevel(logging.WARNING)


def render(task: Task, *, data: str, target: str) -> str:
    """The page as HTML.

    Labels and values are shown of the rows outside the holdout alone; rows, missing values and duplicates are
    counted in the whole file.

    Parameters
    ----------
    task : Task
    data, target : str
        The names by which the config knows them.
    """
    X, y = task.X, task.y
    separation = eda.class_separation(X, y)
    return templates.template("eda_page.html").render(
        task=task,
        data=data,
        target=target,
        units=task.dataset.units,
        paragraph=paragraph(task),
        balance=eda.class_balance(y, task.classes),
        summary=eda.summary(X),
        distributions={name: style.distribution(X[name], _unit(task, name)) for name in X},
        separation=separation,
        by_class={
            name: style.by_class(X[name], y, task.classes, _unit(task, name))
            for name in dict.fromkeys(name.partition("=")[0] for name in separation.index)
        },
        correlations=_correlations(task, target),
        missing=eda.missing_values(task.dataset.frame),
        few=style.FEW,
        medians=X.select_dtypes("number").groupby(y.to_numpy()).median().reindex(task.classes),
        fence=eda.FENCE_IN_QUARTILE_RANGES,
        outliers=eda.outliers(X),
        rows_with_outliers=eda.rows_with_outliers(X),
        occurrences=_occurrences(task),
        leak=_leak(task),
        report=_report(task.frame),
    )


def _report(frame: pd.DataFrame) -> str:
    """The report of skrub, the same for the same data: its random ids are numbered, its figures carry no date."""
    with matplotlib.rc_context({"svg.hashsalt": "wineexp"}):
        html = str(TableReport(frame, verbose=0).html_snippet())
    for number, drawn in enumerate(dict.fromkeys(re.findall(r'id="((?:report_)?[0-9a-f]{8})\b', html))):
        html = html.replace(drawn, f"skrub_{number:03}")
    return re.sub("<dc:date>.*?</dc:date>", "", html)


def paragraph(task: Task) -> str:
    """What the data says, in plain words."""
    dataset = task.dataset
    rows, cells = len(dataset.frame), dataset.frame.size
    lacking = int(eda.missing_values(dataset.frame).sum())
    balance = eda.class_balance(task.y, task.classes)
    separation = eda.class_separation(task.X, task.y)
    pairs = eda.column_pairs(eda.correlations(task.X))
    (one, other), strongest = pairs.index[0], pairs.iloc[0]
    sentences = [
        f"{rows:,} rows with {task.X.shape[1]} features; {lacking or 'none'} of {cells:,} values "
        f"{'is' if lacking in (0, 1) else 'are'} missing.",
        f"{dataset.duplicates:,} rows repeat an earlier one exactly: a split that ignores it would have a copy of "
        f"{percent(_leak(task), 0)} of its test rows in training."
        if dataset.duplicates
        else "No row repeats another.",
        f"The most frequent of {len(balance)} classes is {balance['rows'].idxmax()}: always answering it is "
        f"{percent(balance['share'].max())} accurate; the rarest, {balance['rows'].idxmin()}, has "
        f"{balance['rows'].min():,} of {len(task.y):,} rows.",
        "The features that tell the classes apart best are "
        + listed(
            [f"{words(name)} ({percent(share, 0)} of its rank variance)" for name, share in separation[:3].items()]
        )
        + ".",
        f"The most correlated features are {words(one)} and {words(other)} (rank correlation {signed(strongest)}).",
    ]
    return " ".join(sentences)


def _correlations(task: Task, target: str) -> pd.DataFrame:
    """Of the features, and of the target where its classes have an order or are two."""
    ordered = task.target.ordinal or len(task.classes) == 2
    codes = {f"target: {target}": task.codes(task.y)} if ordered else {}
    return eda.correlations(eda.one_hot_encoded(task.X).assign(**codes))


def _occurrences(task: Task) -> pd.Series:
    """How many different rows of the whole file occur once, twice, and so on."""
    times = eda.row_occurrences(_whole(task)).value_counts().sort_index()
    return times // times.index


def _leak(task: Task) -> float:
    return eda.expected_leak(_whole(task), TEST_SHARE)


def _whole(task: Task) -> pd.DataFrame:
    return task.dataset.frame[list(task.X.columns)]


def _unit(task: Task, name: object) -> str:
    return task.dataset.units[str(name)]
