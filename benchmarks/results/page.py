"""The results page: every named experiment that was recorded, with intervals, beside what others have published."""

import base64
import io
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.results import references
from wineexp.evaluation.comparison import corrected_t_test
from wineexp.reports import run_charts
from wineexp.reports.text import DASH, figure, markdown, seconds, signed, words
from wineexp.tracking import ranking
from wineexp.tracking.names import COVERAGE_FILE, NAMED_EXPERIMENT
from wineexp.tracking.ranking import Ranking, Row
from wineexp.tracking.runs import SHORT_ID, Record

# The experiment that the others of its folder are a change of.
WHOLE = "whole"

# Metrics that are shown where they were recorded, after the deciding one.
SHOWN = (
    *("accuracy", "mean_absolute_error", "accuracy_within_1", "cohen_kappa", "quadratic_weighted_kappa", "roc_auc"),
    *("log_loss", "set_coverage", "set_size", "majority_accuracy"),
)

AUTOGLUON = (
    "Red wine; each fifth of the rows was held out in turn, and the rest given to both by `benchmarks/accuracy`, with "
    "the same time and cores. Means over the held-out fifths that both have answered, ± their standard error. Of "
    "`kappa` AutoGluon alone was told; beside it stands what ours answered in `grade`."
)


@dataclass(frozen=True)
class Page:
    """A page and its pictures.

    Attributes
    ----------
    text : str
        Markdown.
    pictures : dict of str to bytes
        SVG, by the name that the text has for it.
    """

    text: str
    pictures: dict[str, bytes]


def render(records: list[Record], benchmark: list[Record], *, alpha: float, folder: str) -> Page:
    """The page of these runs, each named experiment or folder of them a section, of which each split is a table.

    Parameters
    ----------
    records : list of Record
        Of one config the latest is shown.
    benchmark : list of Record
        Those that stand beside AutoGluon's, and AutoGluon's.
    alpha : float
        Each interval holds the true mean with probability 1 - alpha.
    folder : str
        Where the pictures will lie, seen from the page.
    """
    latest: dict[str, Record] = {}
    for record in sorted(records, key=lambda each: each.began or 0):
        latest[record.tags["config.sha256"]] = record
    names = sorted({_section(record) for record in latest.values()})
    parts, pictures = [], {}
    for name in names:
        some = [record for record in latest.values() if _section(record) == name]
        rankings, _ = ranking.rank(some, alpha=alpha, limit=None)
        parts.append(f"## {name}")
        for number, each in enumerate(rankings):
            parts += [f"### {each.title}", _table(each)]
            if name in references.PAPER:
                parts.append(references.beside_the_paper(each.first, references.PAPER[name]))
            if (whole := _whole(each)) is not None:
                parts.append(_beside_the_whole(each, whole))
            parts += [_covered(row.record) for row in each.rows if "cv/set_coverage" in row.record.metrics]
            if len(each.compared) > 1:
                file = f"{name}-{number}.svg"
                pictures[file] = _picture(each)
                parts.append(f"![Folds of {each.title}]({folder}/{file})")
    if table := references.beside_autogluon(benchmark):
        parts += ["## Beside AutoGluon", AUTOGLUON, table]
    opening = (
        f"# Results\n\nMade by `python -m wineexp.compare results=true` from the record of {len(latest)} "
        f"run{'s' * (len(latest) != 1)}, and nothing else; `python -m wineexp.train experiment=NAME` records one. In "
        f"brackets the {100 * (1 - alpha):.4g} % interval of the mean over the folds (corrected resampled t-test, "
        "Nadeau and Bengio 2003); the first metric decides. `split grouped` and `split repeated` keep identical rows "
        "on one side; `stratified` and `runs` do not, and flatter."
    )
    return Page("\n\n".join([opening, *parts]) + "\n", pictures)


def _section(record: Record) -> str:
    """The named experiment, of a folder of them the folder."""
    return record.tags[NAMED_EXPERIMENT].partition("/")[0]


