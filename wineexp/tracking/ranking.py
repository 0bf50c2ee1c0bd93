"""Rankings of recorded runs on the same data, target and folds, and whether the folds confirm the order."""

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wineexp.core.errors import UserError
from wineexp.evaluation.baseline import BASELINE
from wineexp.evaluation.comparison import ALPHA, Comparison, corrected_t_test
from wineexp.tracking import names
from wineexp.tracking.recorded_run import RecordedRun
from wineexp.tracking.runs import Runs

log = logging.getLogger(__name__)

NO_FINGERPRINT = "recorded before splits were fingerprinted"
NO_SCORE = "without a figure of the deciding metric"
STATUS = {"FAILED": "failed", "KILLED": "interrupted", "RUNNING": "still running", "SCHEDULED": "still running"}
BEST = "best"


@dataclass(frozen=True)
class Row:
    """One run in a ranking.

    Attributes
    ----------
    record : RecordedRun
    rank : int or None
        Equal scores share one; None of a pruned trial, whose score is of fewer folds than the others'.
    score, spread : float
        Mean and standard deviation (n - 1) of the deciding metric over the folds; spread is NaN of a single fold.
    holdout : float or None
        The deciding metric there.
    folds : ndarray of shape (n_folds,)
        The deciding metric on each.
    verdict : str
        `BEST`; `Comparison.verdict` of this run against the best; or why they were not compared.
    comparison : Comparison or None
    """

    record: RecordedRun
    rank: int | None
    score: float
    spread: float
    holdout: float | None
    folds: npt.NDArray[np.float64]
    verdict: str
    comparison: Comparison | None

    @property
    def n_folds(self) -> int:
        """Folds that it was scored on."""
        return len(self.folds)

    def figure(self, name: str) -> float | None:
        """The last value of a recorded metric; None where there is none, NaN among them."""
        value = self.record.metrics.get(name, math.nan)
        return None if math.isnan(value) else value


@dataclass(frozen=True)
class Ranking:
    """Runs on the same data, target and folds.

    Attributes
    ----------
    metric, direction : str
        The deciding metric, and whether more or less of it is better.
    alpha : float
    rows : list of Row
        Best first, at most as many as were asked for.
    records : list of RecordedRun
        All that were ranked, best first.
    """

    metric: str
    direction: str
    alpha: float
    rows: list[Row]
    records: list[RecordedRun]

    @property
    def first(self) -> RecordedRun:
        """The best run; a pruned one only where all were pruned."""
        return self.records[0]

    @property
    def title(self) -> str:
        """Data, target and split in the config's words."""
        params = self.first.params
        seed = params.get("split.random_state")
        split = f"split {params.get('split')}" + (f" (random_state {seed})" if seed else "")
        return f"{params.get('data')} · {params.get('target')} · {split}"

    @property
    def others(self) -> list[str]:
        """Names of the other metrics that were cross-validated."""
        means = {name.removeprefix("cv/") for row in self.rows for name in row.record.metrics if name.startswith("cv/")}
        deviations = {f"{name}_std" for name in means}
        others = means - deviations - {self.metric, names.STANDARD_ERROR, "fit_seconds", "predict_seconds"}
        # What the majority class or the mean would score, the same for all, comes last.
        return sorted(others, key=lambda name: (name == "majority_accuracy" or name.startswith(BASELINE), name))

    @property
    def compared(self) -> list[Row]:
        """The best and the rows that could be paired with it."""
        return [row for row in self.rows if row.comparison is not None or row.verdict == BEST]


def rank(records: Iterable[RecordedRun], *, alpha: float, limit: int | None) -> tuple[list[Ranking], dict[str, int]]:
    """Rankings of runs, one for each data, target and split, the largest first; and how many were left out, by reason.

    Parameters
    ----------
    records : iterable of RecordedRun
        Runs that trained nothing, such as a study's own, are ignored.
    alpha : float
        In (0, 1): each interval holds the true difference with probability 1 - alpha.
    limit : int or None
        How many rows to make; the folds of the other runs are not read.
    """
    left_out: Counter[str] = Counter()
    groups: dict[tuple[object, ...], list[RecordedRun]] = defaultdict(list)
    for record in {record.id: record for record in records if trained(record)}.values():
        if (reason := _exclusion(record)) is not None:
            left_out[reason] += 1
        else:
            key = (record.tags[names.DATA_MD5], record.tags[names.SPLIT_SHA256], *target(record).items())
            groups[key].append(record)
    rankings = [_ranking(group, alpha=alpha, limit=limit) for group in groups.values()]
    return sorted(rankings, key=lambda ranking: (-len(ranking.records), ranking.title)), dict(left_out)


