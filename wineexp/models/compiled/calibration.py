"""scikit-learn's calibration over plain arrays: from the scores or probabilities of a classifier to probabilities."""

from collections.abc import Callable, Mapping

import numpy as np

from wineexp.core.errors import UserError
from wineexp.models.compiled import link_functions
from wineexp.models.compiled.arrays import CheckedArrays, Matrix
from wineexp.models.compiled.classifiers import softmax

# From predictions (n_rows, n_predictions), of two classes the second one's alone, to probabilities (n_rows, n_classes).
Calibration = Callable[[Matrix], Matrix]

# As in scikit-learn: what is added to probabilities before their logarithm, and how far above 1 one is reduced to it.
ADDED_TO_PROBABILITIES, MAX_EXCESS = 1e-12, 1e-5


def _sigmoid(arrays: CheckedArrays, n_predictions: int) -> Calibration:
    slope = arrays.get("slope", "float64", n_predictions)
    offset = arrays.get("offset", "float64", n_predictions)

    def calibrate(predictions: Matrix) -> Matrix:
        calibrated = np.array(slope * predictions + offset, order="C")
        link_functions.sigmoid(np.negative(calibrated, out=calibrated))
        return calibrated

    return calibrate


def _isotonic(arrays: CheckedArrays, n_predictions: int) -> Calibration:
    curves = []
    for number in range(n_predictions):
        knots = arrays.get(f"knots{number}", "float64", None)
        curves.append((knots, arrays.get(f"values{number}", "float64", len(knots))))
        if not len(knots) or not (np.diff(knots) > 0).all():
            raise UserError("an isotonic curve of the compiled model has no ascending knots")

    def calibrate(predictions: Matrix) -> Matrix:
        calibrated = np.empty(predictions.shape)
        for number, (knots, values) in enumerate(curves):
            calibrated[:, number] = np.interp(predictions[:, number], knots, values)
        return calibrated

    return calibrate


# By kind: what calibrates the prediction of each class on its own, from its arrays and the number of predictions.
_CALIBRATIONS: Mapping[str, Callable[[CheckedArrays, int], Calibration]] = {
    "sigmoid_calibration": _sigmoid,
    "isotonic_calibration": _isotonic,
}
TEMPERATURE = "temperature_calibration"
KINDS = (*_CALIBRATIONS, TEMPERATURE)


def read_calibration(kind: str, arrays: CheckedArrays, n_classes: int, *, of_scores: bool) -> Calibration:
    """The calibration of a kind, one of `KINDS`.

    Parameters
    ----------
    kind : str
    arrays : CheckedArrays
    n_classes : int
    of_scores : bool
        Whether it calibrates scores; else probabilities.

    Raises
    ------
    UserError
        An array is missing or malformed.
    """
    if kind == TEMPERATURE:
        return _temperature(arrays, of_scores=of_scores)
    calibrate = _CALIBRATIONS[kind](arrays, 1 if n_classes == 2 else n_classes)

    def normalized(predictions: Matrix) -> Matrix:
        calibrated = calibrate(predictions)
        if n_classes == 2:
            return _at_most_one(np.hstack([1.0 - calibrated, calibrated]))
        total = np.sum(calibrated, axis=1)[:, np.newaxis]
        # Where all are 0, all classes are equally probable.
        uniform = np.full_like(calibrated, 1 / n_classes)
        return _at_most_one(np.divide(calibrated, total, out=uniform, where=total != 0))

    return normalized


def _temperature(arrays: CheckedArrays, *, of_scores: bool) -> Calibration:
    factor = arrays.get("inverse_temperature", "float64", 1)

    def calibrate(predictions: Matrix) -> Matrix:
        if predictions.shape[1] == 1:
            predictions = np.concatenate([-predictions if of_scores else 1 - predictions, predictions], axis=1)
        # scikit-learn tells probabilities by their values, and those of all rows together.
        are_probabilities = ((predictions >= 0) & (predictions <= 1)).all() and np.isclose(
            np.sum(predictions, axis=1), 1.0
        ).all()
        return _at_most_one(
            softmax(factor * (np.log(predictions + ADDED_TO_PROBABILITIES) if are_probabilities else predictions))
        )

    return calibrate


def _at_most_one(probabilities: Matrix) -> Matrix:
    probabilities[(probabilities > 1.0) & (probabilities <= 1.0 + MAX_EXCESS)] = 1.0
    return probabilities
