"""The results page: all recorded runs of named experiments, with intervals, beside published results."""

import base64
import io
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.results import references, summary
from wineexp.evaluation.comparison import corrected_t_test, mean_interval
from wineexp.reports import run_charts
from wineexp.reports.text import DASH, decimals, duration, interval, markdown_table, signed, spaced
from wineexp.tracking import ranking
from wineexp.tracking.names import CONFIG_SHA256, COVERAGE_FILE, NAMED_EXPERIMENT, SPLIT_TEST_TO_TRAIN
from wineexp.tracking.ranking import Ranking, Row
from wineexp.tracking.recorded_run import RecordedRun
from wineexp.tracking.runs import SHORT_ID

# The experiment in a folder of them that the others there change.
ABLATION_REFERENCE = "whole"

# These metrics are shown after the deciding one, where they were recorded.
SHOWN_METRICS = (
    *("accuracy", "mean_absolute_error", "accuracy_within_1", "cohen_kappa", "quadratic_weighted_kappa", "roc_auc"),
    *("log_loss", "set_coverage", "set_size", "majority_accuracy"),
    *("r2", "spearman", "crps", "interval_coverage", "interval_width"),
)

ABOUT_AUTOGLUON = (
    "Measured by `benchmarks/accuracy`: each fifth of the rows is held out in turn, and both systems train "
    "on the rest with the same time and cores. Means over the held-out fifths that both have predicted, ± their "
    "standard error. Only AutoGluon was run with the goal `kappa`; the wineexp columns there are from the goal `grade`."
)


@dataclass(frozen=True)
class Page:
    """A page and its charts.

    Attributes
    ----------
    text : str
        Markdown.
    charts : dict of str to bytes
        SVG files by the name that the text has for them.
    """

    text: str
    charts: dict[str, bytes]


def render(records: list[RecordedRun], benchmark: list[RecordedRun], *, alpha: float, folder: str) -> Page:
    """The page of recorded runs, with a section for each named experiment or folder of them.

    Parameters
    ----------
    records : list of RecordedRun
        Runs of named experiments; of runs with the same config only the latest is shown.
    benchmark : list of RecordedRun
        Runs of `benchmarks/accuracy`.
    alpha : float
        Each interval holds the true mean with probability 1 - alpha.
    folder : str
        The folder of the charts, relative to the page.
    """
    by_config = {record.tags[CONFIG_SHA256]: record for record in sorted(records, key=lambda run: run.began or 0)}
    latest = list(by_config.values())
    parts, charts = [], {}
    for section in sorted({_section(record) for record in latest}):
        parts.append(f"## {section}")
        members = [record for record in latest if _section(record) == section]
        rankings, _ = ranking.rank(members, alpha=alpha, limit=None)
        for number, ranked in enumerate(rankings):
            parts += _ranking_parts(ranked, section)
            if len(ranked.compared) > 1:
                file = f"{section}-{number}.svg"
                charts[file] = _chart(ranked)
                parts.append(f"![Folds of {ranked.title}]({folder}/{file})")
    if table := references.autogluon_table(benchmark):
        parts += ["## Comparison with AutoGluon", ABOUT_AUTOGLUON, table]
    introduction = (
        "# Results\n\nThe best that was reached for each question, an anchor to hold it against, and what copies of "
        f"test rows in training would add. In brackets is the {100 * (1 - alpha):.4g} % interval of the mean over the "
        "folds (corrected resampled t-test, Nadeau and Bengio 2003). The tables below have all runs."
    )
    origin = (
        f"Written by `python -m benchmarks.results` from {len(latest)} recorded run{'s' * (len(latest) != 1)}; "
        "`python -m wineexp.train experiment=NAME` records one. In the tables the first metric decides. "
        "`split grouped`, `repeated` and `tabarena_grouped` keep identical rows on one side; `stratified`, `runs` and "
        "`tabarena` do not, so that their scores are too good."
    )
    above = [introduction, summary.summary_table(latest, benchmark, alpha=alpha)]
    if table := summary.side_by_side(latest, alpha=alpha):
        above += ["## TabArena's protocol, with copies on both sides and together", table]
    return Page("\n\n".join(part for part in (*above, origin, *parts) if part) + "\n", charts)


def _section(record: RecordedRun) -> str:
    """The named experiment of a run, or the folder that the experiment is in."""
    return record.tags[NAMED_EXPERIMENT].partition("/")[0]


def _name_in_section(record: RecordedRun) -> str:
    return record.tags[NAMED_EXPERIMENT].rpartition("/")[2]


