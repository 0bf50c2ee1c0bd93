"""The comparison of two versions on live traffic: from the log with its truth to a verdict."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from wineexp.core.config import SHADOW, SPLIT
from wineexp.core.errors import UserError
from wineexp.evaluation.predictions import Predictions
from wineexp.monitoring import prediction_log
from wineexp.monitoring.drift import predictions_of_log
from wineexp.monitoring.format import (
    CHALLENGER,
    CHAMPION,
    DECISION,
    NUMBER,
    PROBABILITY,
    REQUEST_ID,
    ROW,
    TIME,
    TRUTH,
    TRUTH_TIME,
)
from wineexp.monitoring.live_test import LiveTest, live_test
from wineexp.monitoring.reference import Reference
from wineexp.monitoring.sequential import difference_range, difference_values
from wineexp.monitoring.truth import JoinCounts
from wineexp.tracking.registry import Registry, Version
from wineexp.tracking.runs import Runs
from wineexp.workflows.monitoring import find_reference

# A column for the loss of each row.
LOSS = "loss"

# The deciding metrics that are a kind of loss's mean, or follow from it alone.
METRICS_OF_LOSSES = {
    "error": ("accuracy",),
    "distance": ("mean_absolute_error",),
    "brier": ("brier_score",),
    "cost": ("cost",),
    "absolute": ("mean_absolute_error",),
    "squared": ("root_mean_squared_error", "r2"),
}

# What names a row that both versions answered.
KEYS = [REQUEST_ID, ROW]


@dataclass(frozen=True)
class LiveComparison:
    """Two versions on live traffic.

    Attributes
    ----------
    name : str
        The registered model.
    champion, challenger : int
        Numbers of the two versions.
    mode : str
        `shadow`, where both answered the same rows, or `split`, where each answered rows of its own.
    loss : str
        What was averaged over the rows; see `Loss.name`.
    metric : str
        The deciding metric.
    is_metric : bool
        Whether the loss decides as the deciding metric does.
    champion_loss, challenger_loss : float
        Means over the labels; NaN without any.
    champion_labels, challenger_labels : int
        Rows of each version whose truth is known; in shadow mode the same ones.
    differing : int or None
        In shadow mode, the rows whose loss differs between the two.
    ahead : int or None
        Those of them for which the challenger's is less.
    share : float or None
        In split mode, the share of rows that the challenger answered.
    left_out : int
        Rows whose truth is no class of the champion's, or no number.
    test : LiveTest
    since, until : str
        When the first and the last of the rows were answered, UTC, ISO 8601; empty without any.
    """

    name: str
    champion: int
    challenger: int
    mode: str
    loss: str
    metric: str
    is_metric: bool
    champion_loss: float
    challenger_loss: float
    champion_labels: int
    challenger_labels: int
    differing: int | None
    ahead: int | None
    share: float | None
    left_out: int
    test: LiveTest
    since: str
    until: str

    @property
    def verdict(self) -> str:
        """The verdict, as a sentence."""
        who = f"version {self.challenger} ({CHALLENGER})"
        return {
            "better": f"{who} is better",
            "worse": f"{who} is worse",
            "go on": "no difference is shown yet: go on",
        }[self.test.verdict]

    def document(self) -> dict[str, Any]:
        """What was found, for JSON: with null where there is no number, and the sentences as `lines`."""
        values: dict[str, Any] = asdict(self) | {"verdict": self.test.verdict, "lines": self.lines()}
        for part in (values, values["test"]):
            part |= {key: None for key, value in part.items() if isinstance(value, float) and math.isnan(value)}
        return values

    def lines(self) -> list[str]:
        """What was found, in sentences."""
        head = (
            f"{self.name}: version {self.challenger} ({CHALLENGER}) beside version {self.champion} ({CHAMPION}), "
            f"mode {self.mode}"
        )
        if not self.test.n_labels:
            return [f"{head}: no row of the test has a label yet, go on"]
        labels = (
            f"{self.test.n_labels} rows with a label that both answered"
            if self.mode == SHADOW
            else f"{self.champion_labels} and {self.challenger_labels} rows with a label, {self.share:.1%} of all rows "
            f"to the {CHALLENGER}"
        )
        lines = [f"{head}: {labels}, from {self.since} to {self.until}"]
        if not self.is_metric:
            lines.append(f"{self.metric} is no mean over rows; compared is: {self.loss}")
        lines.append(f"{self.loss}: {CHALLENGER} {self.challenger_loss:.4g}, {CHAMPION} {self.champion_loss:.4g}")
        if self.differing is not None:
            lines.append(f"they differ on {self.differing} rows, on {self.ahead} of which the {CHALLENGER} is ahead")
        if self.left_out:
            lines.append(f"left out: {self.left_out} rows whose truth the {CHAMPION} could not have answered")
        lines.append(
            f"gain {self.test.gain:.4g}, {self.test.level:.0%} interval {self.test.low:.4g} to {self.test.high:.4g}, "
            f"valid at any time: {self.verdict}"
        )
        if self.test.verdict == "go on" and self.test.needed:
            sizes = ", ".join(f"{size:.4g}: {number:,}" for size, number in self.test.needed.items())
            lines.append(f"more labels that a true gain needs, in about half of the cases: {sizes}")
        return lines


def compare(
    address: str,
    registry: Registry,
    runs: Runs,
    champion: Version,
    challenger: Version,
    *,
    level: float,
    sizes: Iterable[float] = (),
    mode: str | None = None,
    share: float | None = None,
    since: str | None = None,
    until: str | None = None,
) -> LiveComparison:
    """Compare what two versions answered on live traffic.

    Parameters
    ----------
    address : str
        The log's folder, or database.
    registry : Registry
    runs : Runs
        Of the same store.
    champion, challenger : Version
    level : float
        Of the interval.
    sizes : iterable of float
        Gains of which the number of labels is wanted: of classes in the unit of the loss, of numbers as a share of the
        champion's.
    mode : str, optional
        By default `shadow` where both versions answered the same rows, else `split`.
    share : float, optional
        In split mode the probability that a row was the challenger's; by default its share of the logged rows.
    since, until : str, optional
        Rows answered from this time on, and before this time.

    Raises
    ------
    UserError
        There is no such log, or the versions predict different targets.
    """
    check_targets(champion, challenger, runs)
    reference = find_reference(registry, champion)
    loss = reference.loss
    unit = loss.high - loss.low
    columns = [DECISION, *(f"{PROBABILITY}{name}" for name in reference.classes)] if reference.classes else [NUMBER]
    wanted: dict[str, Any] = {"model": registry.name, "until": until}
    of_challenger: dict[str, Any] = {"version": challenger.number, "variant": CHALLENGER}
    of_champion: dict[str, Any] = {"version": champion.number, "variant": CHAMPION}
    times = [frame[TIME] for frame in prediction_log.read(address, columns=[], since=since, **wanted, **of_challenger)]
    # Rows before the test are no part of it.
    wanted["since"] = times[0].iloc[0] if times else since
    counts = JoinCounts()
    labelled = wanted | {"columns": columns, "counts": counts}
    second = _answers(prediction_log.read_with_truth(address, **labelled, **of_challenger), reference)
    first = _answers(prediction_log.read_with_truth(address, **labelled, **of_champion), reference)
    pairs = first.merge(second, on=KEYS, suffixes=("", ".challenger"))
    if mode is None:
        mode = SHADOW if len(pairs) or second.empty else SPLIT
    if mode == SPLIT and share is None and times:
        n_first = sum(map(len, prediction_log.read(address, columns=[], **wanted, **of_champion)))
        n_second = sum(map(len, times))
        share = n_second / (n_first + n_second)
    # Gains of numbers are given as parts of the champion's error.
    size_unit = float(first[LOSS].mean()) if not reference.classes and len(first) else 1.0
    found: dict[str, Any]
    if mode == SHADOW:
        gains = (pairs[LOSS] - pairs[f"{LOSS}.challenger"]).to_numpy(dtype=float)
        found = {"differing": int((gains != 0).sum()), "ahead": int((gains > 0).sum()), "share": None}
        limit, losses, rows = unit, (pairs[LOSS], pairs[f"{LOSS}.challenger"]), pairs
    else:
        rows = pd.concat([first.assign(second=False), second.assign(second=True)]).sort_values(
            TRUTH_TIME, kind="stable"
        )
        # Without rows of both there is no gain yet.
        n_both = min(len(first), len(second))
        scores, in_second = (loss.high - rows[LOSS]) / unit, rows["second"]
        # Their last bits may be beyond 0 and 1.
        scores = scores.clip(0, 1)
        gains = unit * difference_values(scores, in_second, share) if n_both and share else np.empty(0)
        limit = unit * difference_range(share)[1] if share else unit
        found, losses = {"differing": None, "ahead": None, "share": share}, (first[LOSS], second[LOSS])
    of_test = live_test(gains, limit=limit, level=level, sizes=tuple(size * size_unit for size in sizes))
    return LiveComparison(
        name=registry.name,
        champion=champion.number,
        challenger=challenger.number,
        mode=mode,
        loss=loss.name,
        metric=reference.metric,
        is_metric=reference.metric in METRICS_OF_LOSSES[loss.kind],
        champion_loss=_mean(losses[0]),
        challenger_loss=_mean(losses[1]),
        champion_labels=len(losses[0]),
        challenger_labels=len(losses[1]),
        **found,
        left_out=first.attrs["left_out"] + second.attrs["left_out"] + counts.not_numbers,
        test=of_test,
        since=_shown(rows[TIME].min()) if len(rows) else "",
        until=_shown(rows[TIME].max()) if len(rows) else "",
    )


def check_targets(champion: Version, challenger: Version, runs: Runs) -> None:
    """Check that two versions predict the same target.

    Raises
    ------
    UserError
        They do not.
    """
    first, second = (
        {
            key: value
            for key, value in runs.get(str(version.number)).config().target.items()
            if key not in ("transform", "metric", "direction", "metric_needs")
        }
        for version in (champion, challenger)
    )
    if first != second:
        raise UserError(
            f"version {challenger.number} predicts another target than version {champion.number}: there is nothing to "
            "compare"
        )


def _answers(frames: Iterable[pd.DataFrame], reference: Reference) -> pd.DataFrame:
    """The loss of each labelled row of a version, with its keys and times; `attrs` says how many were left out."""
    columns = [*KEYS, TIME, TRUTH_TIME]
    parts, left_out = [], 0
    for frame in frames:
        predictions = predictions_of_log(frame, reference, frame[TRUTH])
        # A class that the champion does not know has no position.
        has_truth = predictions.y >= 0 if isinstance(predictions, Predictions) else np.ones(len(frame), dtype=bool)
        left_out += int((~has_truth).sum())
        if has_truth.any():
            losses = reference.loss.of_rows(predictions.select(has_truth))
            rescaled = reference.loss.low + losses * (reference.loss.high - reference.loss.low)
            parts.append(frame.loc[has_truth, columns].assign(**{LOSS: rescaled}))
    answers = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*columns, LOSS])
    answers.attrs["left_out"] = left_out
    return answers


def _mean(losses: pd.Series) -> float:
    return float(losses.mean()) if len(losses) else float("nan")


def _shown(time: pd.Timestamp) -> str:
    return time.isoformat(timespec="seconds")
