"""A year after deployment: red wine turns white in summer, labels come late, and the loop closes by commands alone.

    python -m benchmarks.monitoring.year                    # one year, with a server; writes year.json and year.png
    python -m benchmarks.monitoring.year --seed 3 --folder /tmp/year

`benchmarks.monitoring.years` lives through many, and compares each with an oracle.
"""

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx
import numpy as np
import numpy.typing as npt
import pandas as pd

from wineexp import abtest, compose, monitor, promote, retrain, train
from wineexp.core import paths

DAYS, ROWS_A_DAY = 360, 20
# From this day on more and more of the wine is white, and a month later all of it.
TURN_DAY, TURNED_DAY = 150, 180
# A label is known after so many days, for a third of the rows.
LABEL_DELAY_DAYS, LABEL_SHARE = 14, 1 / 3
# How often the monitor and the test look.
LOOK_DAYS = 15

# A cheap model, and no more of the gate than is needed: ten folds, but once.
MODEL = ("data=red", "target=good", "model=extratrees", "model.n_estimators=40", "feature=raw", "split.n_splits=10")
GATE = ("allow=[dirty]", "repeats=1", "model@baseline=majority")

# Columns of a year's rows beside the wine's own measurements.
DAY, ROW, WHITE, TRUTH, LABELLED = "day", "row", "white", "truth", "labelled"
# Those, and the number of the wine in its file, are no features.
WINE = "wine"
OTHER_COLUMNS = (WINE, DAY, ROW, WHITE, TRUTH, LABELLED)
# What is known of a row once it is answered; and the class whose probability that is.
VERSION, RIGHT, BRIER = "version", "right", "brier"
GOOD = "good"


class Answers(Protocol):
    """Answers the rows of each day, and takes their labels: a server, or this process."""

    def answer(self, day: int, wines: pd.DataFrame) -> tuple[list[dict[str, float]], int]:
        """Predict the wines of a day (n_rows, n_features): the probabilities of each, and the version's number."""

    def label(self, labels: list[tuple[int, int, str]]) -> None:
        """Take labels: each with the day, the row of that day, and the truth."""

    def catch_up(self) -> None:
        """Return when all that was answered is in the log."""

    def follow(self, champion: int, challenger: int | None) -> None:
        """Return when these versions answer."""


@dataclass
class Year:
    """What happened.

    Attributes
    ----------
    rows : DataFrame
        The wines in order, with their day, truth, whether the label became known, the version that answered and its
        probability of `good`.
    events : dict of str to int
        The day of each: `alarm`, `retrained`, `better` (the test's verdict), `promoted`.
    lines : list of str
        What the test said at its end.
    """

    rows: pd.DataFrame
    events: dict[str, int] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def days(self) -> pd.DataFrame:
        """By day: the share of right answers and their Brier score, the version, and the share of white wine."""
        # Of two classes the squared error of both probabilities is twice that of one.
        brier = 2 * (self.rows[GOOD] - (self.rows[TRUTH] == GOOD)) ** 2
        return self.rows.assign(**{BRIER: brier}).groupby(DAY)[[RIGHT, BRIER, VERSION, WHITE]].mean()


def wines_of_a_year(seed: int) -> pd.DataFrame:
    """The wines of a year, in order: red ones, many of them several times, and each white one once.

    Returns
    -------
    DataFrame of shape (7200, 17)
        The measurements and `OTHER_COLUMNS`.
    """
    random = np.random.default_rng(seed)
    days = np.repeat(np.arange(DAYS), ROWS_A_DAY)
    is_white = random.random(len(days)) < np.clip((days - TURN_DAY) / (TURNED_DAY - TURN_DAY), 0, 1)
    reds, whites = wines("red"), wines("white")
    chosen_reds = reds.iloc[random.integers(len(reds), size=int((~is_white).sum()))]
    chosen_whites = whites.iloc[random.permutation(len(whites))[: int(is_white.sum())]]
    in_order = pd.concat([chosen_reds, chosen_whites]).iloc[np.argsort(np.argsort(is_white, kind="stable"))]
    return on_days(in_order, days, random).assign(**{WHITE: is_white})


