"""A year after deployment: red wine turns white in summer, labels come late, and the loop closes by commands alone.

python benchmarks/monitoring/year.py                    # one year, with a server; writes year.json and year.png
python benchmarks/monitoring/year.py --seed 3 --folder /tmp/year
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd

from wineexp import abtest, compose, promote, retrain, train
from wineexp.core import paths

DAYS, ROWS_A_DAY = 360, 40
# From this day on more and more of the wine is white, and a month later all of it.
TURN_DAY, TURNED_DAY = 150, 180
# A label is known after so many days, for a third of the rows.
LABEL_DELAY_DAYS, LABEL_SHARE = 14, 1 / 3
# How often the monitor and the test look.
LOOK_DAYS = 15

# A cheap model, and no more of the gate than is needed: its splits, but once.
MODEL = ("data=red", "target=good", "model=forest", "model.n_estimators=60", "feature=raw", "split.n_splits=4")
GATE = ("allow=[dirty]", "repeats=1", "model@baseline=majority")


@dataclass
class Year:
    """What happened.

    Attributes
    ----------
    days : list of dict
        By day: the share of right answers of the version that answered, its number, and the share of white wine.
    events : dict of str to int
        The day of each: `alarm`, `retrained`, `better` (the test's verdict), `promoted`.
    lines : list of str
        What the test said at its end.
    """

    days: list[dict[str, float]] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


def live(folder: Path, seed: int = 0, look_days: int = LOOK_DAYS) -> Year:
    """Live through a year in a folder, which gets a project with the real wine quality data.

    Parameters
    ----------
    folder : Path
    seed : int
        Of which wines come on which day.
    look_days : int
        How often the monitor, the training and the test run.
    """
    with project(folder):
        run_id = train(compose(*MODEL)).run_id
        promote(compose(f"run={run_id}", *GATE, program="promote"))
        with serving(folder) as url:
            return _live(url, seed, look_days)


def _live(url: str, seed: int, look_days: int) -> Year:
    year, generator = Year(), np.random.default_rng(seed)
    wines = {name: _wines(name).sample(frac=1, random_state=seed) for name in ("red", "white")}
    due: list[tuple[int, dict[str, str]]] = []
    with httpx.Client(base_url=url, timeout=60) as client:
        for day in range(DAYS):
            white = float(np.clip((day - TURN_DAY) / (TURNED_DAY - TURN_DAY), 0, 1))
            is_white = generator.random(ROWS_A_DAY) < white
            today = pd.concat(
                [wines["white" if each else "red"].sample(1, random_state=generator) for each in is_white]
            )
            truths = np.where(today.pop("quality") > 6, "good", "ordinary")
            request_id = f"day{day}"
            answer = client.post("/predict", json=today.to_dict("records"), headers={"x-request-id": request_id})
            answer.raise_for_status()
            content = answer.json()
            right = [each["class"] == truth for each, truth in zip(content["predictions"], truths, strict=True)]
            version = content["model"]["version"]
            year.days.append({"right": float(np.mean(right)), "version": version, "white": float(is_white.mean())})
            for row in np.flatnonzero(generator.random(ROWS_A_DAY) < LABEL_SHARE):
                label = {"request_id": request_id, "row": int(row), "truth": str(truths[row])}
                due.append((day + LABEL_DELAY_DAYS, label))
            known = [label for when, label in due if when <= day]
            due = [(when, label) for when, label in due if when > day]
            if known:
                client.post("/feedback", json=known).raise_for_status()
            if day % look_days == look_days - 1:
                # What was logged reaches the log within half a second.
                time.sleep(0.6)
                _look(day, year, client)
    return year


def _look(day: int, year: Year, client: httpx.Client) -> None:
    """What runs on schedule: the monitor, then training anew, then the test of the challenger."""
    if "alarm" not in year.events:
        if _is_alarm():
            year.events["alarm"] = day
        return
    if "retrained" not in year.events:
        result = retrain(compose(*GATE, "log=log", "min_rows=60", program="retrain"))
        if result.version is not None:
            year.events["retrained"] = day
            _wait(lambda: _asked(client) == result.version.number)
        return
    if "promoted" in year.events:
        return
    found = abtest(compose("log=log", program="abtest"))
    year.lines = found.lines()
    if found.test.verdict == "better":
        year.events["better"] = day
        promoted = promote(compose("run=challenger", *GATE, "gate.live=required", "log=log", program="promote"))
        year.events["promoted"] = day
        _wait(lambda: client.get("/readyz").json()["model"]["version"] == promoted.version.number)


def _is_alarm() -> bool:
    from wineexp import monitor

    return bool(monitor(compose("log=log", program="monitor")).alarm)


def _asked(client: httpx.Client) -> int | None:
    """The challenger that answers in the shadow; a row is sent, since its process tells with its answers."""
    row = _wines("red").iloc[0].drop("quality").to_dict()
    client.post("/predict", json=row, headers={"x-request-id": "asked"}).raise_for_status()
    version: int | None = client.get("/readyz").json()["challenger"]["version"]
    return version


def _wait(true: Any, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not true within {seconds} s")
        time.sleep(0.2)


def _wines(name: str) -> pd.DataFrame:
    frame = pd.read_csv(paths.ROOT / f"data/raw/winequality-{name}.csv", sep=";")
    return frame.rename(columns=lambda column: column.replace(" ", "_"))


@contextmanager
def project(folder: Path) -> Iterator[None]:
    """A project with the wine quality data as the current one, and a store in it."""
    import os

    (folder / "data/raw").mkdir(parents=True, exist_ok=True)
    for path in (paths.ROOT / "data/raw").glob("winequality-*"):
        shutil.copy(path, folder / "data/raw")
    before = Path.cwd(), paths.ROOT, os.environ.get("MLFLOW_TRACKING_URI")
    os.chdir(folder)
    paths.ROOT = folder
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    try:
        yield
    finally:
        os.chdir(before[0])
        paths.ROOT = before[1]
        os.environ.pop("MLFLOW_TRACKING_URI")
        if before[2] is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before[2]


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A server of the project, with a challenger in the shadow; gives its address."""
    settings = ("serve.port=0", "serve.poll_interval_seconds=0.5", "serve.log=log", "serve.challenger=challenger")
    with (folder / "serve.log").open("wb") as out:
        command = [sys.executable, "-m", "wineexp.serve", *settings]
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
    try:
        _wait(lambda: b'"listening"' in (folder / "serve.log").read_bytes() or process.poll() is not None)
        lines = [json.loads(line) for line in (folder / "serve.log").read_text().splitlines() if line.startswith("{")]
        yield next(line["url"] for line in lines if line["event"] == "listening")
    finally:
        process.terminate()
        process.wait(40)


def draw(year: Year, path: Path) -> None:
    """The year as a picture: right answers by fortnight, the share of white wine, and what happened when."""
    from matplotlib.figure import Figure

    days = pd.DataFrame(year.days)
    fortnight = days.groupby(days.index // 15).mean()
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(
        days.index, days["white"].rolling(10, min_periods=1).mean(), color="#d8d2b8", label="share of white wine"
    )
    axes.plot(fortnight.index * 15 + 7, fortnight["right"], marker="o", color="#7b1e3a", label="share of right answers")
    for name, day in year.events.items():
        if name != "better":
            axes.axvline(day, color="#444444", linewidth=1, linestyle=":")
            axes.annotate(name, (day, 1.02), rotation=35, fontsize=9, annotation_clip=False)
    axes.set(xlim=(0, len(days)), ylim=(0, 1), xlabel="day of the year")
    axes.legend(loc="lower left", frameon=False)
    figure.savefig(path, dpi=140)


def main() -> None:
    """Live through a year, and write what happened and its picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("outputs/year"))
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    started_at = time.monotonic()
    year = live(folder, arguments.seed)
    (folder / "year.json").write_text(json.dumps(asdict(year), indent=1) + "\n")
    draw(year, folder / "year.png")
    print(f"{time.monotonic() - started_at:.0f} s", year.events, *year.lines, sep="\n")


if __name__ == "__main__":
    main()
