"""Softmax, sigmoid, logit and exponential as the models' libraries compute them: by the kernel or the C library."""

import ctypes
import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from wineexp.models.compiled import kernel

Floats = npt.NDArray[np.floating]

# Of CatBoost's exponential.
_STEP_BITS, _MANTISSA_BITS = 11, 52
_STEPS = 2**_STEP_BITS
# Added to a number, it leaves the nearest whole number in the lowest bits.
_ROUNDING = float(3 << 51)
_LEAST_EXPONENT = -708.39641853226408
_MANTISSAS = np.array([2 ** (step / _STEPS) for step in range(_STEPS)]).view(np.int64) & ((1 << _MANTISSA_BITS) - 1)


def softmax(out: Floats) -> None:
    """Replace each row of `out` (n_rows, n_outputs), C-contiguous, by its softmax.

    As XGBoost computes it in float32, and LightGBM in float64.
    """
    library = kernel.library()
    is_single = out.dtype == np.float32
    if library is not None:
        function = library.wineexp_softmax32 if is_single else library.wineexp_softmax64
        function(out.ctypes.data, *out.shape)
        return
    out -= out.max(axis=1, keepdims=True)
    _apply(_libm().expf if is_single else _libm().exp, out)
    sums = np.add.accumulate(out.astype(np.float64), axis=1)[:, -1:]
    out /= sums.astype(out.dtype)


def sigmoid(out: Floats) -> None:
    """Replace `out`, C-contiguous, by its sigmoid: as XGBoost computes it in float32, SciPy and LightGBM in float64."""
    library = kernel.library()
    if library is not None:
        function = library.wineexp_sigmoid32 if out.dtype == np.float32 else library.wineexp_sigmoid64
        function(out.ctypes.data, out.size)
        return
    np.negative(out, out=out)
    if out.dtype == np.float32:
        np.minimum(out, np.float32(88.7), out=out)
        _apply(_libm().expf, out)
        out += np.float32(1)
        out += np.float32(1e-16)
    else:
        _apply(_libm().exp, out)
        out += 1
    np.divide(out.dtype.type(1), out, out=out)


def exponential(out: Floats) -> None:
    """Replace `out`, C-contiguous and of float64, by its exponential, as the C library computes it."""
    _apply(_libm().exp, out)


def softmax_of_catboost(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The softmax of each row (n_rows, n_outputs), with CatBoost's exponentials."""
    out = fast_exponential(scores - scores.max(axis=1, keepdims=True))
    # Added one after the other, as accumulate does, in another order than a sum.
    out /= np.add.accumulate(out, axis=1)[:, -1:]
    return out


def fast_exponential(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The exponential of values of at most 0, of any shape, as CatBoost approximates it.

    A value is split into a whole multiple of log(2) / 2048, whose exponential is a power of 2 times a number of a
    table, and a remainder, of which a polynomial of degree 3 is taken (S. Mitsunari's fmath, `expd`).
    """
    shifted = values * (_STEPS / math.log(2)) + _ROUNDING
    bits = shifted.view(np.int64)
    # What is left of the value, with its sign changed.
    remainder = (shifted - _ROUNDING) * (1 / (_STEPS / math.log(2))) - values
    polynomial = (3.0000000027955394 - remainder) * (remainder * remainder) * 0.16666666685227835064 - remainder + 1.0
    exponent = ((bits + (1024 * _STEPS - _STEPS)) >> _STEP_BITS) << _MANTISSA_BITS
    power = (exponent | _MANTISSAS[bits & (_STEPS - 1)]).view(np.float64)
    return np.asarray(np.where(values > _LEAST_EXPONENT, power * polynomial, 0.0))


def logit(probability: np.float32) -> np.float32:
    """The logit as XGBoost computes it, in single precision."""
    ratio = np.float32(1) / probability - np.float32(1)
    return np.float32(-_libm().logf(float(ratio)) if ratio > 0 else -math.inf)


@functools.cache
def _libm() -> ctypes.CDLL:
    """The C library's mathematical functions: numpy's own exponential differs from theirs in the last bit."""
    # Of this process itself, since Python has the library loaded.
    process = ctypes.CDLL(None)
    for name, kind in {"expf": ctypes.c_float, "logf": ctypes.c_float, "exp": ctypes.c_double}.items():
        function = getattr(process, name)
        function.argtypes, function.restype = [kind], kind
    return process


def _apply(function: Any, out: Floats) -> None:
    flat = out.reshape(-1)
    flat[:] = [function(value) for value in flat.tolist()]
