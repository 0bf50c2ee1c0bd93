"""Many years after deployment: how near each comes to an oracle, and how often nothing happens where nothing should.

    python -m benchmarks.monitoring.years --years 20 --folder outputs/years          # goes on where it was stopped

Two kinds of years, by the programs alone; only the answers come from this process instead of from a server:

- `turning`: those of `benchmarks.monitoring.year`, red wine that turns white. The oracle answers from the first day of
  the change on with the champion's config, trained on the champion's data and on as many labelled white wines as the
  year's own training had, none of which the year brings.
- `quiet`: the champion knows one half of the white wines, and the year brings each wine of the other half once. In the
  middle of it the champion is trained anew without any alarm, and what passes the gate is tested in the shadow.

A look says whether an earlier one would have raised an alarm, so that there is one look where there were many: at the
end of what is quiet. An alarm that labels overrule counts there, too.
"""

import argparse
import asyncio
import json
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from omegaconf import OmegaConf
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from benchmarks.monitoring.year import (
    DAY,
    DAYS,
    GATE,
    GOOD,
    LABEL_DELAY_DAYS,
    LABELLED,
    RIGHT,
    TRUTH,
    TURN_DAY,
    WHITE,
    WINE,
    Answers,
    Year,
    abtest,
    live,
    make_champion,
    on_days,
    project,
    wines,
    wines_of_a_year,
)
from wineexp import UserError, compose, monitor, promote, reproduce, retrain
from wineexp.core.config import Server as ServerSettings
from wineexp.monitoring.format import CHALLENGER, CHAMPION
from wineexp.serving.answers import Answer
from wineexp.serving.metrics import Metrics
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.prediction_log import PredictionLog
from wineexp.tracking.registry import Registry
from wineexp.tracking.runs import Runs
from wineexp.workflows.batch_scoring import load_predictor
from wineexp.workflows.experiment import assemble

FIRST_DAY = datetime(2025, 1, 1, tzinfo=UTC).timestamp()
DAY_SECONDS = 86_400
# In a quiet year the champion is trained anew on this day, alarm or not.
TRAINING_DAY = 179
# Quiet years with one champion; and its half of the white wines, from the project's folder.
YEARS_OF_A_CHAMPION = 5
HALF = "data/raw/half.csv"
# Over which the year's answers are compared with the oracle's.
PARTS = ("year", "since the change", "since the promotion")


class InProcess:
    """Answers of this process, in the log that a server writes: `Answers` with the times of a year."""

    def __init__(self) -> None:
        self._answers: list[Answer] = []
        self._truths: list[tuple[int, str, int, str]] = []
        self._day = 0
        self.follow(1, None)

    def follow(self, champion: int, challenger: int | None) -> None:
        """As `Answers`."""
        self._champion = predictor(champion)
        self._challenger = None if challenger is None else predictor(challenger)

    def answer(self, day: int, wines: pd.DataFrame) -> tuple[list[dict[str, float]], int]:
        """As `Answers`."""
        self._day = day
        rows = self._champion.parser.parse_objects(wines.to_dict("records"))
        outputs = self._champion.outputs(rows)
        moment, request_id = FIRST_DAY + day * DAY_SECONDS, f"day{day}"
        self._answers.append(Answer(moment, 1.0, request_id, self._champion, rows, outputs, variant=CHAMPION))
        if (challenger := self._challenger) is not None:
            of_challenger = challenger.outputs(rows)
            self._answers.append(Answer(moment, 1.0, request_id, challenger, rows, of_challenger, variant=CHALLENGER))
        classes = self._champion.schema.classes
        return [dict(zip(classes, each, strict=True)) for each in outputs], self._champion.lineage.version

    def label(self, labels: list[tuple[int, int, str]]) -> None:
        """As `Answers`."""
        received = int((FIRST_DAY + self._day * DAY_SECONDS) * 1e6)
        self._truths += [(received, f"day{day}", row, truth) for day, row, truth in labels]

    def catch_up(self) -> None:
        """As `Answers`: through the buffer and the thread of a server's log."""
        settings: ServerSettings = OmegaConf.to_object(compose("serve.log_max_days=null", program="serve").serve)
        log = PredictionLog("log", settings, Metrics())

        async def write() -> None:
            async with log.written(None):
                for answer in self._answers:
                    log.receive(answer)
                if self._truths:
                    log.write_truths(self._truths)

        asyncio.run(write())
        self._answers, self._truths = [], []


