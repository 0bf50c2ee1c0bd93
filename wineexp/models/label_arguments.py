"""Arguments of models that speak of labels, such as `class_weight={good: 5}`.

The labels of the training rows are numbered for each fold, and a fold may lack a class. These arguments are therefore
checked against all classes before training, and translated for each fold.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, is_classifier

from wineexp.evaluation.predictions import class_values
from wineexp.models.arguments import change_arguments

# A weight for each label; a word such as "balanced" names no label.
WEIGHTS = ("class_weight", "class_weights")
# The prior probability of each class, in ascending order of the labels.
PRIORS = ("priors", "class_prior")
# A label.
LABEL = ("constant",)
# The number that each class stands for, an argument of models of ordered classes.
VALUES = "class_values"
# What cannot be translated: the names of the numbers, and the rows of each.
REFUSED = ("class_names", "classes_count")

# Models that train the classifier within them on labels of their own.
RELABELLING = ("CumulativeClassifier", "OneVsRestClassifier", "OneVsOneClassifier", "OutputCodeClassifier")


def label_faults(model: ClassifierMixin, classes: Sequence[object]) -> list[str]:
    """What a model's arguments say of labels that the target does not have, one sentence each.

    Parameters
    ----------
    model : classifier
    classes : sequence of n_classes labels
    """
    faults = []
    listed = ", ".join(map(str, classes))

    def check(owners: Sequence[Any], name: str, value: Any) -> Any:
        key, argument = name.rpartition(".")[2], f"model.{name}={value}"
        labels: list[object] = []
        relabelling = _relabelling(owners)
        if not is_classifier(owners[-1]) or value is None or (key in WEIGHTS and isinstance(value, str)):
            return value
        if key in (*WEIGHTS, *PRIORS, *LABEL, VALUES) and relabelling:
            faults.append(f"{argument}: a {relabelling} trains this classifier on other classes than the target's")
        elif key in REFUSED:
            faults.append(f"{argument}: the classes are the target's; leave this argument out")
        elif key in WEIGHTS and isinstance(value, list | tuple):
            faults.append(f"{argument}: give the weights by class, as in {{{classes[0]}: 1, {classes[-1]}: 2}}")
        elif key in (*PRIORS, VALUES) and len(value) != len(classes):
            faults.append(f"{argument}: one value for each class is wanted, in the order of the classes {listed}")
        elif key in WEIGHTS and isinstance(value, Mapping):
            labels = list(value)
        elif key in LABEL:
            labels = [value]
        if unknown := [str(label) for label in labels if _position(label, classes) is None]:
            faults.append(f"{argument}: the target has no class {', '.join(unknown)}; its classes are {listed}")
        return value

    change_arguments(model, check)
    return faults


def translate_labels(estimator: ClassifierMixin, classes: Sequence[object], present: Sequence[int]) -> ClassifierMixin:
    """A clone whose arguments speak of positions in `present` instead of labels.

    What is said of a class that is not present is dropped. Every class that is present gets a weight, because libraries
    refuse weights of some classes only. An argument `class_values` becomes the numbers or positions of those that are
    present.

    Parameters
    ----------
    estimator : classifier
    classes : sequence of n_classes labels
    present : sequence of int
        Positions in `classes` of the labels of the training rows, ascending.

    Raises
    ------
    ValueError
        The one label that an argument names is not present.
    """

    def translate(owners: Sequence[Any], name: str, value: Any) -> Any:
        key = name.rpartition(".")[2]
        if not is_classifier(owners[-1]) or _relabelling(owners):
            return value
        if key in WEIGHTS and isinstance(value, Mapping):
            weights = {_position(label, classes): weight for label, weight in value.items()}
            return {code: weights.get(position, 1.0) for code, position in enumerate(present)}
        if key == VALUES:
            numbers = class_values(classes) if value is None else value
            return [float(position if numbers is None else numbers[position]) for position in present]
        if key in PRIORS and value is not None:
            priors = np.asarray(value, dtype=float)[list(present)]
            return (priors / priors.sum()).tolist()
        if key in LABEL and value is not None:
            position = _position(value, classes)
            if position is None or position not in present:
                raise ValueError(f"model.{name}={value}: the training rows of a fold have no row of this class")
            return list(present).index(position)
        return value

    return change_arguments(estimator, translate)


def _relabelling(owners: Sequence[Any]) -> str | None:
    """The type of the model that trains the innermost of these models on other classes; None where none does."""
    return next((type(owner).__name__ for owner in owners[:-1] if type(owner).__name__ in RELABELLING), None)


def _position(label: object, classes: Sequence[object]) -> int | None:
    """Position of a label, which may be given as text; None where it is no class."""
    return next((place for place, known in enumerate(classes) if label == known or str(label) == str(known)), None)
