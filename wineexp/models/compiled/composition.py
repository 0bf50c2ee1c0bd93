"""Models that hold other models: from a plan's `Part` to the classifier, the regressor or the scores that it computes.

Each is a function from the transformed columns, as those of `classifiers` and `regressors`, and repeats the operations
of wineexp's own ensembles, and of its ordinal models, in their order.
"""

from collections.abc import Callable, Mapping

import numpy as np

from wineexp.core.errors import UserError
from wineexp.models.compiled import calibration, link_functions, support_vectors
from wineexp.models.compiled.arrays import Array, CheckedArrays, Matrix, check_finite
from wineexp.models.compiled.classifiers import (
    CLASSIFIERS,
    Classifier,
    read_boosted_scores,
    read_linear_scores,
    softmax,
)
from wineexp.models.compiled.file_format import Part
from wineexp.models.compiled.regressors import REGRESSORS, Regressor
from wineexp.models.compiled.transformers import TRANSFORMERS, build_transforms

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


def read_scores(part: Part, arrays: CheckedArrays, n_columns: int, n_classes: int) -> Classifier:
    """The scores of a part that is no probability, as scikit-learn's `decision_function` gives them.

    From columns (n_rows, n_columns) to scores (n_rows, n_classes), or (n_rows, 1), of the second of two classes.

    Raises
    ------
    UserError
        As `read_classifier`.
    """
    if part.kind in SCORES:
        return SCORES[part.kind](_without_members(part, arrays), n_columns, n_classes)
    if part.kind == "fixed_classes":
        return _fixed_classes_scores(part, arrays, n_columns, n_classes)
    if part.kind == PIPELINE:
        transformed, n_out = _steps(part, arrays, n_columns)
        scores = read_scores(*_only_member(part, arrays), n_out, n_classes)
        return lambda X: scores(transformed(X))
    raise UserError(f"the plan of the compiled model is wrong: scores of {part.kind} are unknown")


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


def _read_members(part: Part, arrays: CheckedArrays, n_columns: int, n_classes: int) -> list[Classifier]:
    """All members, which predict probabilities of n_classes classes."""
    _require(bool(part.members), part, "one or more")
    return [
        read_classifier(member, arrays.within(f"member{number}"), n_columns, n_classes)
        for number, member in enumerate(part.members)
    ]


def _read_regressors(part: Part, arrays: CheckedArrays, n_columns: int) -> list[Regressor]:
    _require(bool(part.members), part, "one or more")
    return [
        read_regressor(member, arrays.within(f"member{number}"), n_columns)
        for number, member in enumerate(part.members)
    ]


def _fixed_classes(part: Part, arrays: CheckedArrays, n_columns: int, n_classes: int) -> Classifier:
    positions = _present(arrays, n_classes)
    member = read_classifier(*_only_member(part, arrays), n_columns, len(positions))
    return lambda X: of_all_classes(member(X), positions, n_classes)


def _present(arrays: CheckedArrays, n_classes: int) -> Array:
    positions = arrays.get_indices("present", n_classes, None)
    if not len(positions) or len(np.unique(positions)) < len(positions):
        raise UserError("a member of the compiled model must know one class or more, each once")
    return positions


def _fixed_classes_scores(part: Part, arrays: CheckedArrays, n_columns: int, n_classes: int) -> Classifier:
    positions = _present(arrays, n_classes)
    n_present = len(positions)
    if n_present == n_classes:
        return read_scores(*_only_member(part, arrays), n_columns, n_classes)
    below = arrays.get("log_odds_of_missing", "float64", 1)
    # One class alone has no scores.
    of_present = (
        read_scores(*_only_member(part, arrays), n_columns, n_present)
        if n_present > 1
        else lambda X: np.zeros((len(X), 1))
    )

    def scores(X: Matrix) -> Matrix:
        present = of_present(X)
        if n_present == 2:
            present = np.hstack([-present, present])
        of_all = np.tile(present.min(axis=1, keepdims=True) - below, n_classes)
        of_all[:, positions] = present
        return of_all if n_classes > 2 else of_all[:, 1:] - of_all[:, :1]

    return scores


