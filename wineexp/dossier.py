"""The dossier of a version: the files that are stored and sealed with its model."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin

from wineexp import artifact, card, schema, seal
from wineexp.evaluation import Answers, Fold
from wineexp.facts import Baseline, Facts
from wineexp.problem import Problem

CARD, CARD_PAGE = "card.md", "card.html"

# Rows whose answers are stored.
GOLDEN_ROWS = 20


def files(
    problem: Problem,
    folds: list[Fold],
    fitted: ClassifierMixin,
    holdout: Answers | None,
    baseline: Baseline | None,
    importance: pd.DataFrame | None,
    *,
    params: Mapping[str, str],
    tags: Mapping[str, str],
) -> dict[str, str | bytes]:
    """Its golden rows, its schema and its card, by name.

    Parameters
    ----------
    problem : Problem
    folds : list of Fold
    fitted : classifier
    holdout : Answers or None
    baseline : Baseline or None
        What the card sets beside it.
    importance : DataFrame of shape (n_features, n_repeats), or None
    params, tags : mapping of str to str
        As recorded.
    """
    X = problem.X
    some = X.iloc[np.unique(np.linspace(0, len(X) - 1, GOLDEN_ROWS).round().astype(int))]
    facts = Facts(problem, folds, holdout, baseline, params, tags, importance)
    return {
        seal.GOLDEN: artifact.golden(fitted, some),
        schema.NAME: schema.write(problem.schema(params["data"], params["target"])),
        CARD: card.markdown(facts),
        CARD_PAGE: card.html(facts),
    }