def _table(each: Ranking) -> str:
    recorded = {name for row in each.rows for name in row.record.metrics}
    metrics = [each.metric, *(name for name in SHOWN if name != each.metric and f"cv/{name}" in recorded)]
    head = [
        "experiment",
        "model",
        "features",
        *map(words, metrics),
        "against the best",
        "holdout",
        "fit",
        "folds",
        "run",
    ]
    rows = [
        [
            row.record.tags[NAMED_EXPERIMENT],
            row.record.params["model"],
            row.record.params["feature"],
            *(_mean(row.record, name, each.alpha) for name in metrics),
            row.verdict,
            figure(row.holdout),
            seconds(row.figure("cv/fit_seconds")),
            str(row.n_folds),
            f"`{row.record.id[:SHORT_ID]}`",
        ]
        for row in each.rows
    ]
    return markdown(head, rows)


def _mean(record: Record, name: str, alpha: float) -> str:
    """The mean over the folds with its interval, of a fold alone without one."""
    scores = record.fold_scores(name)
    scores = scores[~np.isnan(scores)]
    if len(scores) < 2:
        return figure(float(scores[0])) if len(scores) else DASH
    ratio = float(record.tags["split.test_to_train"])
    told = corrected_t_test(scores, np.zeros(len(scores)), direction="maximize", test_to_train=ratio, alpha=alpha)
    return f"{figure(told.difference)} ({figure(told.low)} to {figure(told.high)})"


def _whole(each: Ranking) -> Row | None:
    return next((row for row in each.rows if row.record.tags[NAMED_EXPERIMENT].rpartition("/")[2] == WHOLE), None)


def _beside_the_whole(each: Ranking, whole: Row) -> str:
    """What each change gains on the folds of what it changes."""
    rows = []
    for row in each.rows:
        if row is whole:
            continue
        told = corrected_t_test(
            row.folds,
            whole.folds,
            direction=each.direction,
            test_to_train=float(row.record.tags["split.test_to_train"]),
            alpha=each.alpha,
        )
        gain = f"{signed(told.difference, 4)} ({signed(told.low, 4)} to {signed(told.high, 4)})"
        rows.append([words(row.record.tags[NAMED_EXPERIMENT].rpartition("/")[2]), gain, told.verdict])
    return f"What each change gains in {words(each.metric)}, on the same folds.\n\n" + markdown(
        ["change", "gain", "it is"], rows
    )


def _covered(record: Record) -> str:
    """How often a run's sets held the true class, of each class and of all."""
    content = record.read(COVERAGE_FILE)
    if content is None:
        return f"Run `{record.id[:SHORT_ID]}` has no {COVERAGE_FILE} any more."
    table = pd.read_csv(io.BytesIO(content), dtype={"class": str})
    nominal = float(record.params["model.coverage"])
    rows = []
    for rows_of, some in table.groupby("rows_of", sort=False):
        held = (some["rows"] * some["coverage"].fillna(0)).sum() / some["rows"].sum()
        for label, number, share in [
            ("all", some["rows"].sum(), held),
            *zip(some["class"], some["rows"], some["coverage"], strict=True),
        ]:
            rows.append([str(rows_of), label, f"{number:,}", figure(share), signed(100 * (share - nominal), 1)])
    return f"How often the sets hold the true class, which they are to do {nominal:.0%} of the time.\n\n" + markdown(
        ["rows of", "class", "answers", "coverage", "points from it"], rows
    )


def _picture(each: Ranking) -> bytes:
    rows = each.compared
    alike = len({row.record.tags[NAMED_EXPERIMENT] for row in rows}) == 1
    names = [
        row.record.params["model"] if alike else row.record.tags[NAMED_EXPERIMENT].rpartition("/")[2] for row in rows
    ]
    drawn = run_charts.by_fold(names, [row.folds for row in rows], each.metric)
    return base64.b64decode(drawn.partition(",")[2])
