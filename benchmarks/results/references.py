"""Those that results stand beside: the paper that the data come from, and AutoGluon on the same held-out folds."""

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from wineexp.evaluation.metrics import METRICS
from wineexp.reports.text import figure, markdown, words
from wineexp.tracking.runs import SHORT_ID, Record

# The tag of a benchmark's runs; the others of theirs are `contestant`, `goal`, `budget`, `outer_fold` and `seconds`.
BENCHMARK = "benchmark"

# The support vector machine of Cortez et al. 2009, "Modeling wine preferences by data mining from physicochemical
# properties".
PAPER = {
    "paper_red": {"mean_absolute_error": 0.46, "accuracy": 0.624, "accuracy_within_1": 0.890, "cohen_kappa": 0.387},
    "paper_white": {"mean_absolute_error": 0.45, "accuracy": 0.646, "accuracy_within_1": 0.868, "cohen_kappa": 0.439},
}

# As the tag `contestant` has them, and as they are written.
CONTESTANTS = {"wineexp": "wineexp", "autogluon": "AutoGluon"}

# What is looked at for each goal of the benchmark.
GOALS = {
    "good": ("roc_auc",),
    "grade": ("log_loss", "quadratic_weighted_kappa"),
    "kappa": ("quadratic_weighted_kappa",),
}

# A goal that AutoGluon alone is told; beside it stands what our sweep of this other one answers.
ANSWERED_BY = {"kappa": "grade"}


def beside_the_paper(record: Record, paper: dict[str, float]) -> str:
    """The columns of the paper, and whether ours is ahead of it by more than the spread over the runs."""
    n_splits = int(record.params["split.n_splits"])
    rows = []
    for name, theirs in paper.items():
        runs = _runs(record.fold_scores(name), n_splits)
        ours, spread = float(runs.mean()), float(runs.std(ddof=1)) if len(runs) > 1 else float("nan")
        ahead = (ours - theirs) * (1 if METRICS[name].direction == "maximize" else -1)
        rows.append([words(name), figure(theirs), figure(ours, spread), "yes" if ahead > spread else "no"])
    number = len(runs)
    head = ["column", "the paper", f"here, and the spread over {number} runs", "ahead by more than the spread"]
    return (
        "Beside the support vector machine of Cortez et al. 2009. An answer is a grade, so that accuracy is what the "
        "paper has at a tolerance of 0.5, and of 0.25.\n\n" + markdown(head, rows)
    )


def beside_autogluon(records: list[Record]) -> str:
    """Figures on the held-out folds that both have answered: a row for each goal, budget and metric, if there are any.

    Parameters
    ----------
    records : list of Record
        Runs of `benchmarks/accuracy`, of either contestant.
    """
    found: dict[tuple[str, int], dict[str, dict[str, Record]]] = defaultdict(lambda: defaultdict(dict))
    for record in records:
        tags = record.tags
        found[tags["goal"], int(tags["budget"])][tags["outer_fold"]][tags["contestant"]] = record
    rows: list[list[str]] = []
    ours, theirs = CONTESTANTS
    for (goal, budget), folds in sorted(found.items()):
        answered = found.get((ANSWERED_BY.get(goal, goal), budget), {})
        both = [
            {ours: answered[number][ours], theirs: folds[number][theirs]}
            for number in sorted(folds)
            if theirs in folds[number] and ours in answered.get(number, {})
        ]
        metrics = GOALS[goal] if both else ()
        rows += [[goal, f"{budget} s", words(metric), *_beside(both, metric)] for metric in metrics]
    head = ["goal", "budget", "metric", *CONTESTANTS.values(), "better by"]
    head += [*(f"{name} took" for name in CONTESTANTS.values()), "folds", "runs"]
    return markdown(head, rows) if rows else ""


def _beside(folds: list[dict[str, Record]], metric: str) -> list[str]:
    one, other = (np.array([each[who].metrics[f"holdout/{metric}"] for each in folds]) for who in CONTESTANTS)
    gains = (one - other) * (1 if METRICS[metric].direction == "maximize" else -1)
    took = [np.mean([float(each[who].tags["seconds"]) for each in folds]) for who in CONTESTANTS]
    runs = ", ".join(f"`{each[who].id[:SHORT_ID]}`" for each in folds for who in CONTESTANTS)
    means = [figure(float(values.mean()), _error(values)) for values in (one, other, gains)]
    return [*means, *(f"{seconds:.0f} s" for seconds in took), str(len(folds)), runs]


def _error(values: npt.NDArray[np.float64]) -> float:
    """The standard error of a mean of independent values (n,); NaN of one."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def _runs(scores: npt.NDArray[np.float64], n_splits: int) -> npt.NDArray[np.float64]:
    """The mean of each run of a repeated cross-validation: (n_repeats,)."""
    return np.asarray(scores.reshape(-1, n_splits).mean(axis=1))
