"""The page of rankings: one HTML file that needs no network, no server and no other file."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from wineexp.data import task
from wineexp.evaluation.calibration import calibrated_class, calibration_curve
from wineexp.evaluation.predictions import Predictions
from wineexp.reports import leaderboard_summary, run_charts, templates
from wineexp.tracking.names import TRIAL
from wineexp.tracking.ranking import Ranking, Row, pruned, score
from wineexp.tracking.recorded_run import RecordedRun

# The scores by fold are drawn of this many leading runs: more lines could not be followed.
MAX_FOLD_RUNS = 8
# More axes of the parallel coordinates would be too close together.
MAX_PARAMETER_AXES = 9
# Parameters that begin so are left out of the parallel coordinates, because they do not describe the model.
NOT_OF_THE_MODEL = (
    *("data", "target", "split", "holdout", "tracking", "n_jobs", "seed", "feature."),
    *("model.random_state", "model._"),
)
# The sections of a ranking, in the order of the page, and the key that is empty where a section has nothing to show.
SECTION_KEYS = {
    "verdicts": "forest",
    "folds": "by_fold",
    "optimization": "histories",
    "predictions": "recorded",
    "importances": "importances",
    "parameters": "parallel_coordinates",
}


@dataclass(frozen=True)
class RecordedPredictions:
    """The out-of-fold predictions that a run recorded."""

    name: str
    record: RecordedRun
    labels: list[str]
    predictions: Predictions

    @property
    def confusion(self) -> pd.DataFrame:
        """Numbers of predictions of each true class (rows) by predicted class (columns): (n_classes, n_classes)."""
        codes = pd.RangeIndex(len(self.labels))
        counts = pd.crosstab(self.predictions.y, self.predictions.predicted)
        return pd.DataFrame(
            counts.reindex(index=codes, columns=codes, fill_value=0).to_numpy(), self.labels, self.labels
        )


def render(rankings: list[Ranking], left_out: dict[str, int], study_names: Mapping[str, str]) -> str:
    """The page as HTML.

    Parameters
    ----------
    rankings, left_out
        As `ranking.rank` gives them.
    study_names : mapping of str to str
        By the ids of the studies' runs.
    """
    return templates.template("leaderboard.html").render(
        boards=[_board(ranking, study_names) for ranking in rankings],
        omissions=leaderboard_summary.omissions(left_out),
    )


def _board(ranking: Ranking, study_names: Mapping[str, str]) -> dict[str, Any]:
    """Everything that the template shows of one ranking; a chart is None where there is too little to draw."""
    ranked = [row for row in ranking.rows if row.rank is not None]
    compared = {row.record.id: row.comparison for row in ranking.rows if row.comparison is not None}
    names = _distinct_names(ranking.rows)
    recorded = _recorded_predictions(ranked, names)
    drops = {run.name: table for run in recorded if (table := run.record.importance()) is not None}
    board: dict[str, Any] = {
        "ranking": ranking,
        "names": names,
        "subtitle": leaderboard_summary.subtitle(ranking),
        "lead": leaderboard_summary.lead(ranking),
        "caveat": leaderboard_summary.caveat(ranking),
        "confidence_level": leaderboard_summary.confidence_level(ranking),
        "differences": [leaderboard_summary.difference(row) for row in ranking.rows],
        "forest": run_charts.forest([names[run] for run in compared], list(compared.values()), ranking.metric)
        if compared
        else None,
        "by_fold": _by_fold(ranking, names),
        "histories": {study_names.get(run, run): image for run, image in _optimization_histories(ranking).items()},
        "recorded": recorded,
        "calibration": _calibration(recorded),
        "importances": run_charts.importances(drops, ranking.metric) if drops else None,
        "parallel_coordinates": _parallel_coordinates(
            [row.record for row in ranked], [names[row.record.id] for row in ranked], ranking.direction
        ),
    }
    return board | {"sections": ["runs", *(section for section, key in SECTION_KEYS.items() if board[key])]}


def _distinct_names(rows: list[Row]) -> dict[str, str]:
    """A name for each run by its id; runs of the same name get a part of their id appended."""
    names = [row.record.name for row in rows]
    return {
        row.record.id: row.record.name
        if names.count(row.record.name) == 1
        else f"{row.record.name} {row.record.id[:4]}"
        for row in rows
    }


def _by_fold(ranking: Ranking, names: dict[str, str]) -> str | None:
    leaders = ranking.compared[:MAX_FOLD_RUNS]
    if not leaders or leaders[0].n_folds < 2:
        return None
    return run_charts.by_fold([names[row.record.id] for row in leaders], [row.folds for row in leaders], ranking.metric)


def _optimization_histories(ranking: Ranking) -> dict[str, str]:
    """The chart of each study with at least two complete trials, by the id of the study's run."""
    scores: dict[str, dict[int, float]] = defaultdict(dict)
    for record in ranking.records:
        if record.parent and TRIAL in record.tags and not pruned(record):
            scores[record.parent][int(record.tags[TRIAL])] = score(record)
    return {
        study: run_charts.optimization_history(pd.Series(trials).sort_index(), ranking.direction, ranking.metric)
        for study, trials in scores.items()
        if len(trials) > 1
    }


def _recorded_predictions(ranked: list[Row], names: dict[str, str]) -> list[RecordedPredictions]:
    """Those of the best two runs that recorded any; the trials of a sweep do not."""
    recorded: list[RecordedPredictions] = []
    for row in ranked:
        table = row.record.predictions() if row.record.model_id else None
        predictions = None if table is None else task.out_of_fold_predictions(table)
        if table is None or not isinstance(predictions, Predictions):
            continue
        labels = [str(name).removeprefix("probability ") for name in table if str(name).startswith("probability ")]
        name = f"{names[row.record.id]} (rank {row.rank})"
        recorded.append(RecordedPredictions(name, row.record, labels, predictions))
        if len(recorded) == 2:
            break
    return recorded


def _calibration(recorded: list[RecordedPredictions]) -> str | None:
    if not recorded:
        return None
    labels = recorded[0].labels
    code = calibrated_class(len(labels))
    return run_charts.calibration(
        {run.name: calibration_curve(run.predictions, code=code) for run in recorded},
        f"probability of {'the likeliest class' if code is None else labels[code]}",
    )


def _parallel_coordinates(records: list[RecordedRun], run_names: list[str], direction: str) -> str | None:
    table = pd.DataFrame([record.params for record in records])
    names = [name for name in map(str, table) if not name.startswith(NOT_OF_THE_MODEL) and table[name].nunique() > 1]
    # The parameters that most runs have come first, and among them the choices of config groups.
    names = sorted(names, key=lambda name: (-table[name].notna().sum(), "." in name, name))[:MAX_PARAMETER_AXES]
    if len(records) < 2 or len(names) < 2:
        return None
    scores = np.array([score(record) for record in records]) * (1 if direction == "maximize" else -1)
    # Ranks instead of scores, since one very bad run would make all others look alike.
    return run_charts.parallel_coordinates(table[names], pd.Series(scores).rank(pct=True), run_names)
