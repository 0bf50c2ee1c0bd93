"""The task that a config poses: rows and labels, split once into holdout and folds."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import BaseCrossValidator
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from wineexp.data import schema, split
from wineexp.data.datasets import Dataset
from wineexp.data.target import Target
from wineexp.evaluation import cross_validation
from wineexp.evaluation.metrics import Predictions, Scores, check_metric, majority, metrics_for, score

# What stands for a fold's number in the table of predictions where the rows were held out.
HOLDOUT = -1


@dataclass(frozen=True)
class Task:
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
    rows, rows_holdout : ndarrays of int
        Positions in the data set of the rows of X and of X_holdout.
    """

    dataset: Dataset
    target: Target
    classes: npt.NDArray[np.generic]
    X: pd.DataFrame
    y: pd.Series
    X_holdout: pd.DataFrame
    y_holdout: pd.Series
    folds: list[tuple[split.Indices, split.Indices]]
    rows: split.Indices
    rows_holdout: split.Indices

    @cached_property
    def metrics(self) -> list[str]:
        """Names of the metrics that mean something here."""
        return metrics_for(len(self.classes), ordinal=self.target.ordinal)

    @property
    def frame(self) -> pd.DataFrame:
        """The training rows with their labels: (n_training, n_features + 1)."""
        return self.X.assign(**{self.target.column: self.y})

    @property
    def test_to_train(self) -> float:
        """Test rows of a fold over its training rows, on average; NaN where there are no folds."""
        return float(np.mean([len(test) / len(training) for training, test in self.folds])) if self.folds else np.nan

    def codes(self, y: pd.Series) -> split.Indices:
        """Labels (n_samples,) as positions in `classes`."""
        return np.asarray(pd.Index(self.classes).get_indexer(y))

    def predict_holdout(self, fitted: Pipeline) -> Predictions | None:
        """A fitted pipeline's answers on the holdout; None where nothing is held out."""
        if self.y_holdout.empty:
            return None
        # As in the folds: the last bits of a product of matrices depend on how many threads share it.
        with threadpool_limits(cross_validation.NATIVE_THREADS):
            return cross_validation.predict(fitted, self.X_holdout, self.codes(self.y_holdout))

    def score_holdout(self, answers: Predictions | None) -> Scores:
        """Every metric on the holdout, and the majority class's accuracy there; nothing where there is none."""
        if answers is None:
            return {}
        scores = score(answers, self.metrics)
        return scores | {"majority_accuracy": majority(self.codes(self.y), answers.y)}

    def predictions(self, folds: list[cross_validation.Fold], holdout: Predictions | None) -> pd.DataFrame:
        """Every answer on rows that the model was not trained on.

        Returns
        -------
        DataFrame of shape (n_answers, 4 + n_classes) or (n_answers, 4 + 2 n_classes)
            `fold` (`HOLDOUT` for the holdout), `row` (position in the data set), `true` and `predicted` (labels as
            text), a column `probability <label>` for each class, to the last bit, and of a model that knows of sets
            a column `in set <label>`.
        """
        asked = [(fold.number, self.rows[fold.test], fold.answers) for fold in folds]
        if holdout is not None:
            asked.append((HOLDOUT, self.rows_holdout, holdout))
        labels = np.array([str(label) for label in self.classes], dtype=object)
        return pd.concat(
            [
                pd.DataFrame(
                    {
                        "fold": number,
                        "row": rows,
                        "true": labels[answers.y],
                        "predicted": labels[answers.predicted],
                        **{f"probability {label}": answers.probabilities[:, code] for code, label in enumerate(labels)},
                    }
                    | (
                        {f"in set {label}": answers.sets[:, code] for code, label in enumerate(labels)}
                        if answers.sets is not None
                        else {}
                    )
                )
                for number, rows, answers in asked
            ],
            ignore_index=True,
        )

    def facts(self) -> dict[str, str]:
        """What a reader of the record should know of the rows, as tags."""
        return {
            "data.md5": self.dataset.md5,
            "data.dvc": "+".join(pin.dvc_name for pin in self.dataset.pins),
            "data.rows": str(len(self.dataset.frame)),
            "data.duplicate_rows": str(self.dataset.duplicates),
            "data.features": str(self.X.shape[1]),
            "split.sha256": split.fingerprint(
                self.rows_holdout, [(self.rows[training], self.rows[test]) for training, test in self.folds]
            ),
            "split.test_to_train": str(self.test_to_train),
            "deciding_metric": self.target.metric,
        }

    def schema(self, data: str, target: str) -> schema.Schema:
        """What a model of this task may be asked, by the training rows alone; `data`, `target` name the choices."""
        return schema.Schema(
            data=data,
            target=target,
            column=self.target.column,
            classes=[str(label) for label in self.classes],
            ordinal=self.target.ordinal,
            metric=self.target.metric,
            features=schema.features(self.X, self.dataset.units),
            samples=schema.samples(self.X, self.y),
        )

    def describe(self) -> str:
        """The rows in a sentence."""
        return (
            f"{len(self.dataset.frame)} rows, {self.dataset.duplicates} of them exact duplicates of an earlier one; "
            f"{len(self.y)} cross-validated, {len(self.y_holdout)} held out."
        )


def answers(predictions: pd.DataFrame) -> Predictions:
    """The out-of-fold answers in a table that `Task.predictions` made, the holdout's left out."""
    return all_answers(predictions[predictions["fold"] != HOLDOUT])


def all_answers(predictions: pd.DataFrame) -> Predictions:
    """Every answer in such a table."""
    probabilities = predictions.filter(regex="^probability ")
    labels = pd.Index([str(name).removeprefix("probability ") for name in probabilities])
    return Predictions(
        y=np.asarray(labels.get_indexer(pd.Index(predictions["true"]))),
        predicted=np.asarray(labels.get_indexer(pd.Index(predictions["predicted"]))),
        probabilities=probabilities.to_numpy(),
    )


def make_task(
    dataset: Dataset, target: Target, splitter: BaseCrossValidator | None, holdout: Mapping[str, Any]
) -> Task:
    """Read the target off the data, set the holdout aside, split the rest into folds.

    Parameters
    ----------
    dataset : Dataset
    target : Target
    splitter : cross-validator, or None
        None makes no folds, for a program that looks at the rows and trains nothing.
    holdout : mapping with `size`, `seed` and perhaps `fold`

    Raises
    ------
    UserError
        Target, metric or split do not fit the data.
    """
    X, y, classes = target.read(dataset.frame, dataset.features)
    check_metric(target.metric, target.direction, len(classes), ordinal=target.ordinal)
    groups = split.identical_rows(X)
    # By the column itself, so that all targets read from it share one holdout.
    strata = dataset.frame[target.column]
    # Runs that were recorded before there was a choice held out the first fold.
    fold = holdout.get("fold", 0)
    training, held_out = split.hold_out(strata, groups, size=holdout["size"], seed=holdout["seed"], fold=fold)
    return Task(
        dataset=dataset,
        target=target,
        classes=classes,
        X=X.iloc[training].reset_index(drop=True),
        y=y.iloc[training].reset_index(drop=True),
        X_holdout=X.iloc[held_out].reset_index(drop=True),
        y_holdout=y.iloc[held_out].reset_index(drop=True),
        folds=split.folds(splitter, X.iloc[training], y.iloc[training], groups[training]) if splitter else [],
        rows=training,
        rows_holdout=held_out,
    )
