"""From sums to probabilities, as XGBoost and SciPy compute them: by the C library, or by its functions one by one."""

import ctypes
import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from wineexp.models.compiled.kernel import library
from wineexp.models.compiled.short import Reals


def softmax(out: npt.NDArray[np.float32]) -> None:
    """In place, over each row of `out` (n_rows, n_outputs), C-contiguous, as XGBoost does it."""
    found = library()
    if found is not None:
        found.wineexp_softmax32(out.ctypes.data, *out.shape)
        return
    out -= out.max(axis=1, keepdims=True)
    _each(out, _libm().expf)
    sums = np.add.accumulate(out.astype(np.float64), axis=1)[:, -1:]
    out /= sums.astype(np.float32)


def sigmoid(out: Reals) -> None:
    """In place, C-contiguous: in float32 as XGBoost does it, in float64 as SciPy does."""
    found = library()
    if found is not None:
        function = found.wineexp_sigmoid32 if out.dtype == np.float32 else found.wineexp_sigmoid64
        function(out.ctypes.data, out.size)
        return
    np.negative(out, out=out)
    if out.dtype == np.float32:
        np.minimum(out, np.float32(88.7), out=out)
        _each(out, _libm().expf)
        out += np.float32(1)
        out += np.float32(1e-16)
    else:
        _each(out, _libm().exp)
        out += 1
    np.divide(out.dtype.type(1), out, out=out)


def logit(share: np.float32) -> np.float32:
    """XGBoost's, in single precision."""
    ratio = np.float32(1) / share - np.float32(1)
    return np.float32(-_libm().logf(float(ratio)) if ratio > 0 else -math.inf)


@functools.cache
def _libm() -> ctypes.CDLL:
    """The C library's mathematics: numpy's own exponentials differ from them in the last bit."""
    # Whoever runs Python has it loaded.
    found = ctypes.CDLL(None)
    for name, kind in {"expf": ctypes.c_float, "logf": ctypes.c_float, "exp": ctypes.c_double}.items():
        function = getattr(found, name)
        function.argtypes, function.restype = [kind], kind
    return found


def _each(out: Reals, function: Any) -> None:
    flat = out.reshape(-1)
    flat[:] = [function(value) for value in flat.tolist()]
