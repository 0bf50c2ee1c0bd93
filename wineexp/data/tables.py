"""The rows of a task as tables, for people and other tools.

No model is trained on these tables. A feature pipeline learns from the rows that it is fitted on, so a table that was
transformed once for all folds would leak each fold's test rows into its training. `train` therefore fits the pipeline
inside each fold. The transformed table holds no row of the holdout.
"""

import numpy as np
import pandas as pd
from sklearn.base import TransformerMixin

from wineexp.data.groups import group_identical_rows
from wineexp.data.task import Task
from wineexp.evaluation import cross_validation


def cleaned(task: Task) -> pd.DataFrame:
    """Every row of the data set, parsed and validated, in its order.

    Returns
    -------
    DataFrame of shape (n_samples, 4 + n_features)
        `row` (position in the data set), `part` (`training`, `holdout`, or `left out` of both, as earlier copies of
        held-out rows are where the latest rows are held out), `copy_of` (position of the first row with the same
        measurements, missing in that row itself), the measurements, and the column that the target is read from.
    """
    X, y, _ = task.target.read(task.dataset.frame, task.dataset.features)
    row = pd.Series(range(len(X)))
    part = np.full(len(X), "left out", dtype=object)
    part[task.rows], part[task.rows_holdout] = "training", "holdout"
    first = row.groupby(group_identical_rows(X)).transform("min")
    origin = pd.DataFrame({"row": row, "part": part, "copy_of": first.astype("Int64").where(first != row)})
    return origin.join(X).assign(**{task.target.column: y})


def featured(task: Task, feature: TransformerMixin) -> pd.DataFrame:
    """The training rows, transformed by a feature pipeline that is fitted on all of them, as for the final model.

    Returns
    -------
    DataFrame of shape (n_training, 2 + n_transformed_features)
        `row`, the transformed features, and the column that the target is read from.

    Raises
    ------
    UserError
        The pipeline cannot be fitted on the data, or refuses one of its own parameters.
    """
    fitted = cross_validation.fit(feature, task.X, task.y, fitted_rows=task.fitted_rows)
    table = pd.DataFrame(fitted.transform(task.X), columns=fitted.get_feature_names_out())
    table.insert(0, "row", task.rows)
    return table.assign(**{task.target.column: task.y})
