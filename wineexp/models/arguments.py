"""Arguments of an estimator, and of the estimators within it."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

# From the estimators that an argument lies in, the outermost first, its dotted name, and its value, to another value.
Change = Callable[[Sequence[Any], str, Any], Any]


def change_arguments(estimator: Any, change: Change) -> Any:
    """A copy of an estimator with every argument changed, also those of the estimators within it.

    Parameters
    ----------
    estimator : estimator
        Not fitted.
    change : callable
        From the estimators that an argument lies in, the outermost first, its dotted name
        (`estimator.class_weight`) and its value to the new value.
    """
    # Not a clone: CatBoost copies lists and mappings that it is given, which scikit-learn's `clone` does not accept.
    return _changed((), "", copy.deepcopy(estimator), change)


def _changed(owners: Sequence[Any], name: str, value: Any, change: Change) -> Any:
    prefix = f"{name}." if name else ""
    if _is_estimator(value):
        before = value.get_params(deep=False)
        after = {key: _changed((*owners, value), prefix + key, argument, change) for key, argument in before.items()}
        return value.set_params(**{key: argument for key, argument in after.items() if argument is not before[key]})
    if isinstance(value, dict) and any(map(_is_estimator, value.values())):
        return {key: _changed(owners, f"{prefix}{key}", child, change) for key, child in value.items()}
    if isinstance(value, list) and any(_is_named_estimator(child) for child in value):
        return [
            type(child)([child[0], _changed(owners, f"{prefix}{child[0]}", child[1], change), *child[2:]])
            for child in value
        ]
    return change(owners, name, value)


def estimators_within(estimator: Any, name: str = "model") -> dict[str, Any]:
    """An estimator, not fitted, and those among its arguments, by the dotted name of each, the outermost first."""
    found = {name: estimator}
    for key, value in estimator.get_params(deep=False).items():
        if _is_estimator(value):
            children = {key: value}
        elif isinstance(value, dict):
            children = {f"{key}.{child}": part for child, part in value.items() if _is_estimator(part)}
        elif isinstance(value, list):
            children = {f"{key}.{part[0]}": part[1] for part in value if _is_named_estimator(part)}
        else:
            continue
        for child, part in children.items():
            found |= estimators_within(part, f"{name}.{child}")
    return found


def _is_estimator(value: Any) -> bool:
    """Whether a value has arguments and fits or splits rows; kernels of Gaussian processes have arguments, too."""
    has_arguments = hasattr(value, "get_params") and not isinstance(value, type)
    return has_arguments and (hasattr(value, "fit") or hasattr(value, "split"))


def _is_named_estimator(value: Any) -> bool:
    """Whether a value is a pair of a name and an estimator, of which scikit-learn's VotingClassifier takes a list."""
    return isinstance(value, list | tuple) and len(value) > 1 and _is_estimator(value[1])
