"""Drift: the log of a version held against its reference, by tests that hold at any time.

Three tests can raise the alarm, each with a third of the probability of a false one:

- With labels: the mean loss is above the reference's (Podkopaev & Ramdas 2022, "Tracking the Risk of a Deployed Model
  and Detecting Harmful Distribution Shifts").
- Without: the loss that a second model expects is (Amoukou, Bewley, Mishra, Lecue, Magazzeni & Veloso 2024, "Sequential
  Harmful Shift Detection Without Labels"). It has learned the out-of-fold losses of one half of the reference's sample;
  the other half says what it expects where nothing has changed.
- Without: rows are unlike any that the model was trained on, so that neither its record nor what is expected says
  anything about them; see `Familiarity`.

Labels that show no greater loss overrule the latter two.

"Above the reference's" means: above the upper limit of what the true mean can be, given the rows of the reference, by
more than the tolerance. A fifth of the probability of a false alarm is that this limit is too low.

All columns, and the answers, are tested for any change of their distribution. These changes are shown, and raise no
alarm: most of them do no harm.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import logsumexp
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from wineexp.evaluation.metrics import METRICS, score
from wineexp.evaluation.predictions import NumberPredictions, Predictions, class_values
from wineexp.monitoring.format import DECISION, INPUT, NUMBER, PROBABILITY, TIME, TRUTH
from wineexp.monitoring.reference import CalibrationBin, ColumnSketch, Reference, answers, as_numbers, calibration
from wineexp.monitoring.sequential import (
    MeanTest,
    bet_from_each_step,
    change_row,
    e_benjamini_hochberg,
    fixed_sample_limit,
    fixed_share_limits,
    limit_of_mean,
    mean_interval,
    with_held_back,
)

Floats = npt.NDArray[np.float64]

# The share of the probability of a false alarm that the limits of the reference may be wrong.
LIMIT_SHARE = 0.2
N_TESTS = 3
# By so much the share of rows that are unlike those of training may grow without an alarm.
UNLIKE_TOLERANCE = 0.1
# A row is unlike them where its nearest one is further away than this share of training rows have theirs.
NEAR_SHARE = 0.95
# Rows of the sample to which distances are taken; more would find no more.
MAX_NEIGHBOURS = 256
# Numbers count as this far away at most, in units of a normal distribution's standard deviation; so do missing values
# where training had none, and levels that it had not.
MAX_DISTANCE = 6.0
# Rows whose distances are in memory at once.
ROWS_PER_BLOCK = 8192
# A column is tested after blocks of rows: of at least so many, and of a part of the rows before. A year of rows has
# hundreds of blocks, and a shift is found after a few per cent more rows than if each row were a block.
MIN_BLOCK_ROWS, BLOCKS_PER_FACTOR = 20, 32
# Stakes of the tests of columns.
SHARE_STAKES = 2.0 ** -np.arange(1, 10, 2)
# Labels after the change that can overrule an alarm without labels.
MIN_OVERRULING_LABELS = 200
# The least rows of the sample with which losses are learned.
MIN_SAMPLE_ROWS = 100
# Points of each line over time.
N_PERIODS = 24


@dataclass(frozen=True)
class ColumnFinding:
    """A column, or an answer, of the log beside the reference.

    Attributes
    ----------
    sketch : ColumnSketch
        Of the reference.
    counts : ndarray of int of shape (n_bins,)
        Rows of the log in each of its bins.
    periods : ndarray of int of shape (n_periods, n_bins)
        Likewise, one period after the other.
    log_e_value : float
        Against "the distribution is the reference's".
    shifted : bool
        Whether this is refuted, by e-BH over all columns and answers.
    """

    sketch: ColumnSketch
    counts: npt.NDArray[np.intp]
    periods: npt.NDArray[np.intp]
    log_e_value: float
    shifted: bool = False

    @property
    def moved(self) -> float:
        """The share of rows that would have to be in another bin for the reference's shares: total variation."""
        reference = np.asarray(self.sketch.counts) / max(1, sum(self.sketch.counts))
        return float(np.abs(self.counts / max(1, self.counts.sum()) - reference).sum() / 2)

    def share(self, bins: list[int]) -> tuple[float, float]:
        """The share of rows in some bins, in the reference and in the log."""
        both = np.asarray(self.sketch.counts), self.counts
        reference, now = (float(counts[bins].sum() / max(1, counts.sum())) for counts in both)
        return reference, now


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


