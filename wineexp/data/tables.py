"""A task's rows as tables for people and other tools.

Nothing that is scored reads them. What a feature pipeline learns, it learns from rows: a table that was featured once,
for all folds, would show each fold's model what its test rows look like. So `train` fits the pipeline inside the fold,
on the rows that `data` gives; and of the rows held out, the featured table has none.
"""

import pandas as pd
from sklearn.base import TransformerMixin

from wineexp.data import split
from wineexp.data.task import Task
from wineexp.evaluation import cross_validation


def cleaned(task: Task) -> pd.DataFrame:
    """Every row of the data, parsed and held against the schema; nothing is learned from it.

    Returns
    -------
    DataFrame of shape (n_samples, 4 + n_features)
        `row` (position in the data set), `part` (`training` or `holdout`), `copy_of` (the first row with the same
        measurements, empty for that one itself), the measurements, and the label, under its column's name.
    """
    X = pd.concat([task.X, task.X_holdout], ignore_index=True)
    y = pd.concat([task.y, task.y_holdout], ignore_index=True)
    row = pd.Series([*task.rows, *task.rows_holdout], dtype=int)
    part = ["training"] * len(task.rows) + ["holdout"] * len(task.rows_holdout)
    first = row.groupby(split.identical_rows(X)).transform("min")
    told = pd.DataFrame({"row": row, "part": part, "copy_of": first.astype("Int64").where(first != row)})
    return told.join(X).assign(**{task.target.column: y}).sort_values("row")


def featured(task: Task, feature: TransformerMixin) -> pd.DataFrame:
    """What a feature pipeline makes of the training rows, fitted on all of them: as the final model sees them.

    Returns
    -------
    DataFrame of shape (n_training, 2 + n_made)
        `row`, what the pipeline makes, and the label.

    Raises
    ------
    UserError
        The pipeline refuses the data or one of its own parameters.
    """
    fitted = cross_validation.fit(feature, task.X, task.y)
    made = pd.DataFrame(fitted.transform(task.X), columns=fitted.get_feature_names_out())
    made.insert(0, "row", task.rows)
    return made.assign(**{task.target.column: task.y})
