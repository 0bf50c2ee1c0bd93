"""From a fitted model, the models within it included, to the part and the arrays of its compiled model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from wineexp.models.compiled.arrays import Arrays, Matrix
from wineexp.models.compiled.file_format import Part
from wineexp.models.compiled.flatten_models import flatten_simple_classifier, flatten_simple_regressor
from wineexp.models.conformal import ConformalClassifier
from wineexp.models.decision import LossClassifier, MetricClassifier
from wineexp.models.pipeline import FixedClassesClassifier


class Flattened(NamedTuple):
    """A part of a compiled model.

    Attributes
    ----------
    part : Part
    arrays : dict of str to ndarray
        Those of its members have `member0`, `member1`, ... and a dot before their names.
    """

    part: Part
    arrays: Arrays


def flatten_classifier(estimator: Any, sample: Matrix) -> Flattened:
    """The part and the arrays of a fitted classifier of the classes 0 to n_classes - 1.

    Parameters
    ----------
    estimator : classifier
    sample : ndarray of shape (2, n_columns)
        In the memory order in which the classifier gets its input.

    Raises
    ------
    CannotCompileError
        The model, or one within it, is of a kind, or has settings, that cannot be compiled.
    """
    if flatten_composed := COMPOSED_CLASSIFIER_TYPES.get(type(estimator)):
        return flatten_composed(estimator, sample)
    kind, arrays = flatten_simple_classifier(estimator)
    return Flattened(Part(kind), arrays)


def flatten_regressor(estimator: Any, sample: Matrix) -> Flattened:
    """The part and the arrays of a fitted regressor.

    Raises
    ------
    CannotCompileError
        As of `flatten_classifier`.
    """
    if flatten_composed := COMPOSED_REGRESSOR_TYPES.get(type(estimator)):
        return flatten_composed(estimator, sample)
    kind, arrays = flatten_simple_regressor(estimator)
    return Flattened(Part(kind), arrays)


def _compose(kind: str, members: Sequence[Flattened], arrays: Arrays | None = None) -> Flattened:
    """A part with members, and arrays of its own."""
    own = dict(arrays or {})
    for number, member in enumerate(members):
        own |= {f"member{number}.{name}": array for name, array in member.arrays.items()}
    return Flattened(Part(kind, [member.part for member in members]), own)


def _flatten_fixed_classes(estimator: FixedClassesClassifier, sample: Matrix) -> Flattened:
    member = flatten_classifier(estimator.estimator_, sample)
    return _compose("fixed_classes", [member], {"present": estimator.present_.astype(np.int32)})


def _flatten_deciding(estimator: Any, sample: Matrix) -> Flattened:
    # What it has learned for decisions and for prediction sets is in the plan.
    return _compose("finite", [flatten_classifier(estimator.estimator_, sample)])


# By type: classifiers with members.
COMPOSED_CLASSIFIER_TYPES: Mapping[type, Callable[[Any, Matrix], Flattened]] = {
    FixedClassesClassifier: _flatten_fixed_classes,
    **dict.fromkeys((LossClassifier, MetricClassifier, ConformalClassifier), _flatten_deciding),
}
# Likewise, regressors.
COMPOSED_REGRESSOR_TYPES: Mapping[type, Callable[[Any, Matrix], Flattened]] = {}
