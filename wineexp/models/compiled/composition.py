"""Models that hold other models: from a plan's `Part` to the classifier, the regressor or the scores that it computes.

Each is a function from the transformed columns, as those of `classifiers` and `regressors`, and repeats the operations
of wineexp's own ensembles, and of its ordinal models, in their order.
"""

from collections.abc import Callable, Mapping

import numpy as np

from wineexp.core.errors import UserError
from wineexp.models.compiled.arrays import Array, CheckedArrays, Matrix, check_finite
from wineexp.models.compiled.classifiers import CLASSIFIERS, Classifier
from wineexp.models.compiled.file_format import Part
from wineexp.models.compiled.regressors import REGRESSORS, Regressor

# Kinds with members that get other columns: that of the kind `pipeline`, and the last one of each of the others.
PIPELINE, STACKS = "pipeline", ("stack", "stack_of_numbers")

# From its part, its arrays, its number of columns, and how many classes it tells apart.
ComposedClassifier = Callable[[Part, CheckedArrays, int, int], Classifier]


def read_classifier(part: Part, arrays: CheckedArrays, n_columns: int, n_classes: int) -> Classifier:
    """The classifier of a part, from columns (n_rows, n_columns) to probabilities (n_rows, n_classes).

    Raises
    ------
    UserError
        Its kind is unknown, it has not the members that its kind has, or an array is missing or malformed.
    """
    if part.kind in CLASSIFIERS:
        return CLASSIFIERS[part.kind](_without_members(part, arrays), n_columns, n_classes)
    if part.kind in COMPOSED_CLASSIFIERS:
        return COMPOSED_CLASSIFIERS[part.kind](part, arrays, n_columns, n_classes)
    raise UserError(f"the plan of the compiled model is wrong: classifier {part.kind} is unknown")


def read_regressor(part: Part, arrays: CheckedArrays, n_columns: int) -> Regressor:
    """The regressor of a part, from columns (n_rows, n_columns) to numbers (n_rows, 1).

    Raises
    ------
    UserError
        As `read_classifier`.
    """
    if part.kind in REGRESSORS:
        return REGRESSORS[part.kind](_without_members(part, arrays), n_columns)
    if part.kind in COMPOSED_REGRESSORS:
        return COMPOSED_REGRESSORS[part.kind](part, arrays, n_columns)
    raise UserError(f"the plan of the compiled model is wrong: regressor {part.kind} is unknown")


def of_all_classes(present: Matrix, positions: Array, n_classes: int) -> Matrix:
    """Probabilities of shape (n_rows, n_classes) from those of the classes in the training rows, which it overwrites.

    As `wineexp.models.pipeline.FixedClassesClassifier` computes them.
    """
    present /= present.sum(axis=1, keepdims=True)
    if len(positions) == n_classes:
        return np.ascontiguousarray(present)
    probabilities = np.zeros((len(present), n_classes))
    probabilities[:, positions] = present
    return probabilities


def _without_members(part: Part, arrays: CheckedArrays) -> CheckedArrays:
    _require(not part.members, part, "none")
    return arrays


def _only_member(part: Part, arrays: CheckedArrays) -> tuple[Part, CheckedArrays]:
    _require(len(part.members) == 1, part, "one")
    return part.members[0], arrays.within("member0")


def _require(holds: bool, part: Part, expected: str) -> None:
    if not holds:
        raise UserError(
            f"the plan of the compiled model is wrong: {part.kind} has {len(part.members)} members, but must "
            f"have {expected}"
        )


def _fixed_classes(part: Part, arrays: CheckedArrays, n_columns: int, n_classes: int) -> Classifier:
    positions = arrays.get_indices("present", n_classes, None)
    if not len(positions) or len(np.unique(positions)) < len(positions):
        raise UserError("a member of the compiled model must know one class or more, each once")
    member = read_classifier(*_only_member(part, arrays), n_columns, len(positions))
    return lambda X: of_all_classes(member(X), positions, n_classes)


def _finite(part: Part, arrays: CheckedArrays, n_columns: int, n_classes: int) -> Classifier:
    """A member, which gets finite values alone, as models that only decide check them."""
    member = read_classifier(*_only_member(part, arrays), n_columns, n_classes)
    return lambda X: member(check_finite(X))


# By kind: classifiers with members.
COMPOSED_CLASSIFIERS: Mapping[str, ComposedClassifier] = {
    "fixed_classes": _fixed_classes,
    "finite": _finite,
}
# Likewise, regressors.
COMPOSED_REGRESSORS: Mapping[str, Callable[[Part, CheckedArrays, int], Regressor]] = {}
