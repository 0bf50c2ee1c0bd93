"""river's detectors on the errors that `friedman.py` wrote, and whether its streams are river's.

In an environment of its own, with river 0.26 and numpy:

    python -m benchmarks.monitoring.friedman_peers friedman.npz

As PITMonitor's authors feed them (github.com/tristan-farran/pitmon, experiment/core/detectors.py): ADWIN, KSWIN and
PageHinkley get squared errors, HDDM_A whether the error is above the median of training; all with river's defaults.
"""

import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from river.datasets.synth import FriedmanDrift
from river.drift import ADWIN, KSWIN, PageHinkley
from river.drift.binary import HDDMA

from benchmarks.monitoring.friedman_drift import KINDS, N_AFTER, N_BEFORE, TRANSITION, targets

TYPES = {"abrupt": "gra", "gradual": "gsg", "local": "lea"}
DETECTORS: dict[str, tuple[Callable[[], Any], bool]] = {
    "ADWIN": (ADWIN, False),
    "HDDM_A": (HDDMA, True),
    "KSWIN": (lambda: KSWIN(seed=0), False),
    "PageHinkley": (PageHinkley, False),
}


def main() -> None:
    check()
    stored = np.load(sys.argv[1])
    for name, (make, is_binary) in DETECTORS.items():
        for kind in KINDS:
            errors = stored[kind]
            values = errors > stored["median"] if is_binary else errors**2
            alarms = [first_alarm(make(), stream) for stream in values]
            print(name, summary(kind, np.array(alarms)), flush=True)


def check() -> None:
    """Compare whole streams with river's, whose random numbers are drawn anew here."""
    for kind in ("abrupt", "local"):
        step = N_AFTER // 3
        far = N_BEFORE + N_AFTER + 100_000
        position = (N_BEFORE, N_BEFORE + step, N_BEFORE + 2 * step) if kind == "local" else (N_BEFORE, far)
        stream = FriedmanDrift(drift_type=TYPES[kind], position=position, transition_window=TRANSITION, seed=1)
        numbers = np.array([y for _, y in stream.take(N_BEFORE + N_AFTER)])
        source = random.Random(1)
        drawn = [[source.uniform(0, 1) for _ in range(10)] + [source.gauss(0, 1)] for _ in numbers]
        rows = np.array(drawn)
        made = targets(kind, rows[:, :10], N_BEFORE, np.random.default_rng(0)) + rows[:, 10]
        print(f"{kind}: largest difference from river's stream {np.abs(made - numbers).max():.1e}")


def first_alarm(detector: Any, values: Any) -> int:
    for row, value in enumerate(values):
        detector.update(float(value))
        if detector.drift_detected:
            return row
    return -1


def summary(name: str, alarms: Any) -> str:
    false, found = (alarms >= 0) & (alarms < N_BEFORE), alarms >= N_BEFORE
    delay = np.median(alarms[found]) - N_BEFORE if found.any() else np.nan
    return (
        f"{name:8} of {len(alarms)} streams: false alarms {false.mean():6.1%}, detected {found.mean():6.1%}, "
        f"median delay {delay:.0f} rows"
    )


if __name__ == "__main__":
    main()
