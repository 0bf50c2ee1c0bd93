"""What the record says, as a table: means over the folds, and differences paired by fold."""

import numpy as np
import numpy.typing as npt
from contestants import GOALS, OURS, THEIRS, Store, Task

from wineexp.evaluation import METRICS

HEAD = """\
| goal | budget | metric | wineexp | AutoGluon | better by | seconds, wineexp | seconds, AutoGluon |
|---|---:|---|---:|---:|---:|---:|---:|"""


def report(store: Store, tasks: list[Task]) -> str:
    """A row for each goal, budget and metric; `better by` is positive where wineexp is better."""
    rows = []
    for goal, budget in dict.fromkeys((task.goal, task.budget) for task in tasks):
        some = [task for task in tasks if (task.goal, task.budget) == (goal, budget)]
        runs = {who: [store.find(**task.tags(who))[0] for task in some] for who in (OURS, THEIRS)}
        taken = [f"{np.mean([float(run.data.tags['seconds']) for run in runs[who]]):.0f}" for who in runs]
        for metric in GOALS[goal].metrics:
            one, other = (np.array([run.data.metrics[f"holdout/{metric}"] for run in runs[who]]) for who in runs)
            better = one - other if METRICS[metric].direction == "maximize" else other - one
            told = [goal, f"{budget} s", metric, shown(one), shown(other), shown(better, sign="+"), *taken]
            rows.append(f"| {' | '.join(told)} |")
    return "\n".join([HEAD, *rows])


def shown(values: npt.NDArray[np.float64], sign: str = "") -> str:
    """Mean ± standard error over the folds; of a single fold its figure alone."""
    if len(values) == 1:
        return f"{values[0]:{sign}.4f}"
    return f"{values.mean():{sign}.4f} ± {values.std(ddof=1) / np.sqrt(len(values)):.4f}"
