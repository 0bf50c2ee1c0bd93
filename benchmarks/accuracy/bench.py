"""AutoGluon and a training of wineexp on the same leak-free folds, with the same time and the same two cores.

    python benchmarks/accuracy/bench.py --store /tmp/accuracy                       # red wine: two hours and a half
    python benchmarks/accuracy/bench.py --data red white quality --goals score --store /tmp/accuracy  # two hours
    python benchmarks/accuracy/bench.py --folds 0 --budgets 60 --goals score --store /tmp/accuracy

Each fold is held out in turn, and both systems see only the other folds. Each result is recorded in the store at once,
and as a line of JSON in `results.jsonl` there, so that the same call continues where an interrupted one stopped.
AutoGluon gets a virtual environment of its own, which the first call makes. Needs the wine quality data as a run does.
"""

import argparse
import itertools
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import systems
from systems import AUTOGLUON, BUDGETS, GOALS, N_FOLDS, WINEEXP, Store, Task

from benchmarks.results.references import BENCHMARK_TAG, GOAL_METRICS, SHARED_RUNS, autogluon_table
from wineexp.tracking.runs import Runs

RUNNERS = {WINEEXP: systems.run_wineexp, AUTOGLUON: systems.run_autogluon}


def measure(store: Store, tasks: list[Task]) -> None:
    """Run both systems on each task without a record, the first one by turns.

    wineexp is not run on a goal that is compared with another goal's run.
    """
    for number, task in enumerate(tasks):
        for system in (AUTOGLUON, WINEEXP) if number % 2 == 0 else (WINEEXP, AUTOGLUON):
            if (system == WINEEXP and task.goal in SHARED_RUNS) or store.find(**task.tags(system)):
                continue
            RUNNERS[system](store, task)
            (run,) = store.find(**task.tags(system))
            scores = {name: run.data.metrics[f"holdout/{name}"] for name in GOAL_METRICS[task.goal]}
            line = {**asdict(task), "system": system, "seconds": float(run.data.tags["seconds"]), **scores}
            with (store.folder / "results.jsonl").open("a") as file:
                file.write(json.dumps(line | {"run": run.info.run_id}) + "\n")
            shown = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
            print(f"{time.strftime('%H:%M')} {task.name} {system}: {shown}, {run.data.tags['seconds']} s", flush=True)


def main() -> None:
    """Run the chosen tasks, and print the table of all that the store holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["red"], choices=["red", "white", "quality"])
    parser.add_argument(
        "--folds", type=int, nargs="+", default=range(N_FOLDS), choices=range(2 * N_FOLDS), help="5 to 9: shuffled anew"
    )
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS, choices=BUDGETS, help="seconds")
    parser.add_argument("--goals", nargs="+", default=list(GOALS), choices=list(GOALS))
    parser.add_argument("--store", type=Path, help="folder of the record; by default a temporary one")
    systems.add_environments_option(parser)
    options = parser.parse_args()
    systems.use_two_cores()
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, {len(os.sched_getaffinity(0))} cores, Python "
          f"{platform.python_version()}, load {os.getloadavg()[0]:.1f}\n")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        store = Store((options.store or Path(folder)).resolve(), options.environments.resolve())
        systems.autogluon_python(store.environments)
        by_fold = itertools.product(options.data, options.goals, options.budgets, options.folds)
        tasks = [Task(*values) for values in by_fold]
        measure(store, tasks)
        print("\n" + autogluon_table(Runs(store.uri, "wine").with_tag(BENCHMARK_TAG)))


if __name__ == "__main__":
    main()
