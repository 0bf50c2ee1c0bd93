"""Compare a model that splits categories as they are with one on encoded ones, on the same folds of several tables.

    PYTHONPATH=. python -m benchmarks.tables.native histgb oj ...

The model is one that takes `feature=native`, as `histgb`. Each line has the mean score of `feature=scaled` and of
`feature=native`, the gain of the latter, positive where it is better, and its standard deviation over the folds.
"""

import os
import sys
import tempfile
import warnings
from contextlib import chdir, redirect_stdout
from pathlib import Path

import numpy as np

from benchmarks.tables.run import ROOT, Table, add_table, all_tables, compose
from wineexp.workflows.experiment import assemble


def scores(name: str, model: str, feature: str) -> tuple[str, int, np.ndarray]:
    """The deciding metric, its sign and its value on each fold."""
    cfg = compose(f"data={name}", f"model={model}", f"feature={feature}", "tracking=off", config_dir="conf")
    experiment = assemble(cfg)
    metric = experiment.task.target.metric
    sign = 1 if experiment.task.deciding_metric.direction == "maximize" else -1
    return metric, sign, np.array([fold.scores[metric] for fold in experiment.cross_validate()])


def compare(table: Table, model: str) -> str:
    """One line of the comparison; the working folder is empty."""
    add_table(table)
    metric, sign, encoded = scores(table.name, model, "scaled")
    _, _, native = scores(table.name, model, "native")
    gains = sign * (native - encoded)
    return (
        f"{table.name:16} {model:8} {metric:24} scaled {encoded.mean():10.4g}  native {native.mean():10.4g}  "
        f"gain {gains.mean():8.3g} ± {gains.std(ddof=1):.2g}"
    )


def main() -> None:
    model, *names = sys.argv[1:]
    warnings.simplefilter("ignore")
    os.environ["PYTHONPATH"] = str(ROOT)
    for table in all_tables():
        if table.name in names:
            with tempfile.TemporaryDirectory() as folder, chdir(folder):
                with Path("output.txt").open("w") as output, redirect_stdout(output):
                    line = compare(table, model)
                print(line, flush=True)


if __name__ == "__main__":
    main()
