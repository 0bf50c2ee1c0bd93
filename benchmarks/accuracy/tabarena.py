"""AutoGluon and a named experiment on the nine folds of TabArena's protocol, in turns, with the same two cores.

    python benchmarks/accuracy/tabarena.py --output /tmp/tabarena.jsonl                       # 50 minutes
    python benchmarks/accuracy/tabarena.py --output /tmp/tabarena.jsonl --folds 0 --seconds 60
    python benchmarks/accuracy/tabarena.py --output /tmp/plain.jsonl --experiment tabarena_wine

Each fold of each system is a line of JSON, written at once, so that the same call continues where an interrupted one
stopped; in the end the means are printed. AutoGluon gets so many seconds for each fold; wineexp trains once, as the
experiment says. Needs the wine quality data as a run does.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pandas as pd
from systems import AUTOGLUON, HERE, WINEEXP, add_environments_option, autogluon_python, use_two_cores

from wineexp import compose
from wineexp.evaluation import cross_validation
from wineexp.workflows.experiment import Experiment, assemble

METRIC = "root_mean_squared_error"


def fit_wineexp(experiment: Experiment, fold: int) -> float:
    """The score of the experiment on a fold."""
    task = experiment.task
    (scored,) = cross_validation.cross_validate(
        experiment.estimator, task.X, task.y, [task.folds[fold]], [METRIC], n_jobs=1
    )
    return scored.scores[METRIC]


def fit_autogluon(experiment: Experiment, fold: int, python: str, seconds: int) -> float:
    """The score of AutoGluon on a fold; its process must succeed."""
    task = experiment.task
    training, test = task.folds[fold]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        task.X.iloc[training].assign(label=task.y.iloc[training]).to_csv(folder / "train.csv", index=False)
        task.X.iloc[test].to_csv(folder / "test.csv", index=False)
        arguments = json.dumps({"metric": METRIC, "seconds": seconds})
        command = [python, str(HERE / "fit_autogluon.py"), str(folder), arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"AutoGluon on fold {fold} failed:\n{(done.stdout + done.stderr)[-3000:]}")
        predicted = pd.read_csv(folder / "predictions.csv")["predicted"].to_numpy(dtype=float)
    return float(np.sqrt(np.mean((task.y.iloc[test].to_numpy() - predicted) ** 2)))


def show(lines: pd.DataFrame) -> None:
    """Print the mean of both systems over the folds that both have, and of the difference, with standard errors."""
    table = lines.pivot_table(index="fold", columns="system", values=METRIC).dropna()
    if not {WINEEXP, AUTOGLUON} <= set(table) or len(table) < 2:
        return
    gain = table[AUTOGLUON] - table[WINEEXP]
    for name, values in ((WINEEXP, table[WINEEXP]), (AUTOGLUON, table[AUTOGLUON]), ("gain of wineexp", gain)):
        print(f"{name}: {values.mean():.4f} ± {values.sem():.4f} over {len(values)} folds")


def main() -> None:
    """Run what has no line yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="lines of JSON")
    parser.add_argument("--experiment", default="tabarena_wine_grouped")
    parser.add_argument("--seconds", type=int, default=300, help="of AutoGluon for each fold")
    parser.add_argument("--folds", type=int, nargs="+", default=range(9), choices=range(9))
    add_environments_option(parser)
    options = parser.parse_args()
    use_two_cores()
    experiment, python = assemble(compose(f"experiment={options.experiment}")), autogluon_python(options.environments)
    setting = {"experiment": options.experiment, "seconds": options.seconds}
    for fold in options.folds:
        for system in (WINEEXP, AUTOGLUON) if fold % 2 else (AUTOGLUON, WINEEXP):
            task = {**setting, "fold": fold, "system": system}
            if any(task.items() <= line.items() for line in read(options.output)):
                continue
            began = time.perf_counter()
            if system == WINEEXP:
                value = fit_wineexp(experiment, fold)
            else:
                value = fit_autogluon(experiment, fold, python, options.seconds)
            line = json.dumps(task | {METRIC: value, "took": round(time.perf_counter() - began, 1)})
            with options.output.open("a") as file:
                file.write(line + "\n")
            print(line, flush=True)
    recorded = pd.DataFrame(read(options.output))
    show(recorded[(recorded[list(setting)] == pd.Series(setting)).all(axis=1)])


def read(file: Path) -> list[dict[str, object]]:
    """The lines that there are."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


if __name__ == "__main__":
    main()
