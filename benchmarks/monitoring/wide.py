"""Seconds for 356,251 rows of 100 columns against their reference, here and with Evidently.

    python -m benchmarks.monitoring.wide --write wide
    python -m benchmarks.monitoring.wide --read wide

The second step reads the tables, makes a reference of the first and holds the second against it, as the monitor does
with a log: all columns, the predictions, what loss is expected, and which rows are unlike. `wide_evidently.py` reads
the same.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from wineexp.evaluation.predictions import Predictions
from wineexp.monitoring.drift import Monitor
from wineexp.monitoring.losses import Loss
from wineexp.monitoring.reference import LossSummary, Reference, answers, calibration, sketch

N_REFERENCE, N_ROWS, N_COLUMNS, N_SHIFTED, ROWS_PER_FRAME = 100_000, 356_251, 100, 10, 20_000
CLASSES = ["no", "yes"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", type=Path)
    parser.add_argument("--read", type=Path)
    arguments = parser.parse_args()
    if arguments.write:
        write(arguments.write)
    if arguments.read:
        measure(arguments.read)


def write(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for name, n_rows, shift in (("reference", N_REFERENCE, 0.0), ("now", N_ROWS, 0.1)):
        values = random.normal(size=(n_rows, N_COLUMNS))
        values[:, :N_SHIFTED] += shift
        pd.DataFrame(values, columns=[f"x{place}" for place in range(N_COLUMNS)]).to_parquet(folder / f"{name}.parquet")


def measure(folder: Path) -> None:
    before, now = (pd.read_parquet(folder / f"{name}.parquet") for name in ("reference", "now"))
    reference = reference_of(before)
    rows = as_log(now)
    started, cpu_started = time.perf_counter(), time.process_time()
    monitor = Monitor(reference)
    for start in range(0, len(rows), ROWS_PER_FRAME):
        monitor.update(rows.iloc[start : start + ROWS_PER_FRAME])
    counted = time.perf_counter()
    found = monitor.findings()
    done, cpu_done = time.perf_counter(), time.process_time()
    print(
        f"{len(rows):,} rows of {N_COLUMNS} columns: {done - started:.1f} s, {done - counted:.1f} s of it for tests; "
        f"{cpu_done - cpu_started:.1f} s of a processor"
    )
    print(f"changed: {len(found.shifted)} columns, of which {N_SHIFTED} have; alarm: {found.alarm}")


def as_log(X: pd.DataFrame) -> pd.DataFrame:
    """Rows of a log, whose model looks at the last column."""
    probability = 1 / (1 + np.exp(-X.iloc[:, -1].to_numpy()))
    log = X.rename(columns=lambda name: f"input.{name}")
    log["time"] = pd.date_range("2026-01-01", periods=len(X), freq="min")
    log["decision"] = np.where(probability > 0.5, "yes", "no")
    log["probability.no"], log["probability.yes"] = 1 - probability, probability
    return log.copy()


def reference_of(X: pd.DataFrame) -> Reference:
    log = as_log(X)
    random = np.random.default_rng(1)
    probabilities = log[["probability.no", "probability.yes"]].to_numpy()
    predicted = probabilities.argmax(axis=1)
    predictions = Predictions((random.random(len(X)) < probabilities[:, 1]).astype(int), predicted, probabilities)
    losses = Loss("error").of_rows(predictions)
    return Reference(
        n_rows=len(X),
        columns=[sketch(X[name], str(name)) for name in X],
        answers=[sketch(pd.Series(values), name) for name, values in answers(predictions, CLASSES).items()],
        classes=CLASSES,
        metric="accuracy",
        score=float(1 - losses.mean()),
        loss=Loss("error"),
        losses=LossSummary(len(losses), float(losses.mean()), float(losses.var(ddof=1))),
        calibration=calibration(predictions),
        costs=None,
        sample={str(name): X[name].head(2000).tolist() for name in X},
        sample_losses=losses[:2000].tolist(),
        noun=["row", "rows"],
    )


if __name__ == "__main__":
    main()
