"""Delays and false alarms on river's FriedmanDrift, for the monitor's test with labels.

    python -m benchmarks.monitoring.friedman --streams 2000 --losses friedman.npz

One model learns from 10,000 rows; each stream has 2,500 rows as at training and 2,500 after the change. The rows are
made here, since river takes half a second for 5,000; `friedman_peers.py` checks that the formulas are river's. With
--losses the errors of the first streams are written for it.
"""

import argparse

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold, cross_val_predict

from benchmarks.monitoring.friedman_drift import KINDS, N_AFTER, N_BEFORE, N_TRAINING, draw, targets
from wineexp.evaluation.predictions import NumberPredictions
from wineexp.monitoring.drift import alarm_log_e_value, limit_level, tolerated
from wineexp.monitoring.fixed_samples import fixed_sample_limit
from wineexp.monitoring.losses import loss_for
from wineexp.monitoring.sequential import MeanTest

ALPHA, TOLERANCE = 0.05, 0.05
# Streams whose errors are written for the peers.
N_WRITTEN = 100


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--losses")
    arguments = parser.parse_args()
    random = np.random.default_rng(42)
    X, noise = draw(random, N_TRAINING)
    y = targets("abrupt", X, 0, random, changed=False) + noise
    model = HistGradientBoostingRegressor(max_iter=200, learning_rate=0.15, early_stopping=False, random_state=0)
    out_of_fold = cross_val_predict(model, X, y, cv=KFold(5, shuffle=True, random_state=0))
    model.fit(X, y)
    reference = NumberPredictions(y, out_of_fold)
    loss = loss_for("root_mean_squared_error", reference)
    bound = tolerated(fixed_sample_limit(loss.of_rows(reference), limit_level(ALPHA)), TOLERANCE)
    print(f"root mean squared error out of fold {np.sqrt(np.mean(reference.errors**2)):.3f}", flush=True)
    alarms: dict[str, list[int]] = {kind: [] for kind in KINDS}
    written: dict[str, list[npt.NDArray[np.float64]]] = {kind: [] for kind in KINDS}
    for stream in range(arguments.streams):
        X, noise = draw(random, N_BEFORE + N_AFTER)
        predicted = model.predict(X)
        for kind in KINDS:
            errors = NumberPredictions(targets(kind, X, N_BEFORE, random) + noise, predicted)
            log_e = MeanTest(bound).update(loss.of_rows(errors))
            crossed = np.flatnonzero(log_e >= alarm_log_e_value(ALPHA))
            alarms[kind].append(int(crossed[0]) if len(crossed) else -1)
            if stream < N_WRITTEN:
                written[kind].append(errors.errors)
        if (stream + 1) % 100 == 0:
            print(f"{stream + 1} streams", flush=True)
    for kind, places in alarms.items():
        print(summary(kind, np.array(places)))
    if arguments.losses:
        median = np.median(reference.errors)
        np.savez(arguments.losses, median=median, **{kind: np.array(errors) for kind, errors in written.items()})


def summary(name: str, alarms: npt.NDArray[np.intp]) -> str:
    """False alarms, detections and the median delay, from the rows of the alarms (n_streams,), -1 for none."""
    false, found = (alarms >= 0) & (alarms < N_BEFORE), alarms >= N_BEFORE
    delay = np.median(alarms[found]) - N_BEFORE if found.any() else np.nan
    return (
        f"{name:8} of {len(alarms)} streams: false alarms {false.mean():6.1%}, detected {found.mean():6.1%}, "
        f"median delay {delay:.0f} rows"
    )


if __name__ == "__main__":
    main()
