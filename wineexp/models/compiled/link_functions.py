"""Softmax, sigmoid, logit and exponential as the models' libraries compute them: by the kernel or the C library."""

import ctypes
import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from wineexp.models.compiled import kernel

Floats = npt.NDArray[np.floating]


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
