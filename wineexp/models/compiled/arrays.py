"""Access to the arrays of a compiled model, which come from a file and are checked before anything is computed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from wineexp.core.errors import UserError

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
Matrix = npt.NDArray[np.float64]


class CheckedArrays:
    """The arrays of one transformer or model.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        All arrays of the compiled model.
    prefix : str
        The first part of the names of these ones, before a dot; empty for all arrays.
    """

    def __init__(self, arrays: Mapping[str, Array], prefix: str) -> None:
        self.arrays = arrays
        self.prefix = prefix

    def within(self, name: str) -> "CheckedArrays":
        """The arrays of a part of it, whose names have that of the part after the prefix."""
        return CheckedArrays(self.arrays, f"{self.prefix}.{name}" if self.prefix else name)

    def get(self, name: str, dtype: str, *shape: int | None) -> Array:
        """The array of a name, C-contiguous, which must have this type and shape; None stands for any length.

        Raises
        ------
        UserError
            The array is missing, or has another type or shape.
        """
        array = self.arrays.get(f"{self.prefix}.{name}")
        if array is None:
            raise UserError(f"the compiled model has no array {self.prefix}.{name}")
        shape_fits = len(array.shape) == len(shape) and all(
            expected in (None, actual) for expected, actual in zip(shape, array.shape, strict=True)
        )
        if array.dtype != np.dtype(dtype) or not shape_fits:
            lengths = ", ".join("any" if length is None else str(length) for length in shape)
            raise UserError(
                f"array {self.prefix}.{name} of the compiled model must be {np.dtype(dtype)} of shape ({lengths}), "
                f"but is {array.dtype} of shape {array.shape}"
            )
        return np.ascontiguousarray(array)

    def get_indices(self, name: str, limit: int, *shape: int | None) -> Array:
        """The array of a name, of int32 and this shape, whose values must be indices: from 0 to limit - 1.

        Raises
        ------
        UserError
            As `get`, or a value is out of this range.
        """
        array = self.get(name, "int32", *shape)
        if array.size and not (array.min() >= 0 and array.max() < limit):
            raise UserError(
                f"array {self.prefix}.{name} of the compiled model holds an index out of the range 0 to {limit - 1}"
            )
        return array


def check_finite(values: Matrix, *, allow_missing: bool = False) -> Matrix:
    """The values, which must be finite, as scikit-learn checks its input; NaN may be allowed.

    Raises
    ------
    ValueError
        A value is infinite, or NaN where this is not allowed.
    """
    if not np.isfinite(np.add.reduce(values, axis=None)):
        faulty = np.isinf(values) if allow_missing else ~np.isfinite(values)
        if faulty.any():
            raise ValueError("a value is infinite or too large")
    return values
