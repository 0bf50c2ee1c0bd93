"""Transformers over plain arrays, with the operations of scikit-learn's and of `wineexp.models.transformers`."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from wineexp.core import dates
from wineexp.core.errors import UserError
from wineexp.models.compiled import kernel
from wineexp.models.compiled.arrays import Array, CheckedArrays, Matrix, check_finite
from wineexp.models.compiled.kernel_calls import KernelTransformers, TransformerCall

# From a matrix of shape (n_rows, n_in) to one of shape (n_rows, n_out).
Transform = Callable[[Matrix], Matrix]


class Transformer(NamedTuple):
    """A transformer with numpy, and what the kernel needs to compute the same.

    Attributes
    ----------
    transform : callable
    n_out : int
        Columns that it returns.
    kernel_arrays : tuple of two ndarrays, or None
        None where the kernel cannot compute the same bits.
    """

    transform: Transform
    n_out: int
    kernel_arrays: tuple[Array, Array] | None


def _ratios(arrays: CheckedArrays, n_in: int) -> Transformer:
    numerators = arrays.get_indices("numerators", n_in, None)
    denominators = arrays.get_indices("denominators", n_in, None)
    if len(numerators) != len(denominators):
        raise UserError("the ratios of the compiled model have not as many numerators as denominators")

    def transform(values: Matrix) -> Matrix:
        check_finite(values, allow_missing=True)
        divisors = values[:, denominators]
        ratios = np.divide(values[:, numerators], divisors, out=np.zeros(divisors.shape), where=divisors != 0)
        return np.hstack([values, ratios])

    return Transformer(transform, n_in + len(numerators), (numerators, denominators))


def _unchanged(_: CheckedArrays, n_in: int) -> Transformer:
    return Transformer(lambda values: check_finite(values, allow_missing=True), n_in, None)


def _impute(arrays: CheckedArrays, n_in: int) -> Transformer:
    fill = arrays.get("fill", "float64", n_in)

    def transform(values: Matrix) -> Matrix:
        return np.where(np.isnan(check_finite(values, allow_missing=True)), fill, values)

    return Transformer(transform, n_in, (fill, fill))


def _scale(arrays: CheckedArrays, n_in: int) -> Transformer:
    mean, scale = arrays.get("mean", "float64", n_in), arrays.get("scale", "float64", n_in)

    def transform(values: Matrix) -> Matrix:
        centred: Matrix = np.subtract(check_finite(values, allow_missing=True), mean)
        return np.divide(centred, scale, out=centred)

    return Transformer(transform, n_in, (mean, scale))


def _products(arrays: CheckedArrays, n_in: int) -> Transformer:
    left, right = arrays.get_indices("left", n_in, None), arrays.get_indices("right", n_in, None)
    if len(left) != len(right):
        raise UserError("the products of the compiled model have not as many left factors as right ones")
    n_out = n_in + len(left)

    def transform(values: Matrix) -> Matrix:
        out = np.empty((len(values), n_out))
        out[:, :n_in] = check_finite(values)
        np.multiply(values[:, left], values[:, right], out=out[:, n_in:])
        return out

    return Transformer(transform, n_out, (left, right))


def _clip(arrays: CheckedArrays, n_in: int) -> Transformer:
    low, high = arrays.get("low", "float64", n_in), arrays.get("high", "float64", n_in)
    return Transformer(lambda values: np.clip(check_finite(values), low, high), n_in, (low, high))


def _log(arrays: CheckedArrays, n_in: int) -> Transformer:
    skewed = arrays.get("skewed", "bool", n_in)

    def transform(values: Matrix) -> Matrix:
        return np.where(skewed, np.log1p(np.maximum(check_finite(values), 0)), values)

    # Not in the kernel: numpy has its own logarithm, whose last bits differ from the C library's on some processors.
    return Transformer(transform, n_in, None)


def _dates(arrays: CheckedArrays, n_in: int) -> Transformer:
    positions = arrays.get_indices("dates", n_in, None)
    n_parts = arrays.get_indices("n_parts", len(dates.PARTS) + 1, len(positions))

    def transform(values: Matrix) -> Matrix:
        parts = [dates.parts(values[:, date])[:, :n] for date, n in zip(positions, n_parts, strict=True)]
        return np.hstack([values, *parts])

    return Transformer(transform, n_in + int(n_parts.sum()), None)


# By kind: from the transformer's arrays and the number of its input columns.
TRANSFORMERS: dict[str, Callable[[CheckedArrays, int], Transformer]] = {
    "ratios": _ratios,
    "unchanged": _unchanged,
    "impute": _impute,
    "scale": _scale,
    "products": _products,
    "clip": _clip,
    "log": _log,
    "dates": _dates,
}


def build_transforms(kinds: list[str], arrays: CheckedArrays, n_in: int) -> tuple[list[Transform], int]:
    """The transformers of these kinds, to be applied in this order, and the number of columns that they return.

    The arrays of the first are those within `transformer0`.

    Neighbours that the kernel can compute become one call of it.

    Raises
    ------
    UserError
        An array is missing, or is not as the transformer needs it.
    """
    transforms: list[Transform] = []
    calls: list[TransformerCall] = []

    def flush() -> None:
        if calls:
            transforms.append(KernelTransformers(calls))
            calls.clear()

    for position, kind in enumerate(kinds):
        transformer = TRANSFORMERS[kind](arrays.within(f"transformer{position}"), n_in)
        if transformer.kernel_arrays is not None and kernel.library() is not None:
            calls.append(TransformerCall(kind, n_in, transformer.n_out, *transformer.kernel_arrays))
        else:
            flush()
            transforms.append(transformer.transform)
        n_in = transformer.n_out
    flush()
    return transforms, n_in
