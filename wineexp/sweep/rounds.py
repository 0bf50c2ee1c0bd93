"""Pruning by XGBoost's own rounds, so that a hopeless trial ends in the middle of its first fold."""

import threading
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split
from xgboost import XGBClassifier
from xgboost.callback import TrainingCallback

from wineexp.sweep.trial import Pruned, Trial, current

# The metrics of XGBoost that are better if they are higher; all others are better if they are lower.
MAXIMIZED_METRICS = ("auc", "aucpr", "map", "ndcg", "pre")
# The fraction of a fit's rows on which its rounds are scored.
VALIDATION_FRACTION = 0.25

_first_fit_lock = threading.Lock()


class RoundReporter(TrainingCallback):
    """Reports the score of each boosting round to a trial; raises Pruned when the trial should be pruned."""

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        self.trial = trial

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Report the last metric of the first evaluation set, negated if the study's direction is the other one."""
        metric, values = next(reversed(next(iter(evals_log.values())).items()))
        is_maximized = metric.partition("@")[0] in MAXIMIZED_METRICS
        self.trial.report(values[-1] if is_maximized == self.trial.maximizes else -values[-1], epoch, unit="round")
        if self.trial.should_prune():
            raise Pruned
        return False


class PrunedXGBClassifier(XGBClassifier):
    """XGBoost's classifier, whose first fit in a trial is preceded by one that reports the score of each round.

    For `hydra/sweeper/pruner=rounds`. That preceding fit is scored on rows held out of it; the classifier itself is
    fitted on all rows, and outside of a sweep, in later folds and under other pruners it is XGBoost's own.
    """

    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        sample_weight: npt.NDArray[np.float64] | None = None,
        **options: Any,
    ) -> Self:
        """Fit on X (n_samples, n_features), y (n_samples,) and, where there are any, weights (n_samples,).

        It raises Pruned if the rounds show a hopeless trial.
        """
        trial = current()
        # Folds may be fitted in threads.
        with _first_fit_lock:
            is_first_fit = not trial.context.get("rounds_reported")
            trial.context["rounds_reported"] = True
        if is_first_fit and trial.unit == "round":
            self._fit_and_report(X, y, sample_weight, trial)
        super().fit(X, y, sample_weight=sample_weight, **options)
        return self

    def _fit_and_report(
        self, X: npt.ArrayLike, y: npt.ArrayLike, weights: npt.NDArray[np.float64] | None, trial: Trial
    ) -> None:
        X_train, X_validation, y_train, y_validation, *of_parts = train_test_split(
            X, y, *([] if weights is None else [weights]), test_size=VALIDATION_FRACTION, random_state=0
        )
        options = {"sample_weight": of_parts[0], "sample_weight_eval_set": of_parts[1:]} if of_parts else {}
        # With a class missing, XGBoost would fit another problem.
        if np.array_equal(np.unique(y_train), np.unique(y)):
            model = XGBClassifier(**{**self.get_params(), "callbacks": [RoundReporter(trial)]})
            model.fit(X_train, y_train, eval_set=[(X_validation, y_validation)], verbose=False, **options)
