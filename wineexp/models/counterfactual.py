"""Counterfactuals: the smallest change of a row with which the model decides on another class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wineexp.models.change_search import ChangeSearch, Decide, PredictProba
from wineexp.models.grid_changes import flips_on_grid
from wineexp.models.leaf_boxes import LeafBoxes
from wineexp.models.threshold_changes import flips_of_trees
from wineexp.models.training_values import TrainingValues

# Flips that the model predicts at once, the nearest first, until one is verified.
FLIPS_PER_VERIFICATION = 16


@dataclass(frozen=True)
class Change:
    """The smallest change that the search found.

    Attributes
    ----------
    values : dict of str to float or str
        The new values, by feature.
    distance : float
        The sum over the changed features, each in units of its spread.
    label : object
        The class of the changed row.
    probability : float
        Of this class.
    """

    values: dict[str, float | str]
    distance: float
    label: object
    probability: float


def smallest_change(
    predict_proba: PredictProba,
    decide: Decide,
    classes: Sequence[object],
    row: Mapping[str, Any],
    training_values: TrainingValues,
    boxes: LeafBoxes | None = None,
) -> Change | None:
    """The smallest change of one or two features with which the model decides on another class.

    For trees, whose decisions change at the thresholds of their splits alone, it is the smallest one over all
    thresholds; of two features with more than `threshold_changes.MAX_CELLS` thresholds within reach, some pairs are
    left out. For other models it is sought on a grid over the training values; a change that flips the decision is
    then made smaller as long as it flips. The model has predicted the returned change itself.

    Parameters
    ----------
    predict_proba : callable
        From rows, given as an array for each feature, to probabilities of shape (n, n_classes).
    decide : callable
        From those to positions in `classes`, of shape (n,).
    classes : list of n_classes labels
    row : mapping
        The value of each feature; None or NaN where it is missing.
    training_values : mapping of str to NumericRange or Categories
        In the order of the model's features.
    boxes : LeafBoxes, optional
        Of the model's trees.

    Returns
    -------
    Change or None
        None where no change within the training range, or none on the grid, flips the decision.
    """
    search = ChangeSearch(predict_proba, decide, row, training_values)
    flips = flips_of_trees(search, boxes) if boxes is not None else flips_on_grid(search)
    flips.sort(key=lambda flip: flip.distance)
    for start in range(0, len(flips), FLIPS_PER_VERIFICATION):
        nearest = flips[start : start + FLIPS_PER_VERIFICATION]
        # The sums of trees, and a rounded value, may be on the other side by a last bit.
        changes = [change for flip in nearest for change in (search.rounded(flip), flip.values)]
        probabilities = predict_proba(search.rows(changes))
        codes = decide(probabilities)
        for change, code, shares in zip(changes, codes.tolist(), probabilities, strict=True):
            if code != search.code:
                return Change(change, search.distance(change), classes[code], float(shares[code]))
    return None
