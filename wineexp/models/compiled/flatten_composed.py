"""From a fitted model, the models within it included, to the part and the arrays of its compiled model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from wineexp.models.compiled._sklearn import calibrators
from wineexp.models.compiled.arrays import Arrays, Matrix
from wineexp.models.compiled.file_format import Part
from wineexp.models.compiled.flatten_features import flatten_steps
from wineexp.models.compiled.flatten_models import (
    flatten_simple_classifier,
    flatten_simple_regressor,
    flatten_simple_scores,
)
from wineexp.models.compiled.refusal import require
from wineexp.models.conformal import ConformalClassifier
from wineexp.models.decision import LossClassifier, MetricClassifier
from wineexp.models.ensemble import MIN_PROBABILITY, SelectionClassifier, StackClassifier
from wineexp.models.ensemble_of_numbers import MeanRegressor, SelectionRegressor, StackRegressor
from wineexp.models.ordinal import CumulativeClassifier, ThresholdClassifier
from wineexp.models.pipeline import LOG_ODDS_OF_MISSING, FixedClassesClassifier


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


def flatten_scores(estimator: Any, sample: Matrix) -> Flattened:
    """The part and the arrays of the `decision_function` of a fitted classifier of the classes 0 to n_classes - 1.

    Raises
    ------
    CannotCompileError
        As of `flatten_classifier`.
    """
    if type(estimator) is FixedClassesClassifier:
        own = {"present": estimator.present_.astype(np.int32), "log_odds_of_missing": np.array([LOG_ODDS_OF_MISSING])}
        has_scores = len(estimator.present_) > 1
        return _compose("fixed_classes", [flatten_scores(estimator.estimator_, sample)] if has_scores else [], own)
    if type(estimator) is Pipeline:
        return _flatten_pipeline(flatten_scores)(estimator, sample)
    kind, arrays = flatten_simple_scores(estimator)
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


def _flatten_pipeline(
    flatten_last: Callable[[Any, Matrix], Flattened],
) -> Callable[[Pipeline, Matrix], Flattened]:
    def flatten(estimator: Pipeline, sample: Matrix) -> Flattened:
        kinds, arrays = flatten_steps(list(estimator[:-1]), sample.shape[1])
        matrix = np.asarray(estimator[:-1].transform(sample))
        composed = _compose("pipeline", [flatten_last(estimator[-1], matrix)], arrays)
        order = "C" if matrix.flags.c_contiguous else "F"
        return composed._replace(part=msgspec.structs.replace(composed.part, transformers=kinds, memory_order=order))

    return flatten


def _flatten_selection(estimator: SelectionClassifier, sample: Matrix) -> Flattened:
    temperature = [] if estimator.temperature_ is None else [estimator.temperature_]
    own = {
        "weights": np.array([estimator.weights_[name] for name in estimator.members_]),
        "temperature": np.array(temperature, dtype=np.float64),
        "least_probability": np.array([MIN_PROBABILITY]),
    }
    return _compose("selection", [flatten_classifier(one, sample) for one in estimator.members_.values()], own)


def _flatten_stack(estimator: StackClassifier, sample: Matrix) -> Flattened:
    members = [flatten_classifier(one, sample) for one in estimator.members_.values()]
    predictions = np.zeros((len(sample), len(members) * len(estimator.classes_)))
    final = flatten_classifier(estimator.final_, predictions)
    return _compose("stack", [*members, final], {"least_probability": np.array([MIN_PROBABILITY])})


def _flatten_calibrated(estimator: CalibratedClassifierCV, sample: Matrix) -> Flattened:
    members = []
    for classifier, of_classes in calibrators(estimator):
        of_scores = hasattr(classifier, "decision_function")
        member = (flatten_scores if of_scores else flatten_classifier)(classifier, sample)
        own = _flatten_calibrators(estimator.method, of_classes) | {"of_scores": np.array([of_scores])}
        members.append(_compose(f"{estimator.method}_calibration", [member], own))
    return _compose("calibrated", members)


def _flatten_calibrators(method: str, fitted: list[Any]) -> Arrays:
    match method:
        case "sigmoid":
            return {"slope": np.array([one.a_ for one in fitted]), "offset": np.array([one.b_ for one in fitted])}
        case "temperature":
            return {"inverse_temperature": np.array([fitted[0].beta_])}
        case _:
            arrays: Arrays = {}
            for number, one in enumerate(fitted):
                arrays |= {f"knots{number}": one.X_thresholds_, f"values{number}": one.y_thresholds_}
            return arrays


def _flatten_cumulative(estimator: CumulativeClassifier, sample: Matrix) -> Flattened:
    return _compose("cumulative", [flatten_classifier(one, sample) for one in estimator.estimators_])


def _flatten_thresholds(estimator: ThresholdClassifier, sample: Matrix) -> Flattened:
    own = {"thresholds": estimator.thresholds_, "slope": np.array([estimator.slope_])}
    return _compose("thresholds", [flatten_regressor(estimator.estimator_, sample)], own)


def _flatten_weighted(estimator: MeanRegressor | SelectionRegressor, sample: Matrix) -> Flattened:
    weights = np.array([estimator.weights_[name] for name in estimator.members_])
    members = [flatten_regressor(one, sample) for one in estimator.members_.values()]
    return _compose("selection_of_numbers", members, {"weights": weights})


def _flatten_stack_of_numbers(estimator: StackRegressor, sample: Matrix) -> Flattened:
    members = [flatten_regressor(one, sample) for one in estimator.members_.values()]
    final = flatten_regressor(estimator.final_, np.zeros((len(sample), len(members))))
    return _compose("stack_of_numbers", [*members, final])


def _flatten_scaled_target(estimator: TransformedTargetRegressor, sample: Matrix) -> Flattened:
    scaler = estimator.transformer_
    require(type(scaler) is StandardScaler and scaler.with_mean and scaler.with_std, estimator)
    own = {"mean": scaler.mean_, "scale": scaler.scale_}
    return _compose("scaled_target", [flatten_regressor(estimator.regressor_, sample)], own)


# By type: classifiers with members.
COMPOSED_CLASSIFIER_TYPES: Mapping[type, Callable[[Any, Matrix], Flattened]] = {
    FixedClassesClassifier: _flatten_fixed_classes,
    **dict.fromkeys((LossClassifier, MetricClassifier, ConformalClassifier), _flatten_deciding),
    Pipeline: _flatten_pipeline(flatten_classifier),
    SelectionClassifier: _flatten_selection,
    StackClassifier: _flatten_stack,
    CalibratedClassifierCV: _flatten_calibrated,
    CumulativeClassifier: _flatten_cumulative,
    ThresholdClassifier: _flatten_thresholds,
}
# Likewise, regressors.
COMPOSED_REGRESSOR_TYPES: Mapping[type, Callable[[Any, Matrix], Flattened]] = {
    Pipeline: _flatten_pipeline(flatten_regressor),
    **dict.fromkeys((MeanRegressor, SelectionRegressor), _flatten_weighted),
    StackRegressor: _flatten_stack_of_numbers,
    TransformedTargetRegressor: _flatten_scaled_target,
}
