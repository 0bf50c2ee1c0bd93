"""Compare a training on a large table with a plain script that does the same work: wall time, CPU time, memory.

    python benchmarks/first_run/large.py [rows] [model ...]

The table has 20 columns of numbers and a label of two classes. By default 1,000,000 rows, `histgb` and `xgb`.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
N_COLUMNS = 20


def write_table(path: Path, n_rows: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n_rows, N_COLUMNS)).round(4)
    signal = values[:, :5] @ [1.0, -0.8, 0.6, 0.4, -0.2] + values[:, 5] * values[:, 6]
    label = np.where(signal + rng.normal(size=n_rows) > 0, "yes", "no")
    pd.DataFrame(values, columns=[f"x{number}" for number in range(N_COLUMNS)]).assign(label=label).to_csv(
        path, index=False
    )


def measured(command: list[str], folder: Path, log: Path, **environment: str) -> dict[str, float]:
    """Wall and CPU seconds, and the peak of the resident memory in MB, of a process and those that it waits for."""
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=output,
            stderr=output,
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} failed:\n{log.read_text()[-3000:]}")
    return {
        "wall s": time.perf_counter() - started,
        "CPU s": usage.ru_utime + usage.ru_stime,
        "peak MB": usage.ru_maxrss / 1024,
    }


def main() -> None:
    n_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_table(folder / "large.csv", n_rows)
        for name, text in {
            "data/large": f"_target_: wineexp.data.table\npath: {folder}/large.csv\ntargets: [label]\n",
            "target/label": "_target_: wineexp.data.target.Target\ncolumn: label\nbins: null\nlabels: null\n"
            "ordinal: false\nmetric: roc_auc\ndirection: maximize\n",
        }.items():
            (folder / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / f"conf/{name}.yaml").write_text(text)
        for model in sys.argv[2:] or ["histgb", "xgb"]:
            (folder / model).mkdir()
            script = [str(HERE / "straight_large.py"), str(folder / model), str(folder / "large.csv")]
            straight = measured([*script, f"sqlite:///{folder}/straight.db", model], folder, folder / "straight.log")
            train = ["-m", "wineexp.train", "data=large", "target=label", f"model={model}"]
            store = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/wineexp.db"}
            wineexp = measured([*train, "--config-dir", "conf"], folder, folder / "wineexp.log", **store)
            for figure, value in wineexp.items():
                other = straight[figure]
                print(f"{model:8}{figure:8} wineexp {value:8.0f}  script {other:8.0f}  ratio {value / other:.2f}")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
