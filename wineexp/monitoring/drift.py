"""Drift: the log of a version held against its reference, by tests that hold at any time.

Three tests can raise the alarm, each with a third of the probability of a false one:

- With labels: the mean loss is above the reference's (Podkopaev & Ramdas 2022, "Tracking the Risk of a Deployed Model
  and Detecting Harmful Distribution Shifts").
- Without: the loss that a second model expects is (Amoukou, Bewley, Mishra, Lecue, Magazzeni & Veloso 2024, "Sequential
  Harmful Shift Detection Without Labels"). It has learned the out-of-fold losses of one half of the reference's sample;
  the other half says what it expects where nothing has changed.
- Without: rows are unlike any that the model was trained on, so that neither its record nor what is expected says
  anything about them; see `wineexp.monitoring.unlabelled_rows.Familiarity`.

Labels that show no greater loss overrule the latter two.

"Above the reference's" means: above the upper limit of what the true mean can be, given the rows of the reference, by
more than the tolerance. A fifth of the probability of a false alarm is that this limit is too low.

All columns, and the answers, are tested for any change of their distribution. These changes are shown, and raise no
alarm: most of them do no harm.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from wineexp.evaluation.metrics import METRICS, score
from wineexp.evaluation.predictions import NumberPredictions, Predictions, class_values
from wineexp.monitoring.column_shifts import MIN_BLOCK_ROWS, ColumnFinding, ColumnTest, block_starts
from wineexp.monitoring.fixed_samples import fixed_sample_limit, limit_of_mean
from wineexp.monitoring.format import DECISION, INPUT, NUMBER, PROBABILITY, TIME, TRUTH
from wineexp.monitoring.reference import CalibrationBin, ColumnSketch, Reference, answers, calibration
from wineexp.monitoring.sequential import (
    MeanTest,
    change_row,
    e_benjamini_hochberg,
    mean_interval,
)
from wineexp.monitoring.unlabelled_rows import ExpectedLoss, Familiarity, Inputs

Floats = npt.NDArray[np.float64]

# The share of the probability of a false alarm that the limits of the reference may be wrong.
LIMIT_SHARE = 0.2
N_TESTS = 3
# By so much the share of rows that are unlike those of training may grow without an alarm.
UNLIKE_TOLERANCE = 0.1
# Labels after the change that can overrule an alarm without labels.
MIN_OVERRULING_LABELS = 200
# The least rows of the sample with which losses are learned.
MIN_SAMPLE_ROWS = 100
# Points of each line over time.
N_PERIODS = 24


@dataclass(frozen=True)
class HarmFinding:
    """What a test of the loss says.

    Attributes
    ----------
    n_rows : int
    mean, low, high : float
        The mean so far and its interval, which holds at any time.
    reference, bound : float
        The reference's mean, and what the mean has to be above.
    log_e_value, needed : float
        The greatest so far, and from where on it raises the alarm.
    alarm : bool
    alarm_row, change_row : int or None
        The row, from 0, after which the alarm was raised, and the likely one from which the loss is greater.
    periods : ndarray of shape (n_periods, 2)
        The mean of each period, and its standard error.
    times : list of str
        When each period begins.
    alarm_time, change_time : str or None
        When these rows were answered, to the second.
    since : str or None
        `change_time` to the microsecond, for who takes the rows from then on.
    overruled : str
        Why the alarm does not count; empty where it does.
    """

    n_rows: int
    mean: float
    low: float
    high: float
    reference: float
    bound: float
    log_e_value: float
    needed: float
    alarm: bool
    alarm_row: int | None
    change_row: int | None
    periods: Floats
    times: list[str]
    alarm_time: str | None
    change_time: str | None
    since: str | None
    overruled: str = ""


@dataclass(frozen=True)
class Findings:
    """All that is found: see `Monitor.findings`."""

    n_rows: int
    first: str | None
    last: str | None
    columns: list[ColumnFinding]
    answers: list[ColumnFinding]
    times: list[str]
    labelled: HarmFinding
    expected: HarmFinding | None
    unlike: HarmFinding | None
    n_labels: int
    score: float | None
    n_unknown_labels: int
    calibration: list[CalibrationBin]

    @property
    def alarm(self) -> bool:
        """Whether a test raised the alarm that no other overrules."""
        tests = [test for test in (self.labelled, self.expected, self.unlike) if test is not None]
        return any(test.alarm and not test.overruled for test in tests)

    @property
    def shifted(self) -> list[ColumnFinding]:
        """Columns and answers whose distribution has changed, the most certain first."""
        found = [column for column in [*self.columns, *self.answers] if column.shifted]
        return sorted(found, key=lambda column: -column.log_e_value)


@dataclass
class _Values:
    """Losses and the times of their rows."""

    values: list[Floats] = field(default_factory=list)
    times: list[npt.NDArray[Any]] = field(default_factory=list)

    def add(self, values: Floats, times: npt.NDArray[Any]) -> None:
        self.values.append(values)
        self.times.append(times)


class Monitor:
    """Holds rows of the log against a reference, in any portions.

    Parameters
    ----------
    reference : Reference
    alpha : float
        The probability that there is ever a false alarm, at most; and the expected share of columns that are falsely
        said to have shifted, at most.
    tolerance : float
        By which part of itself the loss may grow without an alarm.
    """

    def __init__(self, reference: Reference, *, alpha: float = 0.05, tolerance: float = 0.05) -> None:
        self.reference = reference
        self.alpha = alpha
        self.tolerance = tolerance
        self.n_rows = 0
        self._logged: list[ColumnSketch] = []
        self._columns: dict[str, ColumnTest] = {}
        self._answers = {column.name: ColumnTest(column) for column in reference.answers}
        self._starts = block_starts(0)
        self._start_times: list[Any] = []
        self._first: Any = None
        self._last: Any = None
        losses = reference.losses
        limit = limit_of_mean(losses.n_rows, losses.mean, losses.variance, limit_level(alpha))
        self._bound = tolerated(limit, tolerance)
        self._labelled = _Values()
        self._predictions: list[Predictions | NumberPredictions] = []
        self._expected = _Values()
        self._unknown_labels = 0
        self._model: ExpectedLoss | None = None
        self._expected_bound = self._unlike_bound = 1.0
        self._familiarity: Familiarity | None = None
        self._unlike = _Values()

    def update(self, rows: pd.DataFrame) -> None:
        """Take more rows of the log, in their order."""
        if not len(rows):
            return
        end = self.n_rows + len(rows)
        times = _times(rows)
        if self._first is None:
            self._begin(rows, times)
        self._last = times[-1]
        self._starts = block_starts(end)
        begun = self._starts[(self._starts >= self.n_rows) & (self._starts < end)]
        self._start_times += list(times[begun - self.n_rows])
        blocks = np.searchsorted(self._starts, np.arange(self.n_rows, end), side="right") - 1
        inputs = Inputs.of(rows, self._logged, INPUT)
        for name, test in self._columns.items():
            test.update(inputs.codes[name], blocks)
        given = answers(predictions_of_log(rows, self.reference, None), self.reference.classes)
        for name, test in self._answers.items():
            test.update(test.sketch.codes(pd.Series(given[name])), blocks)
        if self._model is not None and self._familiarity is not None:
            self._expected.add(self._model.of_rows(inputs), times)
            self._unlike.add(self._familiarity.of_rows(inputs), times)
        self.n_rows = end

    def _begin(self, rows: pd.DataFrame, times: npt.NDArray[Any]) -> None:
        """Set up the tests of the columns that are logged."""
        self._first = times[0]
        self._logged = [column for column in self.reference.columns if INPUT + column.name in rows]
        self._columns = {column.name: ColumnTest(column) for column in self._logged}
        if self._logged and len(self.reference.sample_losses) >= MIN_SAMPLE_ROWS:
            sampled = {name: pd.Series(values) for name, values in self.reference.sample.items()}
            sample = Inputs.of(sampled, self._logged)
            self._model = ExpectedLoss(sample, np.array(self.reference.sample_losses))
            self._familiarity = Familiarity(sample)
            samples = self._model.values, self._familiarity.values
            limits = [fixed_sample_limit(values, limit_level(self.alpha)) for values in samples]
            self._expected_bound = tolerated(limits[0], self.tolerance)
            self._unlike_bound = min(1.0, limits[1] + UNLIKE_TOLERANCE)

    def update_labels(self, rows: pd.DataFrame) -> None:
        """Take more rows with their truth, in the order in which the truths came."""
        if not len(rows):
            return
        is_known = np.ones(len(rows), dtype=bool)
        if self.reference.classes:
            is_known = rows[TRUTH].astype(str).isin(self.reference.classes).to_numpy()
        # No answer can be right where the truth is a class that the model does not know.
        losses = np.ones(len(rows))
        if is_known.any():
            known = rows[is_known]
            predictions = predictions_of_log(known, self.reference, known[TRUTH])
            self._predictions.append(predictions)
            losses[is_known] = self.reference.loss.of_rows(predictions)
        self._labelled.add(losses, _times(rows))
        self._unknown_labels += int((~is_known).sum())

    def leave_out_labels(self, n_labels: int) -> None:
        """Count labels that no row can have, such as a text where numbers are predicted."""
        self._unknown_labels += n_labels

    def findings(self) -> Findings:
        """What all rows so far say."""
        n_blocks = len(self._starts) if self.n_rows else 0
        tests = [*self._columns.values(), *self._answers.values()]
        level = LIMIT_SHARE * self.alpha / max(1, len(tests))
        log_e = np.array([test.log_e_value(n_blocks, level) for test in tests])
        shifted = e_benjamini_hochberg(log_e, (1 - LIMIT_SHARE) * self.alpha)
        edges = np.unique(np.linspace(0, n_blocks, min(N_PERIODS, max(1, n_blocks)) + 1).astype(int))
        found = [
            ColumnFinding(
                test.sketch,
                test.blocks[:n_blocks].sum(axis=0),
                np.add.reduceat(test.blocks[:n_blocks], edges[:-1], axis=0) if n_blocks else test.blocks[:0],
                float(value),
                bool(is_shifted),
            )
            for test, value, is_shifted in zip(tests, log_e, shifted, strict=True)
        ]
        labelled = self._harm(self._labelled, self._bound, self.reference.losses.mean)
        expected = unlike = None
        if self._model is not None and self._familiarity is not None:
            expected = self._harm(self._expected, self._expected_bound, float(self._model.values.mean()))
            expected = self._overruled(expected, labelled)
            unlike = self._harm(self._unlike, self._unlike_bound, float(self._familiarity.values.mean()))
            unlike = self._overruled(unlike, labelled)
        pooled = _pool(self._predictions) if self._predictions else None
        metric = self.reference.metric
        return Findings(
            n_rows=self.n_rows,
            first=_time_text(self._first),
            last=_time_text(self._last),
            columns=found[: len(self._columns)],
            answers=found[len(self._columns) :],
            times=[str(_time_text(self._start_times[place])) for place in edges[:-1]] if n_blocks else [],
            labelled=labelled,
            expected=expected,
            unlike=unlike,
            n_labels=labelled.n_rows,
            # A metric of the user's own is in a module that need not be here.
            score=score(pooled, [metric]).get(metric) if pooled is not None and metric in METRICS else None,
            n_unknown_labels=self._unknown_labels,
            calibration=[]
            if pooled is None
            else calibration(pooled, [each.upper for each in self.reference.calibration]),
        )

    def _harm(self, losses: _Values, bound: float, reference: float) -> HarmFinding:
        values = np.concatenate([np.empty(0), *losses.values])
        needed = alarm_log_e_value(self.alpha)
        test = MeanTest(bound)
        log_e = test.update(values)
        crossed = np.flatnonzero(log_e >= needed)
        alarm_row = int(crossed[0]) if len(crossed) else None
        changed = None if alarm_row is None else change_row(values[: alarm_row + 1], bound)
        times = np.concatenate(losses.times) if losses.times else np.empty(0)
        low, high = mean_interval(values, 1 - self.alpha)
        periods, period_times = [], []
        for part in np.array_split(np.arange(len(values)), min(N_PERIODS, max(1, len(values) // MIN_BLOCK_ROWS))):
            if len(part):
                of_part = values[part]
                periods.append((of_part.mean(), of_part.std() / np.sqrt(len(part))))
                period_times.append(str(_time_text(times[part[0]])))
        return HarmFinding(
            n_rows=len(values),
            mean=float(values.mean()) if len(values) else float("nan"),
            low=low,
            high=high,
            reference=reference,
            bound=bound,
            log_e_value=test.max_log_e_value,
            needed=needed,
            alarm=alarm_row is not None,
            alarm_row=alarm_row,
            change_row=changed,
            periods=np.array(periods).reshape(-1, 2),
            times=period_times,
            alarm_time=None if alarm_row is None else _time_text(times[alarm_row]),
            change_time=None if changed is None else _time_text(times[changed]),
            since=None if changed is None else _time_text(times[changed], "microseconds"),
        )

    def _overruled(self, test: HarmFinding, labelled: HarmFinding) -> HarmFinding:
        """A test without labels, overruled where labels of the rows since the change lose no more than tolerated."""
        if not test.alarm or labelled.alarm or test.change_row is None or not self._labelled.values:
            return test
        since = np.concatenate(self._expected.times)[test.change_row]
        losses = np.concatenate(self._labelled.values)[np.concatenate(self._labelled.times) >= since]
        if len(losses) < MIN_OVERRULING_LABELS or losses.mean() > self._bound:
            return test
        why = f"the {len(losses):,} labels since then show no greater loss than is tolerated"
        return HarmFinding(**(vars(test) | {"overruled": why}))


def limit_level(alpha: float) -> float:
    """The probability with which the limit of one test's mean at training may be too low."""
    return LIMIT_SHARE * alpha / N_TESTS