def best_run(runs: Runs, experiment: str) -> RecordedRun:
    """The best run of an experiment, of the largest group with the same data, target and folds.

    Runs of promotions are no candidates: they were scored on the gate's folds.

    Raises
    ------
    UserError
        The experiment has none.
    """
    candidates = [record for record in runs.select_scored(experiment) if names.SOURCE_RUN_ID not in record.tags]
    # With one row no interval is computed, whatever alpha is.
    rankings, _ = rank(candidates, alpha=ALPHA, limit=1)
    complete = [ranking for ranking in rankings if not pruned(ranking.first)]
    if not complete:
        raise UserError(
            f"best_of={experiment}: it has no finished run with a score on all folds; name one with run=..."
        )
    n_compared = len(complete[0].records)
    n_others = sum(len(ranking.records) for ranking in rankings) - n_compared
    log.info(
        "the best of %d runs on the same folds%s",
        n_compared,
        f"; {n_others} on other folds or data are not compared" if n_others else "",
    )
    return complete[0].first


def trained(record: RecordedRun) -> bool:
    """Whether a run trained a model, unlike an exploration of the data or a study's own run."""
    return "model" in record.params or names.TRIAL in record.tags


def target(record: RecordedRun) -> dict[str, str]:
    """Every leaf of the target, as it was configured, without its transform, which is a part of the model."""
    leaves = {key: value for key, value in sorted(record.params.items()) if key.startswith("target.")}
    leaves.pop("target.transform", None)
    return leaves


def pruned(record: RecordedRun) -> bool:
    """Whether the run is a trial that was stopped before its last fold."""
    return record.tags.get(names.TRIAL_STATE) == "pruned"


def score(record: RecordedRun) -> float:
    """The mean of the deciding metric over the folds; NaN where there is none."""
    return record.metrics.get(f"cv/{record.metric}", math.nan)


def _exclusion(record: RecordedRun) -> str | None:
    """Why a run cannot be ranked; None where it can."""
    if record.status != "FINISHED":
        return STATUS.get(record.status, record.status.lower())
    if names.SPLIT_SHA256 not in record.tags or names.DATA_MD5 not in record.tags:
        return NO_FINGERPRINT
    return NO_SCORE if math.isnan(score(record)) else None


def _ranking(group: Sequence[RecordedRun], *, alpha: float, limit: int | None) -> Ranking:
    metric, direction = str(group[0].metric), group[0].params.get("target.direction", "maximize")
    sign = -1 if direction == "maximize" else 1
    records = sorted(group, key=lambda record: (pruned(record), sign * score(record), record.began or 0, record.id))
    scores = [score(record) for record in records]
    best = records[0].fold_scores(metric)
    rows = []
    for place, record in enumerate(records[:limit]):
        folds = best if place == 0 else record.fold_scores(metric)
        comparison = _against(best, folds, record, direction, alpha) if place and not pruned(record) else None
        holdout = record.metrics.get(f"holdout/{metric}", math.nan)
        rows.append(
            Row(
                record=record,
                rank=None if pruned(record) else scores.index(scores[place]) + 1,
                score=scores[place],
                spread=record.metrics.get(f"cv/{metric}_std", math.nan),
                holdout=None if math.isnan(holdout) else holdout,
                folds=folds,
                verdict=comparison.verdict if comparison else _no_comparison(record, place, len(folds), len(best)),
                comparison=comparison,
            )
        )
    return Ranking(metric, direction, alpha, rows, records)


def _against(
    best: npt.NDArray[np.float64], folds: npt.NDArray[np.float64], record: RecordedRun, direction: str, alpha: float
) -> Comparison | None:
    try:
        test_to_train = float(record.tags[names.SPLIT_TEST_TO_TRAIN])
        return corrected_t_test(folds, best, direction=direction, test_to_train=test_to_train, alpha=alpha)
    except (ValueError, KeyError):
        return None


def _no_comparison(record: RecordedRun, place: int, n_folds: int, n_best: int) -> str:
    """The verdict on a run that was not compared with the best."""
    if pruned(record):
        return f"pruned, {n_folds} folds" if place == 0 or n_folds >= n_best else f"pruned, {n_folds} of {n_best} folds"
    return BEST if place == 0 else "too few folds to tell"