def _finite(part: Part, arrays: CheckedArrays, n_columns: int, n_classes: int) -> Classifier:
    """A member, which gets finite values alone, as models that only decide check them."""
    member = read_classifier(*_only_member(part, arrays), n_columns, n_classes)
    return lambda X: member(check_finite(X))


def _steps(part: Part, arrays: CheckedArrays, n_columns: int) -> tuple[Callable[[Matrix], Matrix], int]:
    """The transformers of a part of the kind `pipeline`, and the number of columns that they return."""
    if unknown := [kind for kind in part.transformers if kind not in TRANSFORMERS]:
        raise UserError(f"the plan of the compiled model is wrong: transformer {unknown[0]} is unknown")
    if part.memory_order not in ("C", "F"):
        raise UserError(f"the plan of the compiled model is wrong: memory_order is {part.memory_order}")
    transforms, n_out = build_transforms(part.transformers, arrays, n_columns)

    def transformed(X: Matrix) -> Matrix:
        values = np.ascontiguousarray(X)
        for transform in transforms:
            values = transform(values)
        return np.asarray(values, order=part.memory_order)  # type: ignore[call-overload, no-any-return]

    return transformed, n_out


def _pipeline(part: Part, arrays: CheckedArrays, n_columns: int, n_classes: int) -> Classifier:
    transformed, n_out = _steps(part, arrays, n_columns)
    member = read_classifier(*_only_member(part, arrays), n_out, n_classes)
    return lambda X: member(transformed(X))


def _pipeline_of_numbers(part: Part, arrays: CheckedArrays, n_columns: int) -> Regressor:
    transformed, n_out = _steps(part, arrays, n_columns)
    member = read_regressor(*_only_member(part, arrays), n_out)
    return lambda X: member(transformed(X))


def _selection(part: Part, arrays: CheckedArrays, n_columns: int, n_classes: int) -> Classifier:
    members = _read_members(part, arrays, n_columns, n_classes)
    weights = arrays.get("weights", "float64", len(members)).tolist()
    # Of length 0 where the mean is not scaled.
    temperature = arrays.get("temperature", "float64", None)
    least = arrays.get("least_probability", "float64", 1)

    def predict_proba(X: Matrix) -> Matrix:
        check_finite(X)
        mean = np.asarray(sum(weight * member(X) for weight, member in zip(weights, members, strict=True)))
        return softmax(np.log(np.maximum(mean, least)) / temperature) if len(temperature) else mean

    return predict_proba


def _stack(part: Part, arrays: CheckedArrays, n_columns: int, n_classes: int) -> Classifier:
    *of_columns, of_predictions = _read_stacked(part)
    members = _read_members(Part(part.kind, of_columns), arrays, n_columns, n_classes)
    final = read_classifier(of_predictions, arrays.within(f"member{len(members)}"), len(members) * n_classes, n_classes)
    least = arrays.get("least_probability", "float64", 1)

    def predict_proba(X: Matrix) -> Matrix:
        check_finite(X)
        return final(np.log(np.maximum(np.hstack([member(X) for member in members]), least)))

    return predict_proba


def _read_stacked(part: Part) -> list[Part]:
    _require(len(part.members) > 1, part, "two or more")
    return part.members


def _selection_of_numbers(part: Part, arrays: CheckedArrays, n_columns: int) -> Regressor:
    members = _read_regressors(part, arrays, n_columns)
    weights = arrays.get("weights", "float64", len(members))

    def predict(X: Matrix) -> Array:
        check_finite(X)
        return (np.column_stack([member(X)[:, 0] for member in members]) @ weights)[:, None]

    return predict


def _stack_of_numbers(part: Part, arrays: CheckedArrays, n_columns: int) -> Regressor:
    *of_columns, of_predictions = _read_stacked(part)
    members = _read_regressors(Part(part.kind, of_columns), arrays, n_columns)
    final = read_regressor(of_predictions, arrays.within(f"member{len(members)}"), len(members))

    def predict(X: Matrix) -> Array:
        check_finite(X)
        return final(np.column_stack([member(X)[:, 0] for member in members])).astype(np.float64)

    return predict


