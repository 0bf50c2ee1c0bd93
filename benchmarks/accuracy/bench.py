"""AutoGluon and a sweep of ours on the same leak-free folds, with the same time and the same two cores.

    python benchmarks/accuracy/bench.py                                     # everything: two hours and a half
    python benchmarks/accuracy/bench.py --folds 0 --budgets 60 --goals good --store /tmp/accuracy

Red wine; each fold is held out in turn, and what is tuned sees the rest alone. Each result is recorded in the store as
it comes, so that the same call goes on where an interrupted one stopped. AutoGluon gets a virtual environment of its
own, made by the first call. Needs the red wine quality data as a run does.
"""

import argparse
import itertools
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import contestants
from contestants import GOALS, N_SPLITS, OURS, THEIRS, Store, Task

from benchmarks.results.references import ANSWERED_BY, BENCHMARK, beside_autogluon
from benchmarks.results.references import GOALS as METRICS
from wineexp.tracking.runs import Runs

RUNNERS = {OURS: contestants.ours, THEIRS: contestants.theirs}


def measure(store: Store, tasks: list[Task]) -> None:
    """Whatever of the tasks has no record yet, both contestants of a task before the next, the first by turns.

    What another goal of ours answers is not measured again.
    """
    for number, task in enumerate(tasks):
        for contestant in (THEIRS, OURS) if number % 2 == 0 else (OURS, THEIRS):
            if (contestant == OURS and task.goal in ANSWERED_BY) or store.find(**task.tags(contestant)):
                continue
            RUNNERS[contestant](store, task)
            (run,) = store.find(**task.tags(contestant))
            shown = ", ".join(f"{name} {run.data.metrics[f'holdout/{name}']:.4f}" for name in METRICS[task.goal])
            seconds = run.data.tags["seconds"]
            print(f"{time.strftime('%H:%M')} {task.name} {contestant}: {shown}, {seconds} s", flush=True)


def main() -> None:
    """Measure what is asked for, and tell all that the store holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, nargs="+", default=range(5), choices=range(5))
    parser.add_argument(
        "--budgets", type=int, nargs="+", default=list(N_SPLITS), choices=list(N_SPLITS), help="seconds"
    )
    parser.add_argument("--goals", nargs="+", default=list(GOALS), choices=list(GOALS))
    parser.add_argument("--store", type=Path, help="where the record is kept for another call; nowhere, if not said")
    parser.add_argument("--rivals", type=Path, default=Path(tempfile.gettempdir()) / "accuracy-rivals")
    options = parser.parse_args()
    # The same two for both, whatever else the machine has.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, {len(os.sched_getaffinity(0))} cores, Python "
          f"{platform.python_version()}, load {os.getloadavg()[0]:.1f}\n")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        store = Store((options.store or Path(folder)).resolve(), options.rivals.resolve())
        contestants.python_of(store.rivals)
        tasks = [Task(*each) for each in itertools.product(options.goals, options.budgets, options.folds)]
        measure(store, tasks)
        print("\n" + beside_autogluon(Runs(store.uri, "wine").with_tag(BENCHMARK)))


if __name__ == "__main__":
    main()
