"""The gate: the rules that a candidate must meet before an alias is moved to it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from wineexp.core.errors import UserError, did_you_mean
from wineexp.evaluation.comparison import corrected_t_test
from wineexp.evaluation.metrics import METRICS

WANTED = ("better", "not_worse")


@dataclass(frozen=True)
class Evidence:
    """What is known of a model.

    Attributes
    ----------
    name : str
    scores : dict of str to ndarray of shape (n_folds,)
        Each metric by fold, all on the same folds as those of the model it is compared with.
    calibration_error : float
        Of all out-of-fold answers together.
    """

    name: str
    scores: Mapping[str, npt.NDArray[np.float64]]
    calibration_error: float


@dataclass(frozen=True)
class Check:
    """One rule, and how a candidate stands to it, in words."""

    rule: str
    passed: bool
    told: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.told}"


@dataclass(frozen=True)
class Gate:
    """The rules, as `conf/gate/usual.yaml` sets them.

    Parameters
    ----------
    floors : dict of str to float or None
        For each of these metrics the worst mean over the folds that is let through; None lets any through.
    wanted : str
        `better`: the candidate must be shown to be better than the champion. `not_worse`: it must be shown not to be
        worse by `margin` or more.
    margin : float
        In the deciding metric's unit.
    alpha : float
        How often a candidate that is not better (that is worse by `margin`) may pass.
    calibration_margin : float
        By how much its expected calibration error may exceed the champion's.
    row_milliseconds : float
        The longest that one row may take to predict.
    megabytes : float
        The largest that the stored model may be, in millions of bytes.
    """

    floors: dict[str, float | None]
    wanted: str
    margin: float
    alpha: float
    calibration_margin: float
    row_milliseconds: float
    megabytes: float

    def __post_init__(self) -> None:
        faults = []
        if self.wanted not in WANTED:
            faults.append(f"gate.wanted={self.wanted}: {did_you_mean(self.wanted, WANTED)}")
        if not 0 < self.alpha < 0.5:
            faults.append(f"gate.alpha={self.alpha}: 0 < alpha < 0.5 must hold")
        faults += [
            f"gate.{name}={getattr(self, name)}: {name} >= 0 must hold"
            for name in ("margin", "calibration_margin", "row_milliseconds", "megabytes")
            if getattr(self, name) < 0
        ]
        faults += [f"gate.floors.{name}: {did_you_mean(name, METRICS)}" for name in self.floors if name not in METRICS]
        if faults:
            raise UserError(*faults)

    def scores(
        self, candidate: Evidence, champion: Evidence | None, *, metric: str, test_to_train: float
    ) -> list[Check]:
        """The rules on how good a candidate is.

        Parameters
        ----------
        candidate : Evidence
        champion : Evidence or None
            None where the alias names nothing yet: only floors then hold.
        metric : str
            The one that decides.
        test_to_train : float
            See `comparison.corrected_t_test`.

        Raises
        ------
        UserError
            A floor is set for a metric that does not apply to the target.
        """
        floors = {name: bound for name, bound in self.floors.items() if bound is not None}
        if missing := [name for name in floors if name not in candidate.scores]:
            raise UserError(*(f"gate.floors.{name}: {did_you_mean(name, candidate.scores)}" for name in missing))
        checks = [self._floor(name, bound, candidate) for name, bound in floors.items()]
        if champion is not None:
            checks += [
                self._against(candidate, champion, metric, test_to_train),
                self._calibration(candidate, champion),
            ]
        return checks

    def costs(self, *, row_milliseconds: float, size: int) -> list[Check]:
        """The rules on what a model costs to serve: milliseconds for one row, and bytes."""
        return [
            _at_most("row_milliseconds", row_milliseconds, self.row_milliseconds, "ms for one row"),
            _at_most("megabytes", size / 1e6, self.megabytes, "MB"),
        ]

    def _floor(self, name: str, bound: float, candidate: Evidence) -> Check:
        mean = float(pd.Series(candidate.scores[name]).mean())
        rising = METRICS[name].direction == "maximize"
        passed = mean >= bound if rising else mean <= bound
        told = f"{mean:.4f}, {'at least' if rising else 'at most'} {bound:g} is wanted"
        return Check(f"floors.{name}", passed, told if passed else f"{told}: short by {abs(mean - bound):.4f}")

    def _against(self, candidate: Evidence, champion: Evidence, metric: str, test_to_train: float) -> Check:
        ours, theirs = candidate.scores[metric], champion.scores[metric]
        # A fold that one of them failed must not drop out of the comparison.
        if len(ours) != len(theirs) or (np.isnan(ours) != np.isnan(theirs)).any() or np.isfinite(ours).sum() < 2:
            told = (
                f"{metric} has {np.isfinite(ours).sum()} figures of {len(ours)} folds, {champion.name}'s "
                f"{np.isfinite(theirs).sum()} of {len(theirs)}; the same folds are wanted, 2 of them at least"
            )
            return Check(self.wanted, passed=False, told=told)
        found = corrected_t_test(
            ours,
            theirs,
            direction=METRICS[metric].direction,
            test_to_train=test_to_train,
            # Two-sided in the comparison, one-sided here.
            alpha=2 * self.alpha,
        )
        least = 0.0 if self.wanted == "better" else -self.margin
        passed = found.low > least
        told = (
            f"{metric} is {abs(found.difference):.4f} {'better' if found.difference >= 0 else 'worse'} than "
            f"{champion.name}'s on the same folds; at level {self.alpha:g} the gain is more than {found.low:.4f}, and "
            f"more than {least:g} is wanted"
        )
        if not passed:
            told += (
                f": short by {least - found.low:.4f}. On these folds a true gain of {found.detectable + least:.4f} "
                "passes four times in five"
            )
        return Check(self.wanted, passed, told)

    def _calibration(self, candidate: Evidence, champion: Evidence) -> Check:
        excess = candidate.calibration_error - champion.calibration_error
        told = (
            f"expected calibration error {candidate.calibration_error:.4f}, {champion.name}'s is "
            f"{champion.calibration_error:.4f}, at most {self.calibration_margin:g} more is wanted"
        )
        passed = excess <= self.calibration_margin
        return Check(
            "calibration", passed, told if passed else f"{told}: over by {excess - self.calibration_margin:.4f}"
        )


def _at_most(rule: str, value: float, bound: float, unit: str) -> Check:
    told = f"{value:.3g} {unit}, at most {bound:g} is wanted"
    return Check(rule, value <= bound, told if value <= bound else f"{told}: over by {value - bound:.3g}")
