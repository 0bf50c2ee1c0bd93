"""False alarms on streams without drift: of the three tests after every row, of the columns after every batch.

    python -m benchmarks.monitoring.no_drift --streams 10000 --columns 500 --monitors 200

Each stream has a reference of its own: the same distribution, drawn anew. A test is false if it ever is; a column if it
is said to have changed at any of 20 looks. Last come whole monitors, as `python -m wineexp.monitor` has them: of twelve
columns, one of them of texts, the probabilities of a model, and labels for a third of the rows.
"""

import argparse

import numpy as np
import pandas as pd

from wineexp.evaluation.predictions import Predictions
from wineexp.monitoring.column_shifts import ColumnTest, block_starts
from wineexp.monitoring.drift import (
    LIMIT_SHARE,
    UNLIKE_TOLERANCE,
    Monitor,
    alarm_log_e_value,
    limit_level,
    tolerated,
)
from wineexp.monitoring.fixed_samples import fixed_sample_limit
from wineexp.monitoring.format import INPUT
from wineexp.monitoring.losses import Loss
from wineexp.monitoring.reference import LossSummary, Reference, answers, calibration, sketch
from wineexp.monitoring.sequential import MeanTest, e_benjamini_hochberg

ALPHA, TOLERANCE = 0.05, 0.05
# A whole monitor is looked at less often: an alarm stays, whenever it was raised.
N_MONITOR_LOOKS = 5
CLASSES, PROBABILITIES, BRIER = ["no", "yes"], ["probability.no", "probability.yes"], Loss("brier", 0.0, 2.0)
N_REFERENCE, N_ROWS, N_COLUMNS, N_LOOKS = 1000, 2000, 12, 20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--columns", type=int, default=500)
    parser.add_argument("--monitors", type=int, default=200)
    arguments = parser.parse_args()
    random = np.random.default_rng(7)
    for tolerance, extra in ((TOLERANCE, UNLIKE_TOLERANCE), (0.0, 0.0)):
        false = sum(any_alarm(random, tolerance, extra) for _ in range(arguments.streams))
        print(f"tolerance {tolerance}: {false} of {arguments.streams} streams with a false alarm", flush=True)
    shifted = sum(any_shift(random) for _ in range(arguments.columns))
    print(f"{shifted} of {arguments.columns} streams in which any of {N_COLUMNS} columns was said to have changed")
    alarms = shifts = 0
    for number in range(1, arguments.monitors + 1):
        alarm, shifted = whole_monitor(random)
        alarms, shifts = alarms + alarm, shifts + shifted
        if number % 20 == 0 or number == arguments.monitors:
            print(f"{alarms} of {number} whole monitors raised an alarm, {shifts} showed a changed column", flush=True)


def any_alarm(random: np.random.Generator, tolerance: float, extra: float) -> bool:
    """Whether the loss (0 or 1), what is expected of it, or the share of unlike rows raises the alarm."""
    for draw, is_share in (
        (lambda n: (random.random(n) < 0.2).astype(float), False),
        (lambda n: random.beta(2, 8, n), False),
        (lambda n: (random.random(n) < 0.05).astype(float), True),
    ):
        limit = fixed_sample_limit(draw(N_REFERENCE), limit_level(ALPHA))
        bound = min(1.0, limit + extra) if is_share else tolerated(limit, tolerance)
        if MeanTest(bound).update(draw(N_ROWS)).max() >= alarm_log_e_value(ALPHA):
            return True
    return False


def any_shift(random: np.random.Generator) -> bool:
    """Whether any column is said to have changed at any look."""
    reference, live = (random.normal(size=(n, N_COLUMNS)) for n in (N_REFERENCE, N_ROWS))
    tests = [ColumnTest(sketch(pd.Series(values), str(place))) for place, values in enumerate(reference.T)]
    starts = block_starts(N_ROWS)
    blocks = np.searchsorted(starts, np.arange(N_ROWS), side="right") - 1
    for rows in np.array_split(np.arange(N_ROWS), N_LOOKS):
        log_e = []
        for place, test in enumerate(tests):
            test.update(test.sketch.codes_of_numbers(live[rows, place]), blocks[rows])
            log_e.append(test.log_e_value(blocks[rows[-1]] + 1, LIMIT_SHARE * ALPHA / N_COLUMNS))
        if e_benjamini_hochberg(log_e, (1 - LIMIT_SHARE) * ALPHA).any():
            return True
    return False


def whole_monitor(random: np.random.Generator) -> tuple[bool, bool]:
    """Whether a monitor ever raises the alarm, and whether it ever shows a changed column."""
    known = log_rows(random, N_REFERENCE)
    predictions = Predictions(
        known["y"].to_numpy(), (known["probability.yes"] > 0.5).to_numpy(int), known[PROBABILITIES].to_numpy()
    )
    losses = BRIER.of_rows(predictions)
    inputs = {name.removeprefix(INPUT): known[name] for name in known if name.startswith(INPUT)}
    reference = Reference(
        n_rows=len(known),
        columns=[sketch(values, name) for name, values in inputs.items()],
        answers=[sketch(pd.Series(values), name) for name, values in answers(predictions, CLASSES).items()],
        classes=CLASSES,
        metric="brier_score",
        score=float(losses.mean() * 2),
        loss=BRIER,
        losses=LossSummary(len(losses), float(losses.mean()), float(losses.var(ddof=1))),
        calibration=calibration(predictions),
        costs=None,
        sample={name: values.tolist() for name, values in inputs.items()},
        sample_losses=losses.tolist(),
        noun=["row", "rows"],
    )
    monitor, rows = Monitor(reference, alpha=ALPHA, tolerance=TOLERANCE), log_rows(random, N_ROWS)
    alarm = shifted = False
    for part in np.array_split(np.arange(N_ROWS), N_MONITOR_LOOKS):
        monitor.update(rows.iloc[part])
        monitor.update_labels(rows.iloc[part[::3]])
        findings = monitor.findings()
        alarm, shifted = alarm or findings.alarm, shifted or bool(findings.shifted)
    return alarm, shifted


def log_rows(random: np.random.Generator, n_rows: int) -> pd.DataFrame:
    """Rows of a log: a model that knows the probability of `yes`, with its truth."""
    numbers = random.normal(size=(n_rows, N_COLUMNS - 1))
    yes = 1 / (1 + np.exp(-2 * numbers[:, 0]))
    is_yes = random.random(n_rows) < yes
    rows = pd.DataFrame(numbers, columns=[f"{INPUT}number{place}" for place in range(N_COLUMNS - 1)])
    return rows.assign(
        **{
            f"{INPUT}text": random.choice(["a", "b", "c"], n_rows, p=[0.7, 0.2, 0.1]),
            "probability.no": 1 - yes,
            "probability.yes": yes,
            "decision": np.where(yes > 0.5, "yes", "no"),
            "truth": np.where(is_yes, "yes", "no"),
            "y": is_yes.astype(int),
            "time": pd.date_range("2026-01-01", periods=n_rows, freq="min", tz="UTC"),
        }
    )


if __name__ == "__main__":
    main()
