"""False alarms on streams without drift: of the three tests after every row, of the columns after every batch.

    python -m benchmarks.monitoring.no_drift --streams 10000 --columns 500

Each stream has a reference of its own: the same distribution, drawn anew. A test is false if it ever is; a column if it
is said to have changed at any of 20 looks.
"""

import argparse

import numpy as np
import pandas as pd

from wineexp.monitoring.column_shifts import ColumnTest, block_starts
from wineexp.monitoring.drift import (
    LIMIT_SHARE,
    UNLIKE_TOLERANCE,
    alarm_log_e_value,
    limit_level,
    tolerated,
)
from wineexp.monitoring.reference import sketch
from wineexp.monitoring.sequential import MeanTest, e_benjamini_hochberg, fixed_sample_limit

ALPHA, TOLERANCE = 0.05, 0.05
N_REFERENCE, N_ROWS, N_COLUMNS, N_LOOKS = 1000, 2000, 12, 20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--columns", type=int, default=500)
    arguments = parser.parse_args()
    random = np.random.default_rng(7)
    for tolerance, extra in ((TOLERANCE, UNLIKE_TOLERANCE), (0.0, 0.0)):
        false = sum(any_alarm(random, tolerance, extra) for _ in range(arguments.streams))
        print(f"tolerance {tolerance}: {false} of {arguments.streams} streams with a false alarm", flush=True)
    shifted = sum(any_shift(random) for _ in range(arguments.columns))
    print(f"{shifted} of {arguments.columns} streams in which any of {N_COLUMNS} columns was said to have changed")


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


if __name__ == "__main__":
    main()