def _ranking_parts(ranked: Ranking, section: str) -> list[str]:
    """A heading, the table of the ranking, and the tables that only some experiments have."""
    parts = [f"### {ranked.title}", _table(ranked)]
    if section in references.PAPER:
        parts.append(references.paper_comparison(ranked.first, references.PAPER[section]))
    reference = next((row for row in ranked.rows if _name_in_section(row.record) == ABLATION_REFERENCE), None)
    if reference is not None:
        parts.append(_ablation(ranked, reference))
    return parts + [_coverage(row.record) for row in ranked.rows if "cv/set_coverage" in row.record.metrics]


def _table(ranked: Ranking) -> str:
    recorded = {name for row in ranked.rows for name in row.record.metrics}
    metrics = [ranked.metric, *(name for name in SHOWN_METRICS if name != ranked.metric and f"cv/{name}" in recorded)]
    header = [
        *("experiment", "model", "features"),
        *map(spaced, metrics),
        *("against the best", "holdout", "fit", "folds", "run"),
    ]
    rows = [
        [
            row.record.tags[NAMED_EXPERIMENT],
            row.record.params["model"],
            row.record.params["feature"],
            *(_mean(row.record, name, ranked.alpha) for name in metrics),
            row.verdict,
            decimals(row.holdout),
            duration(row.figure("cv/fit_seconds")),
            str(row.n_folds),
            f"`{row.record.id[:SHORT_ID]}`",
        ]
        for row in ranked.rows
    ]
    return markdown_table(header, rows)


def _mean(record: RecordedRun, metric: str, alpha: float) -> str:
    """The mean over the folds with its interval; without an interval where only one fold has a score."""
    scores = record.fold_scores(metric)
    scores = scores[~np.isnan(scores)]
    if len(scores) < 2:
        return decimals(float(scores[0])) if len(scores) else DASH
    ratio = float(record.tags[SPLIT_TEST_TO_TRAIN])
    low, high = mean_interval(scores, test_to_train=ratio, alpha=alpha)
    return f"{decimals(float(scores.mean()))} ({decimals(low)} to {decimals(high)})"


def _ablation(ranked: Ranking, reference: Row) -> str:
    """The gain of each change over the reference, on the same folds."""
    rows = []
    for row in ranked.rows:
        if row is reference:
            continue
        comparison = corrected_t_test(
            row.folds,
            reference.folds,
            direction=ranked.direction,
            test_to_train=float(row.record.tags[SPLIT_TEST_TO_TRAIN]),
            alpha=ranked.alpha,
        )
        gain = interval(comparison.difference, comparison.low, comparison.high)
        rows.append([spaced(_name_in_section(row.record)), gain, comparison.verdict])
    introduction = f"The gain of each change in {spaced(ranked.metric)} over `{ABLATION_REFERENCE}`, on the same folds."
    return f"{introduction}\n\n" + markdown_table(["change", "gain", "verdict"], rows)


def _coverage(record: RecordedRun) -> str:
    """How often a run's prediction sets hold the true class, for each class and for all."""
    content = record.read(COVERAGE_FILE)
    if content is None:
        return f"The file {COVERAGE_FILE} of run `{record.id[:SHORT_ID]}` is missing."
    table = pd.read_csv(io.BytesIO(content), dtype={"class": str})
    nominal = float(record.params["model.coverage"])
    rows = []
    for rows_of, by_class in table.groupby("rows_of", sort=False):
        overall = (by_class["rows"] * by_class["coverage"].fillna(0)).sum() / by_class["rows"].sum()
        for label, number, share in [
            ("all", by_class["rows"].sum(), overall),
            *zip(by_class["class"], by_class["rows"], by_class["coverage"], strict=True),
        ]:
            rows.append([str(rows_of), label, f"{number:,}", decimals(share), signed(100 * (share - nominal), 1)])
    header = ["rows of", "class", "predictions", "coverage", "difference in points"]
    return f"How often the prediction sets hold the true class; the goal is {nominal:.0%}.\n\n" + markdown_table(
        header, rows
    )


def _chart(ranked: Ranking) -> bytes:
    """The scores of the compared runs by fold, as SVG; a run is named by what differs, its model or its experiment."""
    rows = ranked.compared
    one_experiment = len({row.record.tags[NAMED_EXPERIMENT] for row in rows}) == 1
    names = [row.record.params["model"] if one_experiment else _name_in_section(row.record) for row in rows]
    chart = run_charts.by_fold(names, [row.folds for row in rows], ranked.metric)
    return base64.b64decode(chart.partition(",")[2])