class ColumnTest:
    """Counts a column's bins in blocks of rows, and tests them against the reference's shares."""

    def __init__(self, sketch: ColumnSketch) -> None:
        self.sketch = sketch
        self.blocks = np.zeros((0, sketch.n_bins), dtype=np.intp)

    def update(self, codes: npt.NDArray[np.intp], blocks: npt.NDArray[np.intp]) -> None:
        """Count the bins of more values (n_rows,), each in its block."""
        n_blocks, n_bins = int(blocks[-1]) + 1, self.sketch.n_bins
        if n_blocks > len(self.blocks):
            grown = np.zeros((max(n_blocks, 2 * len(self.blocks)), n_bins), dtype=np.intp)
            grown[: len(self.blocks)] = self.blocks
            self.blocks = grown
        first = int(blocks[0])
        flat = (blocks - first) * n_bins + codes
        counted = np.bincount(flat, minlength=(n_blocks - first) * n_bins).reshape(-1, n_bins)
        self.blocks[first:n_blocks] += counted

    def log_e_value(self, n_blocks: int, level: float) -> float:
        """Against "the shares are those of the reference", after so many blocks.

        For numbers the share up to each edge is tested, for texts the share of each level, and the share of missing
        values, each for more and for less than the interval of the reference's share. All of these intervals hold at
        once with probability 1 - level. The e-value is the mean over these tests.
        """
        counts, reference = self.blocks[:n_blocks], np.asarray(self.sketch.counts)
        n_reference = int(reference.sum())
        if not n_blocks or not n_reference:
            return 0.0
        hits, hits_reference = (_hits(of_bins, self.sketch) for of_bins in (counts, reference))
        low, high = fixed_share_limits(hits_reference, n_reference, level / len(hits_reference))
        rows = counts.sum(axis=1, keepdims=True)
        both = np.concatenate([hits, rows - hits], axis=1)[:, :, None]
        bounds = np.concatenate([high, 1 - low])
        testable = (bounds > 0) & (bounds < 1)
        if not testable.any():
            return 0.0
        both, bounds = both[:, testable], bounds[testable][:, None]
        factors = both * np.log1p(SHARE_STAKES * (1 / bounds - 1)) + (rows[:, :, None] - both) * np.log1p(-SHARE_STAKES)
        steps = np.arange(1, n_blocks + 1)
        capitals = bet_from_each_step(factors, steps)[-1]
        return float(with_held_back(logsumexp(capitals) - np.log(capitals.size), steps[-1]))


def _hits(counts: npt.NDArray[np.intp], sketch: ColumnSketch) -> npt.NDArray[np.intp]:
    """Rows for which each tested thing holds, from rows in each bin (..., n_bins)."""
    if not sketch.is_number:
        return counts
    upto = np.cumsum(counts[..., :-2], axis=-1)
    # The last edge's share is 1 less that above the range.
    return np.concatenate([upto, counts[..., -2:]], axis=-1)


def block_starts(n_rows: int) -> npt.NDArray[np.intp]:
    """The first rows of the blocks up to this row, from 0; they do not depend on when one looks."""
    starts = [0]
    while starts[-1] < n_rows:
        starts.append(starts[-1] + max(MIN_BLOCK_ROWS, starts[-1] // BLOCKS_PER_FACTOR))
    return np.array(starts[: len(starts) - 1] or [0])


@dataclass(frozen=True)
class Inputs:
    """Features of rows, read once for all tests.

    Attributes
    ----------
    columns : list of ColumnSketch
    numbers : dict of str to ndarray of shape (n_rows,)
        Of the columns of numbers.
    codes : dict of str to ndarray of int of shape (n_rows,)
        The bin of each value of every column.
    """

    columns: list[ColumnSketch]
    numbers: dict[str, Floats]
    codes: dict[str, npt.NDArray[np.intp]]

    @classmethod
    def of(cls, rows: Any, columns: list[ColumnSketch], prefix: str = "") -> Self:
        """From columns of rows, whose names begin with this."""
        numbers = {each.name: as_numbers(rows[prefix + each.name]) for each in columns if each.is_number}
        codes = {
            each.name: each.codes_of_numbers(numbers[each.name])
            if each.is_number
            else each.codes(rows[prefix + each.name])
            for each in columns
        }
        return cls(columns, numbers, codes)

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.codes.values())))


