"""The page on a data set: one HTML file that needs no network, no server and no other file."""

import logging
import re

import matplotlib
import pandas as pd
from skrub import TableReport

from wineexp import chart, findings, layout
from wineexp.problem import Problem
from wineexp.wording import listed, percent, signed, words

# A split that ignores equal rows is judged by what five folds of it would do.
TEST_SHARE = 0.2

# At level INFO it remarks on the bars that skrub draws of a column of few values.
logging.getLogger("matplotlib.category").setLevel(logging.WARNING)


def render(problem: Problem, *, data: str, target: str) -> str:
    """The page as HTML.

    Labels and values are shown of the rows outside the holdout alone; rows, missing values and duplicates are
    counted in the whole file.

    Parameters
    ----------
    problem : Problem
    data, target : str
        The names by which the config knows them.
    """
    X, y = problem.X, problem.y
    separation = findings.separation(X, y)
    return layout.template("page.html").render(
        problem=problem,
        data=data,
        target=target,
        units=problem.dataset.units,
        paragraph=paragraph(problem),
        balance=findings.balance(y, problem.classes),
        summary=findings.summary(X),
        distributions={name: chart.distribution(X[name], _unit(problem, name)) for name in X},
        separation=separation,
        by_class={
            name: chart.by_class(X[name], y, problem.classes, _unit(problem, name))
            for name in dict.fromkeys(name.partition("=")[0] for name in separation.index)
        },
        correlations=_correlations(problem, target),
        missing=findings.missing(problem.dataset.frame),
        few=chart.FEW,
        medians=X.select_dtypes("number").groupby(y.to_numpy()).median().reindex(problem.classes),
        fence=findings.FENCE,
        outliers=findings.outliers(X),
        rows_with_outliers=findings.rows_with_outliers(X),
        occurrences=_occurrences(problem),
        leak=_leak(problem),
        report=_report(problem.frame),
    )


def _report(frame: pd.DataFrame) -> str:
    """The report of skrub, the same for the same data: its random ids are numbered, its figures carry no date."""
    with matplotlib.rc_context({"svg.hashsalt": "wineexp"}):
        html = str(TableReport(frame, verbose=0).html_snippet())
    for number, drawn in enumerate(dict.fromkeys(re.findall(r'id="((?:report_)?[0-9a-f]{8})\b', html))):
        html = html.replace(drawn, f"skrub_{number:03}")
    return re.sub("<dc:date>.*?</dc:date>", "", html)


def paragraph(problem: Problem) -> str:
    """What the data says, in plain words."""
    dataset = problem.dataset
    rows, cells = len(dataset.frame), dataset.frame.size
    lacking = int(findings.missing(dataset.frame).sum())
    balance = findings.balance(problem.y, problem.classes)
    separation = findings.separation(problem.X, problem.y)
    pairs = findings.pairs(findings.correlations(problem.X))
    (one, other), strongest = pairs.index[0], pairs.iloc[0]
    sentences = [
        f"{rows:,} rows with {problem.X.shape[1]} features; {lacking or 'none'} of {cells:,} values "
        f"{'is' if lacking in (0, 1) else 'are'} missing.",
        f"{dataset.duplicates:,} rows repeat an earlier one exactly: a split that ignores it would have a copy of "
        f"{percent(_leak(problem), 0)} of its test rows in training."
        if dataset.duplicates
        else "No row repeats another.",
        f"The most frequent of {len(balance)} classes is {balance['rows'].idxmax()}: always answering it is "
        f"{percent(balance['share'].max())} accurate; the rarest, {balance['rows'].idxmin()}, has "
        f"{balance['rows'].min():,} of {len(problem.y):,} rows.",
        "The features that tell the classes apart best are "
        + listed(
            [f"{words(name)} ({percent(share, 0)} of its rank variance)" for name, share in separation[:3].items()]
        )
        + ".",
        f"The most correlated features are {words(one)} and {words(other)} (rank correlation {signed(strongest)}).",
    ]
    return " ".join(sentences)


def _correlations(problem: Problem, target: str) -> pd.DataFrame:
    """Of the features, and of the target where its classes have an order or are two."""
    ordered = problem.target.ordinal or len(problem.classes) == 2
    codes = {f"target: {target}": problem.codes(problem.y)} if ordered else {}
    return findings.correlations(findings.numbers(problem.X).assign(**codes))


def _occurrences(problem: Problem) -> pd.Series:
    """How many different rows of the whole file occur once, twice, and so on."""
    times = findings.occurrences(_whole(problem)).value_counts().sort_index()
    return times // times.index


def _leak(problem: Problem) -> float:
    return findings.leak(_whole(problem), TEST_SHARE)


def _whole(problem: Problem) -> pd.DataFrame:
    return problem.dataset.frame[list(problem.X.columns)]


def _unit(problem: Problem, name: object) -> str:
    return problem.dataset.units[str(name)]