def _scaled_target(part: Part, arrays: CheckedArrays, n_columns: int) -> Regressor:
    """A regressor that has learned a target whose mean and scale are those of scikit-learn's StandardScaler."""
    member = read_regressor(*_only_member(part, arrays), n_columns)
    mean, scale = arrays.get("mean", "float64", 1), arrays.get("scale", "float64", 1)

    def predict(X: Matrix) -> Array:
        numbers = check_finite(member(X))
        numbers *= scale
        numbers += mean
        return numbers

    return predict


def _calibrated(part: Part, arrays: CheckedArrays, n_columns: int, n_classes: int) -> Classifier:
    members = _read_members(part, arrays, n_columns, n_classes)

    def predict_proba(X: Matrix) -> Matrix:
        mean = np.zeros((len(X), n_classes))
        for member in members:
            mean += member(X)
        mean /= len(members)
        return mean

    return predict_proba


def _calibration(part: Part, arrays: CheckedArrays, n_columns: int, n_classes: int) -> Classifier:
    of_scores = bool(arrays.get("of_scores", "bool", 1)[0])
    calibrate = calibration.read_calibration(part.kind, arrays, n_classes, of_scores=of_scores)
    read_member = read_scores if of_scores else read_classifier
    member = read_member(*_only_member(part, arrays), n_columns, n_classes)
    # Of two classes the second one's alone.
    return lambda X: calibrate(member(X)[:, -1:] if n_classes == 2 else member(X))


def _cumulative(part: Part, arrays: CheckedArrays, n_columns: int, n_classes: int) -> Classifier:
    # One for each class but the last: the probabilities of not being above it, and of being so.
    members = _read_members(part, arrays, n_columns, 2)
    _require(len(members) == n_classes - 1, part, f"{n_classes - 1}")

    def predict_proba(X: Matrix) -> Matrix:
        check_finite(X)
        above = np.reshape([member(X)[:, 1] for member in members], (len(members), len(X))).T
        return _from_above(np.minimum.accumulate(above, axis=1))

    return predict_proba


def _thresholds(part: Part, arrays: CheckedArrays, n_columns: int, n_classes: int) -> Classifier:
    member = read_regressor(*_only_member(part, arrays), n_columns)
    thresholds, slope = arrays.get("thresholds", "float64", n_classes - 1), arrays.get("slope", "float64", 1)

    def predict_proba(X: Matrix) -> Matrix:
        above = slope * member(check_finite(X)).astype(np.float64) - thresholds
        link_functions.sigmoid(above)
        return _from_above(above)

    return predict_proba


def _from_above(above: Matrix) -> Matrix:
    """Probabilities of the classes from those of being above each but the last, (n_rows, n_classes - 1)."""
    n_rows = len(above)
    return -np.diff(np.hstack([np.ones((n_rows, 1)), above, np.zeros((n_rows, 1))]), axis=1)


# By kind: scores of classifiers.
SCORES: Mapping[str, Callable[[CheckedArrays, int, int], Classifier]] = {
    "logistic_regression": read_linear_scores,
    "hist_gradient_boosting": read_boosted_scores,
    "support_vectors": support_vectors.read_scores,
}
# Likewise: classifiers with members.
COMPOSED_CLASSIFIERS: Mapping[str, ComposedClassifier] = {
    "fixed_classes": _fixed_classes,
    "finite": _finite,
    PIPELINE: _pipeline,
    "selection": _selection,
    "stack": _stack,
    "calibrated": _calibrated,
    **dict.fromkeys(calibration.KINDS, _calibration),
    "cumulative": _cumulative,
    "thresholds": _thresholds,
}
# Likewise, regressors.
COMPOSED_REGRESSORS: Mapping[str, Callable[[Part, CheckedArrays, int], Regressor]] = {
    PIPELINE: _pipeline_of_numbers,
    "selection_of_numbers": _selection_of_numbers,
    "stack_of_numbers": _stack_of_numbers,
    "scaled_target": _scaled_target,
}
