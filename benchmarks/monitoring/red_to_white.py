"""After how many rows of white wine the monitor of a champion that was trained on red wine raises the alarm.

    python -m benchmarks.monitoring.red_to_white

It trains and promotes the champion in a folder of its own, and needs the wine quality data. Each of 20 streams has 300
rows of the red holdout, drawn with replacement, and then white rows; one looks after every 10 rows.
"""

import os
import tempfile

import numpy as np
import pandas as pd

SEEDS, N_RED, N_WHITE, STEP = range(20), 300, 400, 10


def main() -> None:
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{tempfile.mkdtemp()}/mlflow.db"
    from omegaconf import OmegaConf

    from wineexp import compose, promote, train
    from wineexp.monitoring.drift import Monitor
    from wineexp.tracking.registry import Registry
    from wineexp.workflows.experiment import assemble
    from wineexp.workflows.monitoring import find_reference

    chosen = ["data=red", "target=tier", "model=extratrees"]
    run = train(compose(*chosen))
    promote(compose(f"run={run.run_id}", "repeats=1", "allow=[dirty]", program="promote"))
    registry = Registry(OmegaConf.select(compose(*chosen), "tracking.uri"), "wine")
    version = registry.version("champion")
    reference, model = find_reference(registry, version), registry.load(version)
    red = assemble(compose(*chosen)).task.X_holdout
    white = assemble(compose("data=white", *chosen[1:])).task.X
    found = {"alarm": [], "columns": [], "false": 0}
    for seed in SEEDS:
        rows = pd.concat(
            [red.sample(N_RED, replace=True, random_state=seed), white.sample(N_WHITE, random_state=seed)],
            ignore_index=True,
        )
        log = rows.add_prefix("input.")
        probabilities = model.predict_proba(rows)
        log["time"] = pd.date_range("2026-01-01", periods=len(rows), freq="h")
        log["decision"] = np.array(reference.classes)[probabilities.argmax(axis=1)]
        for place, name in enumerate(reference.classes):
            log[f"probability.{name}"] = probabilities[:, place]
        monitor = Monitor(reference)
        monitor.update(log.iloc[:N_RED])
        before = monitor.findings()
        found["false"] += before.alarm or bool(before.shifted)
        for start in range(N_RED, len(log), STEP):
            monitor.update(log.iloc[start : start + STEP])
            now = monitor.findings()
            if now.shifted and len(found["columns"]) <= seed:
                found["columns"].append(start + STEP - N_RED)
            if now.alarm:
                alarms = [test.alarm_row for test in (now.expected, now.unlike) if test and test.alarm_row is not None]
                found["alarm"].append(min(alarms) + 1 - N_RED)
                break
    for what in ("alarm", "columns"):
        print(
            f"{what}: found in {len(found[what])} of {len(SEEDS)}, after {np.median(found[what]):.0f} white rows, "
            f"at most {max(found[what])}"
        )
    print(f"false before that: {found['false']} of {len(SEEDS)}")


if __name__ == "__main__":
    main()