class ExpectedLoss:
    """The loss that is to be expected of a row without its label, learned from the reference's sample.

    Parameters
    ----------
    sample : Inputs
        The reference's, of the columns that are logged.
    losses : ndarray of shape (n_rows,)
        Its out-of-fold losses.

    Attributes
    ----------
    values : ndarray
        What is expected of the half of the sample that was not learned from.
    """

    def __init__(self, sample: Inputs, losses: Floats) -> None:
        half = len(losses) // 2
        X = self._matrix(sample)
        model = HistGradientBoostingRegressor(
            max_iter=40,
            max_leaf_nodes=8,
            min_samples_leaf=10,
            early_stopping=False,
            categorical_features=[not column.is_number for column in sample.columns],
            random_state=0,
        )
        # For so few rows threads would wait for each other longer than they work.
        with threadpool_limits(1):
            self._model = model.fit(X[:half], losses[:half])
        self.values = self._predict(X[half:])

    def of_rows(self, inputs: Inputs) -> Floats:
        """Of each row, in [0, 1]: shape (n_rows,)."""
        return self._predict(self._matrix(inputs))

    def _predict(self, X: Floats) -> Floats:
        with threadpool_limits(1):
            return np.asarray(np.clip(self._model.predict(X), 0, 1), dtype=np.float64)

    @staticmethod
    def _matrix(inputs: Inputs) -> Floats:
        X = np.empty((inputs.n_rows, len(inputs.columns)), order="F")
        for place, column in enumerate(inputs.columns):
            if column.is_number:
                X[:, place] = inputs.numbers[column.name]
            else:
                codes = inputs.codes[column.name]
                X[:, place] = np.where(codes > len(column.levels), np.nan, codes)
        return X


class Familiarity:
    """Tells rows that are unlike the training rows: those whose nearest one is far away.

    Distances are Euclidean, of numbers less their median in units of their quartile range, and of indicators of texts.
    The limit is a quantile of the distances among one half of the reference's sample; the other half says how many rows
    are beyond it where nothing has changed.

    Parameters
    ----------
    sample : Inputs
        The reference's, of the columns that are logged.

    Attributes
    ----------
    values : ndarray
        1 for the rows of that other half that are unlike, 0 for its other rows.
    """

    def __init__(self, sample: Inputs) -> None:
        half = sample.n_rows // 2
        self._scales = [self._scale(sample, column, half) for column in sample.columns]
        points = self._points(sample)
        self._neighbours = points[: min(half // 2, MAX_NEIGHBOURS)]
        # Those of the half that are no neighbours themselves.
        self._limit = float(np.quantile(self._distances(points[len(self._neighbours) : half]), NEAR_SHARE))
        self.values = self._unlike(points[half:])

    def of_rows(self, inputs: Inputs) -> Floats:
        """Of each row (n_rows,): 1 where it is unlike the training rows, else 0."""
        return self._unlike(self._points(inputs))

    def _unlike(self, points: npt.NDArray[np.float32]) -> Floats:
        return (self._distances(points) > self._limit).astype(np.float64)

    def _distances(self, points: npt.NDArray[np.float32]) -> Floats:
        """The squared distance of each point from its nearest neighbour: (n_points,)."""
        squares = (self._neighbours**2).sum(axis=1) / 2
        nearest = [
            (points[start : start + ROWS_PER_BLOCK] @ self._neighbours.T - squares).max(axis=1)
            for start in range(0, len(points), ROWS_PER_BLOCK)
        ]
        return np.asarray((points**2).sum(axis=1) - 2 * np.concatenate(nearest), dtype=np.float64)

    @staticmethod
    def _scale(sample: Inputs, column: ColumnSketch, half: int) -> tuple[float, float, float]:
        """A column's median, its standard deviation by its quartiles, and what stands for a missing value."""
        known = sample.numbers.get(column.name, np.empty(0))[:half]
        known = known[~np.isnan(known)]
        missing = 0.0 if column.counts[column.missing_bin] else MAX_DISTANCE
        if not len(known):
            return 0.0, 1.0, missing
        low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
        # Of a column of mostly one value the quartiles agree.
        deviation = (high - low) / 1.349 or float(known.std()) or 1.0
        return float(middle), float(deviation), missing

    def _points(self, inputs: Inputs) -> npt.NDArray[np.float32]:
        points: list[npt.NDArray[Any]] = []
        for column, (middle, deviation, missing) in zip(inputs.columns, self._scales, strict=True):
            if column.is_number:
                scaled = (inputs.numbers[column.name] - middle) / deviation
                np.clip(scaled, -MAX_DISTANCE, MAX_DISTANCE, out=scaled)
                points.append(np.where(np.isnan(scaled), missing, scaled))
            else:
                codes = inputs.codes[column.name]
                # Two different levels are 1 apart.
                points += [(codes == place) / np.sqrt(2) for place in range(len(column.levels))]
                is_new = codes == column.n_bins - 2
                points.append(np.where(is_new, MAX_DISTANCE, np.where(codes == column.missing_bin, missing, 0)))
        return np.column_stack(points).astype(np.float32)


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


def _time_text(time: Any) -> str | None:
    """A time of the log, UTC, to the second."""
    return None if time is None else f"{pd.Timestamp(time).isoformat(sep=' ', timespec='seconds')} UTC"
