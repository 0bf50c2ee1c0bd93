"""The package of a version: the files that are stored with its model and covered by its checksums."""

from collections.abc import Mapping

import msgspec
import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin

from wineexp.data import schema
from wineexp.data.task import Task
from wineexp.evaluation.cross_validation import Fold, error_distribution
from wineexp.evaluation.intervals import COVERAGE
from wineexp.evaluation.predictions import NumberPredictions, Predictions
from wineexp.models import background, manifest, persistence
from wineexp.monitoring import reference
from wineexp.reports import document
from wineexp.reports.card.card import card
from wineexp.reports.card.inputs import Baseline, CardInputs

# Rows whose predictions are stored.
GOLDEN_ROWS = 20


def files(
    task: Task,
    folds: list[Fold],
    fitted: ClassifierMixin,
    holdout: Predictions | NumberPredictions | None,
    baseline: Baseline | None,
    importance: pd.DataFrame | None,
    *,
    params: Mapping[str, str],
    tags: Mapping[str, str],
) -> dict[str, str | bytes]:
    """What is stored with the model of a version, by file name.

    The golden rows, the background of explanations, the reference of its monitor, the schema and the model card.

    Parameters
    ----------
    task : Task
    folds : list of Fold
    fitted : classifier
    holdout : Predictions or NumberPredictions, or None
    baseline : Baseline or None
        What the card compares with.
    importance : DataFrame of shape (n_features, n_repeats), or None
    params, tags : mapping of str to str
        As recorded.
    """
    X = task.X
    golden_rows = X.iloc[np.unique(np.linspace(0, len(X) - 1, GOLDEN_ROWS).round().astype(int))]
    inputs = CardInputs(task, folds, holdout, baseline, params, tags, importance)
    model_card = card(inputs)
    return {
        manifest.GOLDEN_ROWS_FILE: persistence.write_golden_rows(fitted, golden_rows),
        manifest.BACKGROUND_FILE: background.to_json(background.representative_rows(X)),
        manifest.REFERENCE_FILE: reference.to_json(reference.make_reference(task, folds)),
        schema.FILE_NAME: schema.to_json(
            msgspec.structs.replace(
                task.schema(params["data"], params["target"]),
                ranking=inputs.ranked_features,
                intervals=_intervals(folds),
            )
        ),
        manifest.CARD_FILE: document.markdown(model_card),
        manifest.CARD_PAGE_FILE: document.html(model_card),
    }


def _intervals(folds: list[Fold]) -> schema.Intervals | None:
    errors = error_distribution(folds)
    if errors is None:
        return None
    low, high = errors.offsets()
    return schema.Intervals(COVERAGE, errors.edges.tolist(), low.tolist(), high.tolist())
