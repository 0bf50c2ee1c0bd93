"""Check `device=cuda` on a machine with a CUDA card, and measure it against the same machine's CPU.

    python benchmarks/gpu/run.py [rows] [--threads N]

First the checks, of each library that is installed: a run records its card, reproduces itself bit for bit, is promoted,
compiled for the CPU and proved there, and a training on the CPU is named as another one. Then a fit on 10,000,000 rows
of 28 columns, on the card and on the CPU with N threads, by default as many as there are cores. Exit code 1 where a
check fails, 2 where there is no card.
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from wineexp.models._cuda import first_card  # noqa: E402
from wineexp.models.device import on_device  # noqa: E402

LIBRARIES = {"xgb": "xgboost", "catboost": "catboost", "lightgbm": "lightgbm"}
N_COLUMNS, N_ROUNDS, DEPTH = 28, 200, 8
WANTED_RATIO = 10.0


def program(folder: Path, name: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    command = [sys.executable, "-m", f"wineexp.{name}", *overrides]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stdout + done.stderr).strip().splitlines()[-1]


def check(model: str, folder: Path, card: str) -> bool:
    """Whether a model trains on the card as it should; prints a line for each check."""
    passed = True

    def report(what: str, is_right: bool, done: subprocess.CompletedProcess[str]) -> None:
        nonlocal passed
        passed &= is_right
        print(f"  {'ok    ' if is_right else 'FAILED'} {what}{'' if is_right else ': ' + last_line(done)}", flush=True)

    print(model, flush=True)
    trained = program(folder, "train", f"model={model}", "data=cultivar", "device=cuda")
    found = [line for line in trained.stdout.splitlines() if "Recorded as run " in line]
    report("trains on the card", bool(found), trained)
    if not found:
        return False
    run = found[0].partition("Recorded as run ")[2].split()[0]
    compared = program(folder, "compare", f"lineage={run}")
    report("its lineage names the card", f"trained on {card}" in compared.stdout, compared)
    again = program(folder, "reproduce", f"run={run}")
    report("reproduces itself bit for bit", again.returncode == 0, again)
    on_cpu = program(folder, "reproduce", f"run={run}", "strict=false", "device=cpu")
    report("names a training on the CPU", "not as recorded: machine.card" in on_cpu.stdout + on_cpu.stderr, on_cpu)
    print(f"         on the CPU: {last_line(on_cpu)}")
    promoted = program(folder, "promote", f"run={run}", "repeats=1", f"registry.name={model}", "allow=[dirty]")
    report("is promoted", promoted.returncode == 0, promoted)
    if model == "xgb":
        is_compiled = "for serving: compiled" in promoted.stdout
        report("is compiled for the CPU, bit for bit", is_compiled, promoted)
    return passed


def fit_seconds(model: str, device: str, X: np.ndarray, y: np.ndarray, threads: int) -> float:
    """Wall time of one fit of a model of 200 trees of depth 8."""
    import xgboost

    if model == "xgb":
        fitted = xgboost.XGBClassifier(n_estimators=N_ROUNDS, max_depth=DEPTH, n_jobs=threads)
    elif model == "catboost":
        import catboost

        fitted = catboost.CatBoostClassifier(
            iterations=N_ROUNDS, depth=DEPTH, verbose=0, thread_count=threads, allow_writing_files=False
        )
    else:
        import lightgbm

        fitted = lightgbm.LGBMClassifier(
            n_estimators=N_ROUNDS, max_depth=DEPTH, num_leaves=2**DEPTH, verbosity=-1, n_jobs=threads
        )
    fitted = on_device(fitted, device)
    # The first use of a card sets up its context.
    fitted.fit(X[:1000], y[:1000])
    started = time.perf_counter()
    fitted.fit(X, y)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="?", default=10_000_000)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    card = first_card()
    if card is None:
        print("no CUDA card is visible here: nothing was checked")
        raise SystemExit(2)
    print(f"{card.name}, driver {card.driver}, CUDA {card.cuda}; {os.cpu_count()} cores")
    folder = Path(tempfile.mkdtemp())
    models = [model for model, package in LIBRARIES.items() if importlib.util.find_spec(package)]
    checks = [check(model, folder, card.name) for model in models]
    shutil.rmtree(folder)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((arguments.rows, N_COLUMNS), dtype=np.float32)
    y = (X[:, :5].sum(axis=1) + X[:, 5] * X[:, 6] + rng.standard_normal(len(X), dtype=np.float32) > 0).astype(np.int32)
    results = {}
    for model in models:
        seconds = {device: fit_seconds(model, device, X, y, arguments.threads) for device in ("cuda", "cpu")}
        ratio = seconds["cpu"] / seconds["cuda"]
        results[model] = seconds | {"ratio": ratio}
        print(
            f"{model:9} {arguments.rows:,} rows   card {seconds['cuda']:.1f} s   CPU, {arguments.threads} threads, "
            f"{seconds['cpu']:.1f} s   ratio {ratio:.1f} (to reach: {WANTED_RATIO:g})",
            flush=True,
        )
    print(json.dumps(results))
    raise SystemExit(0 if all(checks) else 1)


if __name__ == "__main__":
    main()