def tolerated(limit: float, tolerance: float) -> float:
    """What a mean has to be shown to be above, from the limit of what it can have been at training."""
    return min(1.0, max(1e-6, limit) * (1 + tolerance))


def alarm_log_e_value(alpha: float) -> float:
    """The log e-value from which on one of the tests raises the alarm."""
    return float(np.log(N_TESTS / ((1 - LIMIT_SHARE) * alpha)))


def predictions_of_log(
    rows: pd.DataFrame, reference: Reference, truth: pd.Series | None
) -> Predictions | NumberPredictions:
    """The answers in rows of the log, and their truth (n_rows,); where it is not given, the answers stand for it."""
    if not reference.classes:
        predicted = rows[NUMBER].to_numpy(dtype=np.float64)
        return NumberPredictions(predicted if truth is None else truth.to_numpy(dtype=np.float64), predicted)
    probabilities = np.column_stack(
        [rows[PROBABILITY + label].to_numpy(dtype=np.float64) for label in reference.classes]
    )
    index = pd.Index(reference.classes)
    predicted = index.get_indexer(pd.Index(rows[DECISION].astype(str)))
    y = predicted if truth is None else index.get_indexer(pd.Index(truth.astype(str)))
    costs = None if reference.costs is None else np.array(reference.costs)
    return Predictions(np.asarray(y), np.asarray(predicted), probabilities, None, class_values(index), None, costs)


def _times(rows: pd.DataFrame) -> npt.NDArray[Any]:
    """When the rows were answered, UTC: (n_rows,)."""
    index = pd.DatetimeIndex(rows[TIME])
    return index.to_numpy() if index.tz is None else index.tz_convert("UTC").tz_localize(None).to_numpy()


def _pool(parts: Iterable[Predictions | NumberPredictions]) -> Any:
    parts = list(parts)
    if isinstance(parts[0], NumberPredictions):
        return NumberPredictions(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("y", "predicted"))
        )
    y, predicted, probabilities = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("y", "predicted", "probabilities")
    )
    first: Any = parts[0]
    return Predictions(y, predicted, probabilities, None, first.values, None, first.costs)


def _time_text(time: Any, timespec: Literal["seconds", "microseconds"] = "seconds") -> str | None:
    """A time of the log, in UTC."""
    return None if time is None else f"{pd.Timestamp(time).isoformat(sep=' ', timespec=timespec)} UTC"
