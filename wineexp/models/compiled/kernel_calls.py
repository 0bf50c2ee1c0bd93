"""Calls of the kernel for transformers, and for a whole model with a single row."""

import ctypes
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wineexp.models.compiled import kernel
from wineexp.models.compiled.arrays import Array, Matrix
from wineexp.models.compiled.tree_ensemble import TreeEnsemble

# The kernel keeps a single row on the stack, of at most so many columns.
MAX_STACK_COLUMNS = 4096
# For more classes numpy adds in another order than the kernel's numpy_sum.
MAX_SUMMED_CLASSES = 128

# In the order of the enum in kernel.c.
KINDS = ("ratios", "impute", "scale", "products", "clip")


class TransformerCall(NamedTuple):
    """The arguments of a transformer in the kernel; what the two arrays hold depends on the kind."""

    kind: str
    n_in: int
    n_out: int
    first: Array
    second: Array


class _TransformerStruct(ctypes.Structure):
    """`struct transformer` of kernel.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("kind", "n_in", "n_out")),
        *((name, ctypes.c_void_p) for name in ("first", "second")),
    ]


class KernelTransformers:
    """Transformers that the kernel applies one after the other.

    Parameters
    ----------
    calls : list of TransformerCall
    """

    def __init__(self, calls: Sequence[TransformerCall]) -> None:
        library = kernel.library()
        if library is None:
            raise RuntimeError("the kernel has not been built")
        self.library = library
        # The structs hold bare addresses: these references keep the arrays alive.
        self._referenced = [array for call in calls for array in (call.first, call.second)]
        self._structs = (_TransformerStruct * len(calls))(
            *(
                _TransformerStruct(
                    KINDS.index(call.kind), call.n_in, call.n_out, call.first.ctypes.data, call.second.ctypes.data
                )
                for call in calls
            )
        )
        self.address, self.count = ctypes.addressof(self._structs), len(calls)
        self.n_in, self.n_out, self.widest = calls[0].n_in, calls[-1].n_out, max(call.n_out for call in calls)

    def __call__(self, values: Matrix) -> Matrix:
        """Transform values of shape (n_rows, n_in), C-contiguous, to shape (n_rows, n_out).

        Raises
        ------
        ValueError
            A value is infinite, or becomes so.
        """
        n_rows = len(values)
        out = np.empty((n_rows, self.n_out))
        scratch = np.empty(2 * self.widest)
        succeeded = self.library.wineexp_transform(
            self.address, self.count, values.ctypes.data, n_rows, out.ctypes.data, scratch.ctypes.data, self.widest
        )
        if not succeeded:
            raise ValueError("a value is infinite or too large")
        return out


class _RowModelStruct(ctypes.Structure):
    """`struct row_model` of kernel.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("transformers", "trees", "base", "present")),
        *((name, ctypes.c_int64) for name in ("n_transformers", "widest", "n_present", "n_classes")),
    ]


class SingleRowModel:
    """Transformers and XGBoost trees for a single row, in one call of the kernel, since calls of numpy take longer.

    Parameters
    ----------
    transformers : KernelTransformers
    trees : TreeEnsemble
    base : ndarray of float32 of shape (n_outputs,)
        The scores before the trees.
    present : list of int
        Positions of the classes in the training rows.
    n_classes : int
    """

    def __init__(
        self,
        transformers: KernelTransformers,
        trees: TreeEnsemble,
        base: npt.NDArray[np.float32],
        present: list[int],
        n_classes: int,
    ) -> None:
        positions = np.array(present, dtype=np.int32)
        # The struct holds bare addresses: these references keep the objects alive.
        self._referenced = transformers, trees, base, positions
        pointers = [transformers.address, trees.address, base.ctypes.data, positions.ctypes.data]
        self._struct = _RowModelStruct(*pointers, transformers.count, transformers.widest, len(present), n_classes)
        self._address = ctypes.addressof(self._struct)
        self._predict = kernel.single_row_function()
        self._pack = struct.Struct(f"{transformers.n_in}d").pack
        self._shape, self._out = (1, n_classes), ctypes.c_double * n_classes

    @staticmethod
    def supports(transformers: KernelTransformers, trees: TreeEnsemble, present: list[int]) -> bool:
        """Whether the kernel holds the trees, and all of it fits on the stack and adds as numpy does."""
        return (
            trees.library is not None
            and transformers.widest <= MAX_STACK_COLUMNS
            and len(present) <= MAX_SUMMED_CLASSES
        )

    def __call__(self, values: Iterable[Any]) -> Matrix:
        """Probabilities of shape (1, n_classes) for the values of a row.

        Raises
        ------
        ValueError
            A value is infinite, or becomes so.
        """
        out = self._out()
        if not self._predict(self._address, self._pack(*values), out):
            raise ValueError("a value is infinite or too large")
        # A ctypes array that is wrapped: asking a numpy array for its address takes longer.
        return np.ndarray(self._shape, buffer=out)  # type: ignore[arg-type]