def predictor(version: int) -> Predictor:
    """A version of the project's registry, as a server loads it."""
    return load_predictor(Registry(store_uri(), "wine"), str(version), chunk_rows=10_000)


def store_uri() -> str:
    """Of the project that is the working folder."""
    return f"sqlite:///{Path.cwd()}/mlflow.db"


def turning_year(folder: Path, bases: Path, seed: int) -> dict[str, Any]:
    """A year that turns white, and its oracle."""
    with project(folder, base(bases / "red") / "mlflow.db"):
        year = live(InProcess(), wines_of_a_year(seed), first_look=TURN_DAY)
        found: dict[str, Any] = {"kind": "turning", "seed": seed, "events": year.events}
        found["oracle"] = compare_with_oracle(year, seed)
        found["reproduced"] = reproduced() if "promoted" in year.events else None
    return found


def compare_with_oracle(year: Year, seed: int) -> dict[str, Any]:
    """The area under the ROC curve and the accuracy of the year's answers and the oracle's, over parts of the year."""
    rows = year.rows
    trained_day = year.events.get("retrained", DAYS - 1)
    was_known = rows[WHITE] & rows[LABELLED] & (rows[DAY] <= trained_day - LABEL_DELAY_DAYS)
    n_whites = int(was_known.sum())
    experiment = assemble(Runs(store_uri(), "wine").get("1").config())
    whites = wines("white")
    unseen = whites[~whites.index.isin(rows.loc[rows[WHITE], WINE])].sample(n_whites, random_state=seed)
    X, task = unseen.drop(columns=TRUTH), experiment.task
    labels = np.array([str(each) for each in task.classes])
    y = pd.Series([task.classes[list(labels).index(each)] for each in unseen[TRUTH]])
    model = clone(experiment.estimator).fit(
        pd.concat([task.X, X[task.X.columns]], ignore_index=True), pd.concat([task.y, y], ignore_index=True)
    )
    good = model.predict_proba(rows[task.X.columns])[:, list(labels).index(GOOD)]
    rows = rows.assign(oracle=np.where(rows[DAY] < TURN_DAY, rows[GOOD], good))
    starts = dict(zip(PARTS, (0, TURN_DAY, year.events.get("promoted", DAYS) + 1), strict=True))
    parts = {name: rows[rows[DAY] >= start] for name, start in starts.items()}
    return {"whites": n_whites} | {name: scores(part) for name, part in parts.items() if len(part)}


def scores(rows: pd.DataFrame) -> dict[str, float]:
    """Of the year's own answers, and of the oracle's."""
    is_good = rows[TRUTH] == GOOD
    return {
        "roc_auc": float(roc_auc_score(is_good, rows[GOOD])),
        "oracle_roc_auc": float(roc_auc_score(is_good, rows["oracle"])),
        "accuracy": float(rows[RIGHT].mean()),
        "oracle_accuracy": float(((rows["oracle"] > 0.5) == is_good).mean()),
    }


def reproduced() -> str:
    """What `reproduce` says of the promoted version: empty where every value came out the same."""
    try:
        reproduce(compose("run=champion", program="reproduce"))
    except UserError as error:
        return "; ".join(error.faults)
    return ""


