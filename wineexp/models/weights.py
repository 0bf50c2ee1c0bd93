"""Weights of rows: which models can be fitted with them, and how they are passed on."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import is_classifier, is_regressor
from sklearn.utils.validation import has_fit_parameter

from wineexp.models.arguments import estimators_within

Weights = npt.NDArray[np.float64] | None


def weight_options(weights: Weights, rows: Any = slice(None)) -> dict[str, npt.NDArray[np.float64]]:
    """Options of `fit` for some of the rows: none where there are no weights, since not every model takes them."""
    return {} if weights is None else {"sample_weight": weights[rows]}


def unweighted_faults(model: Any) -> list[str]:
    """Which of a model and the models within it cannot be fitted with weights, one sentence each."""
    return [
        f"{name}: a {type(one).__name__} takes no weights of rows, and the data set has some (data.weight); choose "
        "another model, or data.weight=null to let every row count the same"
        for name, one in estimators_within(model).items()
        if (is_classifier(one) or is_regressor(one)) and not has_fit_parameter(one, "sample_weight")
    ]
