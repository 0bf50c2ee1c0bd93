"""Results of others to compare with: of the paper that the data come from, and of AutoGluon on the same folds."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wineexp.evaluation.metrics import METRICS
from wineexp.reports.text import decimals, markdown_table, spaced
from wineexp.tracking.recorded_run import RecordedRun
from wineexp.tracking.runs import SHORT_ID

# Tags of the runs of `benchmarks/accuracy`; these runs also have the tags `goal`, `budget`, `outer_fold` and `seconds`.
BENCHMARK_TAG = "benchmark"
SYSTEM_TAG = "contestant"
# The data set; runs from before there was more than one have none, and are of red wine.
DATA_TAG = "data"

# The support vector machine of Cortez et al. 2009, "Modeling wine preferences by data mining from physicochemical
# properties".
PAPER = {
    "paper_red": {"mean_absolute_error": 0.46, "accuracy": 0.624, "accuracy_within_1": 0.890, "cohen_kappa": 0.387},
    "paper_white": {"mean_absolute_error": 0.45, "accuracy": 0.646, "accuracy_within_1": 0.868, "cohen_kappa": 0.439},
}

# Of the leaderboard of TabArena for its task `wine_quality`, OpenML 46964.
TABARENA_ANCHOR = "PerpetualBooster, tuned, 0.623 on TabArena's own folds"

# The values of SYSTEM_TAG, and the names on the page.
SYSTEMS = {"wineexp": "wineexp", "autogluon": "AutoGluon"}

# The metrics that are shown of each goal of the benchmark.
GOAL_METRICS = {
    "good": ("roc_auc",),
    "grade": ("log_loss", "quadratic_weighted_kappa"),
    "kappa": ("quadratic_weighted_kappa",),
    "score": ("root_mean_squared_error",),
}

# Only AutoGluon is run with the goal `kappa`; it is compared with the run of wineexp for `grade`.
SHARED_RUNS = {"kappa": "grade"}


def paper_comparison(record: RecordedRun, paper: dict[str, float]) -> str:
    """A table of the paper's metrics, with whether wineexp is better by more than the deviation over its runs."""
    n_splits = int(record.params["split.n_splits"])
    rows = []
    for name, published in paper.items():
        means = _means_by_run(record.fold_scores(name), n_splits)
        mean, deviation = float(means.mean()), float(means.std(ddof=1)) if len(means) > 1 else float("nan")
        gain = (mean - published) * (1 if METRICS[name].direction == "maximize" else -1)
        rows.append([spaced(name), decimals(published), decimals(mean, deviation), "yes" if gain > deviation else "no"])
    header = ["metric", "the paper", f"wineexp, ± deviation over {len(means)} runs", "better by more than that"]
    return (
        "Compared with the support vector machine of Cortez et al. 2009. A prediction is a whole grade, so that "
        "accuracy is the paper's accuracy at a tolerance of 0.5, and of 0.25.\n\n" + markdown_table(header, rows)
    )


Pair = dict[str, RecordedRun]


@dataclass(frozen=True)
class Compared:
    """The held-out folds of a data set, a goal and a budget in seconds that both systems have predicted.

    Attributes
    ----------
    data, goal : str
    budget : int
    pairs : list of dict of str to RecordedRun
        Of each fold the run of each system.
    """

    data: str
    goal: str
    budget: int
    pairs: list[Pair]

    def means(self, metric: str) -> list[str]:
        """The mean of wineexp, of AutoGluon and of the gain, each with its standard error."""
        wineexp, autogluon = (
            np.array([pair[system].metrics[f"holdout/{metric}"] for pair in self.pairs]) for system in SYSTEMS
        )
        gains = (wineexp - autogluon) * (1 if METRICS[metric].direction == "maximize" else -1)
        return [decimals(float(values.mean()), _standard_error(values)) for values in (wineexp, autogluon, gains)]


def compared(records: list[RecordedRun]) -> list[Compared]:
    """What both systems have predicted, by data set, goal and budget.

    Parameters
    ----------
    records : list of RecordedRun
        Runs of `benchmarks/accuracy`, of both systems.
    """
    by_task: dict[tuple[str, str, int], dict[str, Pair]] = defaultdict(lambda: defaultdict(dict))
    for record in records:
        tags = record.tags
        folds = by_task[tags.get(DATA_TAG, "red"), tags["goal"], int(tags["budget"])]
        folds[tags["outer_fold"]][tags[SYSTEM_TAG]] = record
    wineexp, autogluon = SYSTEMS
    found = []
    for (data, goal, budget), folds in sorted(by_task.items()):
        wineexp_folds = by_task.get((data, SHARED_RUNS.get(goal, goal), budget), {})
        pairs = [
            {wineexp: wineexp_folds[fold][wineexp], autogluon: folds[fold][autogluon]}
            for fold in sorted(folds)
            if autogluon in folds[fold] and wineexp in wineexp_folds.get(fold, {})
        ]
        if pairs:
            found.append(Compared(data, goal, budget, pairs))
    return found


def autogluon_table(records: list[RecordedRun]) -> str:
    """Scores on the held-out folds that both systems have predicted, as Markdown; empty where there are none.

    It has a row for each data set, goal, budget and metric; the argument is that of `compared`.
    """
    rows = [
        [one.data, one.goal, f"{one.budget} s", spaced(metric), *_comparison_cells(one, metric)]
        for one in compared(records)
        for metric in GOAL_METRICS[one.goal]
    ]
    header = ["data", "goal", "budget", "metric", *SYSTEMS.values(), "gain of wineexp"]
    header += [*(f"time of {name}" for name in SYSTEMS.values()), "folds", "runs"]
    return markdown_table(header, rows) if rows else ""


def _comparison_cells(one: Compared, metric: str) -> list[str]:
    """Means of both systems and of the gain, their times, the number of folds and the run ids."""
    seconds = [np.mean([float(pair[system].tags["seconds"]) for pair in one.pairs]) for system in SYSTEMS]
    runs = ", ".join(f"`{pair[system].id[:SHORT_ID]}`" for pair in one.pairs for system in SYSTEMS)
    return [*one.means(metric), *(f"{mean:.0f} s" for mean in seconds), str(len(one.pairs)), runs]


def _standard_error(values: npt.NDArray[np.float64]) -> float:
    """The standard error of the mean of independent values (n,); NaN of a single value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def _means_by_run(scores: npt.NDArray[np.float64], n_splits: int) -> npt.NDArray[np.float64]:
    """The mean score of each run of a repeated cross-validation: (n_repeats,)."""
    return np.asarray(scores.reshape(-1, n_splits).mean(axis=1))
