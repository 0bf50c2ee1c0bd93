"""Feature steps, and the whole way of a single row, in C."""

import ctypes
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wineexp.models.compiled import kernel
from wineexp.models.compiled.walk import Walk

# Columns that a single row in C may have, and numbers that numpy adds as C does.
WIDEST, SUMMED = 4096, 128

Array = npt.NDArray[Any]


class _Step(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("kind", "before", "after")),
        *((name, ctypes.c_void_p) for name in ("first", "second")),
    ]


class Steps:
    """Feature steps, one after the other, in C.

    Parameters
    ----------
    steps : list of (kind, columns before, columns after, first array, second array)
    """

    KINDS = ("ratios", "impute", "scale", "products", "clip")

    def __init__(self, steps: Sequence[tuple[str, int, int, Array, Array]]) -> None:
        found = kernel.library()
        if found is None:
            raise RuntimeError("the library has not been built")
        self.library = found
        self._held = [array for step in steps for array in step[3:]]
        made = [
            _Step(self.KINDS.index(kind), before, after, first.ctypes.data, second.ctypes.data)
            for kind, before, after, first, second in steps
        ]
        self._steps = (_Step * len(steps))(*made)
        self.address, self.count = ctypes.addressof(self._steps), len(steps)
        self.before, self._after, self.widest = steps[0][1], steps[-1][2], max(step[2] for step in steps)

    def __call__(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """What becomes of the values (n_rows, n_columns), C-contiguous.

        Raises
        ------
        ValueError
            One is infinite, or becomes so.
        """
        rows = len(values)
        out = np.empty((rows, self._after))
        scratch = np.empty(2 * self.widest)
        told = self.library.wineexp_steps(
            self.address, self.count, values.ctypes.data, rows, out.ctypes.data, scratch.ctypes.data, self.widest
        )
        if not told:
            raise ValueError("a value is infinite or too large")
        return out


class _Row(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("steps", "trees", "base", "present")),
        *((name, ctypes.c_int64) for name in ("count", "widest", "shares", "classes")),
    ]


class Row:
    """One row at a time through steps and XGBoost's trees in C: most of its time would go into calls of numpy.

    Parameters
    ----------
    steps : Steps
    walk : Walk
    base : ndarray of float32
    present : list of int
    classes : int
    """

    def __init__(
        self, steps: Steps, walk: Walk, base: npt.NDArray[np.float32], present: list[int], classes: int
    ) -> None:
        places = np.array(present, dtype=np.int32)
        self._held = steps, walk, base, places
        pointers = [steps.address, walk.address, base.ctypes.data, places.ctypes.data]
        self._row = _Row(*pointers, steps.count, steps.widest, len(present), classes)
        self._address = ctypes.addressof(self._row)
        self._call = kernel.brief()
        self._pack = struct.Struct(f"{steps.before}d").pack
        self._shape, self._out = (1, classes), ctypes.c_double * classes

    @staticmethod
    def fits(steps: Steps, walk: Walk, present: list[int]) -> bool:
        """Whether the trees are in C as well, and all of it is small enough for the stack."""
        return walk.library is not None and steps.widest <= WIDEST and len(present) <= SUMMED

    def __call__(self, values: Iterable[Any]) -> npt.NDArray[np.float64]:
        """Probabilities (1, n_classes) of a row's values.

        Raises
        ------
        ValueError
            One is infinite, or becomes so.
        """
        out = self._out()
        if not self._call(self._address, self._pack(*values), out):
            raise ValueError("a value is infinite or too large")
        # In plain memory: numpy takes longer to tell where an array of its own lies.
        return np.ndarray(self._shape, buffer=out)  # type: ignore[arg-type]
