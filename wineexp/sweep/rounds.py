"""Pruning by XGBoost's own rounds: a hopeless trial ends in the middle of its first fold."""

import threading
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split
from xgboost import XGBClassifier
from xgboost.callback import TrainingCallback

from wineexp.sweep.trial import Pruned, Trial, current

# Metrics of XGBoost's of which more is better; of all others less is.
RISING = ("auc", "aucpr", "map", "ndcg", "pre")
# The share of the rows on which the rounds are scored.
HELD_OUT = 0.25

_first = threading.Lock()


class Rounds(TrainingCallback):
    """Reports each round's score to a trial, and ends the trial when told to; raises Pruned."""

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        self.trial = trial

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Report the last metric of the first set, in the study's direction."""
        name, values = next(reversed(next(iter(evals_log.values())).items()))
        rising = name.partition("@")[0] in RISING
        self.trial.report(values[-1] if rising == self.trial.maximizes else -values[-1], epoch, unit="round")
        if self.trial.should_prune():
            raise Pruned
        return False


class PrunedXGBClassifier(XGBClassifier):
    """XGBoost's classifier, whose first fit in a trial is scored round by round on rows held out of that fit.

    For `hydra/sweeper/pruner=rounds`; outside of a sweep, in later folds, and under another pruner it is XGBoost's
    own. A fit that survives is done again on all of its rows.
    """

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, **options: Any) -> Self:
        """Fit on X (n_samples, n_features) and y (n_samples,); raises Pruned in the middle of a hopeless trial."""
        trial = current()
        with _first:
            scouting = trial.unit == "round" and not trial.context.get("scouted")
            trial.context["scouted"] = True
        if scouting:
            kept, held, kept_y, held_y = train_test_split(X, y, test_size=HELD_OUT, random_state=0)
            # Every class must be among the kept rows, or XGBoost would see another problem.
            if np.array_equal(np.unique(kept_y), np.unique(y)):
                scout = XGBClassifier(**{**self.get_params(), "callbacks": [Rounds(trial)]})
                scout.fit(kept, kept_y, eval_set=[(held, held_y)], verbose=False)
        super().fit(X, y, **options)
        return self
