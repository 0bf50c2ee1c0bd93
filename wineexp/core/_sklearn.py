"""The private part of scikit-learn that configs are checked with: the constraints that an estimator declares."""

from typing import Any


def declares_constraint(estimator: Any, parameter: str) -> bool:
    """Whether a class or function of scikit-learn says which values a parameter may have."""
    return parameter in getattr(estimator, "_parameter_constraints", {})


def constraint_violation(estimator: Any, parameter: str, value: Any) -> str | None:
    """Why a declared constraint forbids a value, in scikit-learn's words; None where the value is allowed."""
    from sklearn.utils._param_validation import InvalidParameterError, validate_parameter_constraints

    constraints = {parameter: estimator._parameter_constraints[parameter]}
    try:
        validate_parameter_constraints(constraints, {parameter: value}, caller_name=estimator.__name__)
    except InvalidParameterError as error:
        return str(error)
    return None