def on_days(in_order: pd.DataFrame, days: npt.NDArray[np.intp], random: np.random.Generator) -> pd.DataFrame:
    """Wines with the day on which each is asked for, their place on that day, and whether their label becomes known."""
    rows = in_order.reset_index(names=WINE).assign(**{DAY: days, LABELLED: random.random(len(days)) < LABEL_SHARE})
    return rows.assign(**{ROW: rows.groupby(DAY).cumcount()})


def wines(colour: str) -> pd.DataFrame:
    """All wines of a colour: the measurements, as the model's features are called, and `truth`."""
    frame = pd.read_csv(paths.ROOT / f"data/raw/winequality-{colour}.csv", sep=";")
    frame = frame.rename(columns=lambda column: column.replace(" ", "_"))
    return frame.assign(**{TRUTH: np.where(frame.pop("quality") > 6, GOOD, "ordinary")})


def live(
    answers: Answers,
    rows: pd.DataFrame,
    look_days: int = LOOK_DAYS,
    first_look: int = 0,
    look: "Callable[[int, Year, Answers], None] | None" = None,
) -> Year:
    """Live through a year in the project that is the working folder.

    Parameters
    ----------
    answers : Answers
    rows : DataFrame
        From `wines_of_a_year`.
    look_days : int
        How often the monitor, the training and the test run.
    first_look : int
        The day of the first look, or an earlier one.
    look : callable, optional
        What is done at each; by default `close_the_loop`.
    """
    look = look or close_the_loop
    year = Year(rows.assign(**{VERSION: 0, GOOD: np.nan, RIGHT: False}))
    features = rows.columns.difference(OTHER_COLUMNS, sort=False)
    for day, of_day in rows.groupby(DAY):
        probabilities, version = answers.answer(day, of_day[features])
        good = np.array([each[GOOD] for each in probabilities])
        right = (good > 0.5) == (of_day[TRUTH] == GOOD)
        for column, values in ((VERSION, version), (GOOD, good), (RIGHT, right)):
            year.rows.loc[of_day.index, column] = values
        answers.label(labels_of(rows, day - LABEL_DELAY_DAYS))
        if day % look_days == look_days - 1 and day >= first_look:
            answers.catch_up()
            look(day, year, answers)
    return year


def labels_of(rows: pd.DataFrame, day: int) -> list[tuple[int, int, str]]:
    """The labels of the rows of a day that have one: the day, the row of that day, and the truth."""
    known = rows[(rows[DAY] == day) & rows[LABELLED]]
    return [(day, int(row), str(truth)) for row, truth in zip(known[ROW], known[TRUTH], strict=True)]


def close_the_loop(day: int, year: Year, answers: Answers) -> None:
    """What runs on schedule: the monitor, on its alarm the training, then the test of the challenger."""
    events = year.events
    if "alarm" not in events and monitor(compose("log=log", program="monitor")).alarm:
        events["alarm"] = day
    if "promoted" in events or "alarm" not in events:
        return
    if "retrained" not in events:
        result = retrain(compose(*GATE, "log=log", "since=alarm", "min_rows=60", program="retrain"))
        if result.version is not None:
            events["retrained"] = day
            answers.follow(1, result.version.number)
        return
    found = abtest(compose("log=log", program="abtest"))
    year.lines = found.lines()
    if found.test.verdict == "better":
        events["better"] = day
        promoted = promote(compose("run=challenger", *GATE, "gate.live=required", "log=log", program="promote"))
        events["promoted"] = day
        answers.follow(promoted.version.number, None)


def make_champion(*overrides: str) -> None:
    """Train a model, by default one that knows red wine, and promote it."""
    run_id = train(compose(*MODEL, *overrides)).run_id
    promote(compose(f"run={run_id}", *GATE, program="promote"))


@contextmanager
def project(folder: Path, store: Path | None = None) -> Iterator[None]:
    """A project with the wine quality data as the current one, and a store in it.

    Parameters
    ----------
    folder : Path
    store : Path, optional
        The database of another project's store, of which the project gets a copy; by default the store is empty.
    """
    (folder / "data/raw").mkdir(parents=True, exist_ok=True)
    for path in (paths.ROOT / "data/raw").glob("winequality-*"):
        shutil.copy(path, folder / "data/raw")
    if store is not None:
        copy_store(store, folder / "mlflow.db")
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


