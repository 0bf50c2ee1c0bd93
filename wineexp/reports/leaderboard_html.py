"""The page on rankings of runs: one HTML file that needs no network, no server and no other file."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from wineexp.data import task
from wineexp.evaluation import metrics
from wineexp.evaluation.metrics import Predictions
from wineexp.reports import leaderboard_summary, run_charts, templates
from wineexp.tracking.ranking import Ranking, Row, pruned, score
from wineexp.tracking.runs import Record

# Runs whose folds are drawn: more lines could not be followed.
LEADERS = 8
# Parameters in the parallel coordinates: more axes would not be told apart.
AXES = 9
# Whose differences are no doing of the model's.
SHARED = ("data", "target", "split", "holdout", "tracking", "n_jobs", "feature.", "model.random_state", "model._")


@dataclass(frozen=True)
class Answered:
    """A run that recorded its answers: on rows that it was not trained on."""

    name: str
    record: Record
    labels: list[str]
    answers: Predictions

    @property
    def confusion(self) -> pd.DataFrame:
        """Predictions of each true class (rows) by predicted class: (n_classes, n_classes)."""
        codes = pd.RangeIndex(len(self.labels))
        counts = pd.crosstab(self.answers.y, self.answers.predicted).reindex(index=codes, columns=codes, fill_value=0)
        return pd.DataFrame(counts.to_numpy(), self.labels, self.labels)


def render(rankings: list[Ranking], left_out: dict[str, int], studies: Mapping[str, str]) -> str:
    """The page as HTML.

    Parameters
    ----------
    rankings, left_out
        As `ranking.rank` gives them.
    studies : mapping of str to str
        Names of studies by the ids of their runs.
    """
    return templates.template("leaderboard.html").render(
        boards=[_board(ranking, studies) for ranking in rankings], omissions=leaderboard_summary.omissions(left_out)
    )


def _board(ranking: Ranking, studies: Mapping[str, str]) -> dict[str, Any]:
    """Everything that the template shows of one ranking; a chart is None where there is too little to draw."""
    ranked = [row for row in ranking.rows if row.rank is not None]
    paired = [row for row in ranking.rows if row.comparison is not None]
    names = _names(ranking.rows)
    answered = _answered(ranked, names)
    drops = {each.name: table for each in answered if (table := each.record.importance()) is not None}
    board: dict[str, Any] = {
        "ranking": ranking,
        "names": names,
        "subtitle": leaderboard_summary.subtitle(ranking),
        "lead": leaderboard_summary.lead(ranking),
        "caveat": leaderboard_summary.caveat(ranking),
        "level": leaderboard_summary.level(ranking),
        "differences": [leaderboard_summary.difference(row) for row in ranking.rows],
        "forest": run_charts.forest(
            [names[row.record.id] for row in paired],
            [row.comparison for row in paired if row.comparison],
            ranking.metric,
        )
        if paired
        else None,
        "by_fold": _by_fold(ranking, names),
        "studies": {studies.get(key, key): image for key, image in _studies(ranking).items()},
        "answered": answered,
        "calibration": _calibration(answered),
        "importances": run_charts.importances(drops, ranking.metric) if drops else None,
        "parallel": _parallel(ranking),
    }
    # The parts that have something to show, for the navigation.
    parts = {
        "verdicts": "forest",
        "folds": "by_fold",
        "learning": "studies",
        "answers": "answered",
        "importances": "importances",
        "parameters": "parallel",
    }
    return board | {"parts": ["runs", *(part for part, key in parts.items() if board[key])]}


def _names(rows: list[Row]) -> dict[str, str]:
    """A name for each run by its id, told apart by the id where two have the same."""
    names = [row.record.name for row in rows]
    return {
        row.record.id: row.record.name
        if names.count(row.record.name) == 1
        else f"{row.record.name} {row.record.id[:4]}"
        for row in rows
    }


def _by_fold(ranking: Ranking, names: dict[str, str]) -> str | None:
    leaders = ranking.compared[:LEADERS]
    if not leaders or leaders[0].n_folds < 2:
        return None
    return run_charts.by_fold([names[row.record.id] for row in leaders], [row.folds for row in leaders], ranking.metric)


def _studies(ranking: Ranking) -> dict[str, str]:
    """The learning of each study, by its run's id."""
    trials: dict[str, dict[int, float]] = defaultdict(dict)
    for record in ranking.records:
        if record.parent and "trial" in record.tags and not pruned(record):
            trials[record.parent][int(record.tags["trial"])] = score(record)
    return {
        parent: run_charts.learning(pd.Series(found).sort_index(), ranking.direction, ranking.metric)
        for parent, found in trials.items()
        if len(found) > 1
    }


def _answered(ranked: list[Row], names: dict[str, str]) -> list[Answered]:
    """The best two that recorded their answers, which a sweep's trials do not."""
    found: list[Answered] = []
    for row in ranked:
        table = row.record.predictions() if row.record.model_id else None
        if table is None:
            continue
        labels = [str(name).removeprefix("probability ") for name in table if str(name).startswith("probability ")]
        found.append(
            Answered(
                f"{names[row.record.id]} (rank {row.rank})", row.record, labels, task.out_of_fold_predictions(table)
            )
        )
        if len(found) == 2:
            break
    return found


def _calibration(answered: list[Answered]) -> str | None:
    if not answered:
        return None
    labels = answered[0].labels
    code = metrics.calibrated_class(len(labels))
    return run_charts.calibration(
        {each.name: metrics.calibration_curve(each.answers, code=code) for each in answered},
        f"probability of {'the likeliest class' if code is None else labels[code]}",
    )


def _parallel(ranking: Ranking) -> str | None:
    rows = [row.record for row in ranking.rows if row.rank is not None]
    table = pd.DataFrame([record.params for record in rows])
    telling = [
        name for name in map(str, table) if not name.startswith(SHARED) and name != "seed" and table[name].nunique() > 1
    ]
    # Those that most runs have, and of them the choices of groups first.
    telling = sorted(telling, key=lambda name: (-table[name].notna().sum(), "." in name, name))[:AXES]
    if len(rows) < 2 or len(telling) < 2:
        return None
    scores = np.array([score(record) for record in rows]) * (1 if ranking.direction == "maximize" else -1)
    # By rank, since one hopeless run would make all others look alike.
    return run_charts.parallel(table[telling], pd.Series(scores).rank(pct=True))
