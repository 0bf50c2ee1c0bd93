"""The problem that a config poses: rows and labels, split once into holdout and folds."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.model_selection import BaseCrossValidator
from threadpoolctl import threadpool_limits

from wineexp import evaluation, split
from wineexp.data import Dataset
from wineexp.target import Target


@dataclass(frozen=True)
class Problem:
    """What a model is asked to learn, and on which rows it is scored.

    Attributes
    ----------
    dataset : Dataset
    target : Target
    classes : ndarray of shape (n_classes,)
        Labels in ascending order.
    X, y : DataFrame of shape (n_training, n_features), Series of shape (n_training,)
        What tuning and cross-validation may see.
    X_holdout, y_holdout : likewise
        What they may not.
    folds : list of (training, test) positions in X
    """

    dataset: Dataset
    target: Target
    classes: npt.NDArray[np.generic]
    X: pd.DataFrame
    y: pd.Series
    X_holdout: pd.DataFrame
    y_holdout: pd.Series
    folds: list[tuple[split.Indices, split.Indices]]

    @cached_property
    def metrics(self) -> list[str]:
        """Names of the metrics that mean something here."""
        return evaluation.metrics_for(len(self.classes), ordinal=self.target.ordinal)

    @property
    def frame(self) -> pd.DataFrame:
        """The training rows with their labels: (n_training, n_features + 1)."""
        return self.X.assign(**{self.target.column: self.y})

    def codes(self, y: pd.Series) -> split.Indices:
        """Labels (n_samples,) as positions in `classes`."""
        return np.asarray(pd.Index(self.classes).get_indexer(y))

    def score_holdout(self, fitted: ClassifierMixin) -> evaluation.Scores:
        """Every metric on the holdout, and the majority class's accuracy there; nothing where there is none."""
        if self.y_holdout.empty:
            return {}
        y = self.codes(self.y_holdout)
        # As in the folds: the last bits of a product of matrices depend on how many threads share it.
        with threadpool_limits(1):
            answers = evaluation.ask(fitted, self.X_holdout, y)
        scores = evaluation.score(answers, self.metrics)
        return scores | {"majority_accuracy": evaluation.majority(self.codes(self.y), y)}

    def facts(self) -> dict[str, str]:
        """What a reader of the record should know of the rows."""
        return {
            "data.md5": self.dataset.md5,
            "data.rows": str(len(self.dataset.frame)),
            "data.duplicate_rows": str(self.dataset.duplicates),
            "data.features": str(self.X.shape[1]),
            "deciding_metric": self.target.metric,
        }

    def describe(self) -> str:
        """The rows in a sentence."""
        return (
            f"{len(self.dataset.frame)} rows, {self.dataset.duplicates} of them exact duplicates of an earlier one; "
            f"{len(self.y)} cross-validated, {len(self.y_holdout)} held out."
        )


def pose(dataset: Dataset, target: Target, splitter: BaseCrossValidator | None, holdout: Mapping[str, Any]) -> Problem:
    """Read the target off the data, set the holdout aside, split the rest into folds.

    Parameters
    ----------
    dataset : Dataset
    target : Target
    splitter : cross-validator, or None
        None makes no folds, for a program that looks at the rows and trains nothing.
    holdout : mapping with `size` and `seed`

    Raises
    ------
    UserError
        Target, metric or split do not fit the data.
    """
    X, y, classes = target.read(dataset.frame, dataset.features)
    evaluation.check_metric(target.metric, target.direction, len(classes), ordinal=target.ordinal)
    groups = split.identical_rows(X)
    # By the column itself, so that all targets read from it share one holdout.
    strata = dataset.frame[target.column]
    training, held_out = split.hold_out(strata, groups, size=holdout["size"], seed=holdout["seed"])
    return Problem(
        dataset=dataset,
        target=target,
        classes=classes,
        X=X.iloc[training].reset_index(drop=True),
        y=y.iloc[training].reset_index(drop=True),
        X_holdout=X.iloc[held_out].reset_index(drop=True),
        y_holdout=y.iloc[held_out].reset_index(drop=True),
        folds=split.folds(splitter, X.iloc[training], y.iloc[training], groups[training]) if splitter else [],
    )