def copy_store(store: Path, copy: Path) -> None:
    """Copy a SQLite database, also what is in its journal only."""
    with closing(sqlite3.connect(store)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


class Server:
    """A server of the project, with a challenger in the shadow: `Answers` over HTTP.

    Parameters
    ----------
    client : httpx.Client
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def answer(self, day: int, wines: pd.DataFrame) -> tuple[list[dict[str, float]], int]:
        """As `Answers`."""
        content = self._post("/predict", wines.to_dict("records"), f"day{day}")
        return [each["probabilities"] for each in content["predictions"]], int(content["model"]["version"])

    def label(self, labels: list[tuple[int, int, str]]) -> None:
        """As `Answers`."""
        if labels:
            self._post(
                "/feedback", [{"request_id": f"day{day}", "row": row, "truth": truth} for day, row, truth in labels]
            )

    def catch_up(self) -> None:
        """As `Answers`: what was answered reaches the log within half a second."""
        time.sleep(0.6)

    def follow(self, champion: int, challenger: int | None) -> None:
        """As `Answers`; rows are sent, since the challenger's process tells of itself with its answers."""
        wine = wines("red").drop(columns=TRUTH).iloc[0].to_dict()

        def is_so() -> bool:
            self._post("/predict", wine, "asked")
            ready = self._client.get("/readyz").json()
            is_challenger = challenger is None or ready["challenger"]["version"] == challenger
            return bool(is_challenger and ready["model"]["version"] == champion)

        wait_until(is_so)

    def _post(self, path: str, content: Any, request_id: str = "labels") -> Any:
        return self._client.post(path, json=content, headers={"x-request-id": request_id}).raise_for_status().json()


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server of the project."""
    settings = (
        "serve.port=0",
        "serve.poll_interval_seconds=0.5",
        "serve.log=log",
        "serve.challenger=challenger",
        "serve.challenger_only_when_idle=false",
    )
    output = folder / "serve.log"
    with output.open("wb") as out:
        command = [sys.executable, "-m", "wineexp.serve", *settings]
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: b'"listening"' in output.read_bytes() or process.poll() is not None)
        lines = [json.loads(line) for line in output.read_text().splitlines() if line.startswith("{")]
        url = next(line["url"] for line in lines if line["event"] == "listening")
        with httpx.Client(base_url=url, timeout=60) as client:
            yield Server(client)
    finally:
        process.terminate()
        process.wait(40)


def wait_until(is_so: Callable[[], bool], seconds: float = 90) -> None:
    """Return when it is so; TimeoutError after this time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not true within {seconds} s")
        time.sleep(0.2)


def draw(year: Year, path: Path) -> None:
    """The year as a picture: how good the answers were by fortnight, the share of white wine, what happened when."""
    from matplotlib.figure import Figure

    days = year.days()
    fortnight = days.groupby(days.index // 15).mean()
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(
        days.index, days[WHITE].rolling(10, min_periods=1).mean(), color="#d8d2b8", label="share of white wine"
    )
    for column, color, label in (
        (RIGHT, "#7b1e3a", "share of right answers"),
        (BRIER, "#30507a", "Brier score (less is better)"),
    ):
        axes.plot(fortnight.index * 15 + 7, fortnight[column], marker="o", color=color, label=label)
    for name, day in year.events.items():
        if name != "better":
            axes.axvline(day, color="#444444", linewidth=1, linestyle=":")
            axes.annotate(name, (day, 1.02), rotation=35, fontsize=9, annotation_clip=False)
    axes.set(xlim=(0, len(days)), ylim=(0, 1), xlabel="day of the year")
    axes.legend(loc="center left", frameon=False)
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
    with project(folder):
        make_champion()
        with serving(folder) as server:
            year = live(server, wines_of_a_year(arguments.seed))
    days = year.days().round(4).reset_index().to_dict("records")
    (folder / "year.json").write_text(json.dumps({"events": year.events, "lines": year.lines, "days": days}, indent=1))
    draw(year, folder / "year.png")
    print(f"{time.monotonic() - started_at:.0f} s", year.events, *year.lines, sep="\n")


if __name__ == "__main__":
    main()
