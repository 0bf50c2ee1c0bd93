"""Feature steps over plain arrays: the same operations of numpy as in `wineexp.models.features`."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from wineexp.core.errors import UserError
from wineexp.models.compiled import kernel, native

Array = npt.NDArray[Any]
Numbers = npt.NDArray[np.float64]
Step = Callable[[Numbers], Numbers]

# A step in numpy, the columns that it gives, and the two arrays with which C does the same, where it can.
Made = tuple[Step, int, tuple[Array, Array] | None]


class Arrays:
    """The arrays of one step or model, each held against what it must be before anything is computed with it.

    Parameters
    ----------
    found : mapping of str to ndarray
    prefix : str
        Of their names.
    """

    def __init__(self, found: Mapping[str, Array], prefix: str) -> None:
        self.found = found
        self.prefix = prefix

    def take(self, name: str, kind: str, *shape: int | None) -> Array:
        """The array of a name, which must have this type and shape; None is any length.

        Raises
        ------
        UserError
            It is missing, or is another.
        """
        array = self.found.get(f"{self.prefix}.{name}")
        if array is None:
            raise UserError(f"its compiled form has no array {self.prefix}.{name}")
        fits = len(array.shape) == len(shape) and all(
            wanted in (None, had) for wanted, had in zip(shape, array.shape, strict=True)
        )
        if array.dtype != np.dtype(kind) or not fits:
            wanted = "x".join("any" if each is None else str(each) for each in shape)
            raise UserError(
                f"array {self.prefix}.{name} of its compiled form is {array.dtype} of shape {array.shape}; "
                f"{np.dtype(kind)} of {wanted or 'no dimension'} is wanted"
            )
        return np.ascontiguousarray(array)

    def places(self, name: str, limit: int, *shape: int | None) -> Array:
        """As `take`, of whole numbers that are places in something of that length.

        Raises
        ------
        UserError
            As `take`, or one is beyond.
        """
        array = self.take(name, "int32", *shape)
        if array.size and not (array.min() >= 0 and array.max() < limit):
            raise UserError(f"array {self.prefix}.{name} of its compiled form names a place that is not there")
        return array


def finite(values: Numbers, *, missing: bool = False) -> Numbers:
    """The values, which must be finite, or missing where they may be: as scikit-learn checks them.

    Raises
    ------
    ValueError
        One is not.
    """
    if not np.isfinite(np.add.reduce(values, axis=None)):
        wrong = np.isinf(values) if missing else ~np.isfinite(values)
        if wrong.any():
            raise ValueError("a value is infinite or too large")
    return values


def _ratios(arrays: Arrays, width: int) -> Made:
    over, under = arrays.places("over", width, None), arrays.places("under", width, None)
    if len(over) != len(under):
        raise UserError("the ratios of its compiled form lack a side")

    def step(values: Numbers) -> Numbers:
        finite(values, missing=True)
        below = values[:, under]
        added = np.divide(values[:, over], below, out=np.zeros(below.shape), where=below != 0)
        return np.hstack([values, added])

    return step, width + len(over), (over, under)


def _impute(arrays: Arrays, width: int) -> Made:
    fill = arrays.take("fill", "float64", width)

    def step(values: Numbers) -> Numbers:
        return np.where(np.isnan(finite(values, missing=True)), fill, values)

    return step, width, (fill, fill)


def _scale(arrays: Arrays, width: int) -> Made:
    mean, scale = arrays.take("mean", "float64", width), arrays.take("scale", "float64", width)

    def step(values: Numbers) -> Numbers:
        moved: Numbers = np.subtract(finite(values, missing=True), mean)
        return np.divide(moved, scale, out=moved)

    return step, width, (mean, scale)


def _products(arrays: Arrays, width: int) -> Made:
    left, right = arrays.places("left", width, None), arrays.places("right", width, None)
    if len(left) != len(right):
        raise UserError("the products of its compiled form lack a side")
    total = width + len(left)

    def step(values: Numbers) -> Numbers:
        made = np.empty((len(values), total))
        made[:, :width] = finite(values)
        np.multiply(values[:, left], values[:, right], out=made[:, width:])
        return made

    return step, total, (left, right)


def _clip(arrays: Arrays, width: int) -> Made:
    low, high = arrays.take("low", "float64", width), arrays.take("high", "float64", width)
    return lambda values: np.clip(finite(values), low, high), width, (low, high)


def _log(arrays: Arrays, width: int) -> Made:
    skewed = arrays.take("skewed", "bool", width)
    # Numpy has logarithms of its own, whose last bits are not the C library's on every processor.
    return lambda values: np.where(skewed, np.log1p(np.maximum(finite(values), 0)), values), width, None


STEPS: dict[str, Callable[[Arrays, int], Made]] = {
    "ratios": _ratios,
    "impute": _impute,
    "scale": _scale,
    "products": _products,
    "clip": _clip,
    "log": _log,
}


def steps(kinds: list[str], arrays: Mapping[str, Array], width: int) -> tuple[list[Step], int]:
    """Steps one after the other, from that many columns, and how many they give; in C, as many at once as can be.

    Raises
    ------
    UserError
        An array is missing, or no such array.
    """
    found: list[Step] = []
    run: list[tuple[str, int, int, Array, Array]] = []

    def end() -> None:
        if run:
            found.append(native.Steps(run))
            run.clear()

    for place, kind in enumerate(kinds):
        step, after, told = STEPS[kind](Arrays(arrays, f"step{place}"), width)
        if told is not None and kernel.library() is not None:
            run.append((kind, width, after, *told))
        else:
            end()
            found.append(step)
        width = after
    end()
    return found, width