def quiet_year(folder: Path, bases: Path, seed: int) -> dict[str, Any]:
    """A year without any change: alarms, and what training anew without an alarm leads to."""
    champion = seed // YEARS_OF_A_CHAMPION
    known_half = bases / f"white-{champion}"
    with project(folder, base(known_half, white_half=champion) / "mlflow.db"):
        shutil.copy(known_half / HALF, folder / HALF)
        random = np.random.default_rng([seed, 1])
        rest = random.permutation(np.sort(halves(champion)[1]))
        rows = on_days(wines("white").iloc[rest], np.arange(len(rest)) * DAYS // len(rest), random)
        rows = rows.assign(**{WHITE: True})
        found: dict[str, Any] = {"kind": "quiet", "seed": seed, "rows": len(rows)}

        def look(day: int, year: Year, answers: Answers) -> None:
            if day == TRAINING_DAY:
                result = retrain(compose(*GATE, "log=log", program="retrain"))
                found["challenger"] = None if result.version is None else result.version.number
                found["why"] = result.why
                if result.version is not None:
                    answers.follow(1, result.version.number)
            elif (
                found.get("challenger")
                and "promoted" not in year.events
                and abtest(compose("log=log", program="abtest")).test.verdict == "better"
            ):
                promote(compose("run=challenger", *GATE, "gate.live=required", "log=log", program="promote"))
                year.events["promoted"] = day
            if day == DAYS - 1:
                findings = monitor(compose("log=log", "alias=1", program="monitor")).findings
                tests = {"labelled": findings.labelled, "expected": findings.expected, "unlike": findings.unlike}
                found["alarms"] = [name for name, test in tests.items() if test is not None and test.alarm]
                found["labels"] = findings.n_labels

        year = live(InProcess(), rows, first_look=TRAINING_DAY, look=look)
        found["promoted"] = year.events.get("promoted")
    return found


def halves(champion: int) -> list[npt.NDArray[np.intp]]:
    """Numbers of the white wines that a champion of quiet years knows, and of the others."""
    numbers = np.random.default_rng([champion, 0]).permutation(len(wines("white")))
    return np.split(numbers, [len(numbers) // 2])


def base(folder: Path, white_half: int | None = None) -> Path:
    """A project with a champion that knows red wine, or a half of the white; made where it is missing."""
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        with project(folder):
            if white_half is None:
                make_champion()
            else:
                lines = (folder / "data/raw/winequality-white.csv").read_text().splitlines()
                half = [lines[0], *(lines[1 + number] for number in np.sort(halves(white_half)[0]))]
                (folder / HALF).write_text("\n".join([*half, ""]))
                make_champion("data=white", f"data.path={HALF}")
        (folder / "done").touch()
    return folder


def summary(years: list[dict[str, Any]]) -> Iterator[str]:
    """What all years together say."""
    turning, quiet = ([year for year in years if year["kind"] == kind] for kind in ("turning", "quiet"))
    yield f"{len(turning)} years that turn white:"
    for event in ("alarm", "retrained", "promoted"):
        days = [year["events"][event] for year in turning if event in year["events"]]
        yield f"  {event} in {len(days)}, on day {np.median(days) if days else '-'} (median)"
    yield f"  promoted versions that came out the same again: {sum(year['reproduced'] == '' for year in turning)}"
    for part in PARTS:
        of_part = [year["oracle"][part] for year in turning if part in year["oracle"]]
        for metric in ("roc_auc", "accuracy"):
            behind = np.array([each[f"oracle_{metric}"] - each[metric] for each in of_part])
            if len(behind):
                yield (
                    f"  {metric} {part}: {np.mean([each[metric] for each in of_part]):.3f}, behind the oracle by "
                    f"{behind.mean():.3f}, by at most 0.01 in {(behind <= 0.01).sum()} of {len(behind)}"
                )
    yield f"{len(quiet)} years without a change:"
    yield f"  with an alarm: {sum(bool(year['alarms']) for year in quiet)}"
    yield f"  with a challenger: {sum(year['challenger'] is not None for year in quiet)}"
    yield f"  with a promotion: {sum(year['promoted'] is not None for year in quiet)}"


def main() -> None:
    """Live through the years that are not in the folder's results yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path("outputs/years"))
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    results = folder / "results.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    kinds: dict[str, Callable[[Path, Path, int], dict[str, Any]]] = {"turning": turning_year, "quiet": quiet_year}
    for seed in range(arguments.years):
        for kind, run in kinds.items():
            if any((each["kind"], each["seed"]) == (kind, seed) for each in done):
                continue
            scratch = folder / f"{kind}-{seed}"
            shutil.rmtree(scratch, ignore_errors=True)
            started_at, cpu = time.monotonic(), time.process_time()
            found = run(scratch, folder, seed) | {
                "seconds": round(time.monotonic() - started_at, 1),
                "cpu": round(time.process_time() - cpu, 1),
            }
            with results.open("a") as out:
                out.write(json.dumps(found) + "\n")
            print(json.dumps(found), flush=True)
            done.append(found)
    print(*summary(done), sep="\n")


if __name__ == "__main__":
    main()
