"""Building and loading the library of kernel.c; without it the same bits are computed with numpy.

`python -m wineexp.models.compiled.kernel` builds the library with the C compiler that it finds. Promotion builds it,
too; a server only loads it.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("kernel.c")
BUILD_FOLDER = Path(__file__).with_name("build")

# The results must equal those of the libraries bit for bit: no extended precision, no fused multiply-add
# (-ffp-contract), and vectorization that does not reorder sums (-ftree-vectorize without -ffast-math).
FLAGS = ["-std=c11", "-O2", "-ftree-vectorize", "-fPIC", "-shared", "-ffp-contract=off"]


def library_path() -> Path:
    """Where the built library is, whether or not it exists: its name is a hash of source, flags, machine and libc."""
    identity = [SOURCE.read_bytes(), *(word.encode() for word in (*FLAGS, platform.machine(), *platform.libc_ver()))]
    return BUILD_FOLDER / f"kernel-{hashlib.sha256(b' '.join(identity)).hexdigest()[:16]}.so"


def build() -> Path | None:
    """Build the library unless it exists; None where there is no compiler or the folder cannot be written."""
    target = library_path()
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if target.exists():
        return target
    if compiler is None:
        return None
    try:
        BUILD_FOLDER.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD_FOLDER) as scratch:
            output = Path(scratch) / target.name
            subprocess.run([compiler, *FLAGS, str(SOURCE), "-o", str(output), "-lm"], check=True, capture_output=True)
            # Renaming is atomic, so that processes that build at the same time never load half a library.
            output.replace(target)
    except (OSError, subprocess.CalledProcessError):
        return None
    return target


_numpy_only = False


@contextmanager
def numpy_only() -> Iterator[None]:
    """Models that are made inside this context compute with numpy alone, as if the library had not been built."""
    global _numpy_only
    _numpy_only = True
    try:
        yield
    finally:
        _numpy_only = False


def library() -> ctypes.CDLL | None:
    """The library, or None where it has not been built."""
    return None if _numpy_only else _library()


@functools.cache
def _library() -> ctypes.CDLL | None:
    try:
        loaded = ctypes.CDLL(str(library_path()))
    except OSError:
        return None
    pointer, integer, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
    for name, arguments in {
        "wineexp_sum32": [pointer, pointer, integer, pointer, pointer],
        "wineexp_sum64": [pointer, pointer, integer, pointer, pointer],
        "wineexp_softmax32": [pointer, integer, integer],
        "wineexp_softmax64": [pointer, integer, integer],
        "wineexp_sigmoid32": [pointer, integer],
        "wineexp_sigmoid64": [pointer, integer],
        "wineexp_find_neighbours": [pointer, pointer, integer, pointer, pointer],
        "wineexp_sum_support_vectors": [*[pointer] * 4, real, integer, integer, integer, pointer],
    }.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, None
    loaded.wineexp_transform.argtypes = [pointer, integer, pointer, integer, pointer, pointer, integer]
    loaded.wineexp_transform.restype = ctypes.c_int
    return loaded


def single_row_function() -> Callable[[int, bytes, Any], int]:
    """The library's function for a single row.

    It is called without releasing the GIL: it takes microseconds, and another thread that got the GIL in between could
    hold it for as long as a large request takes.
    """
    function = ctypes.PyDLL(str(library_path())).wineexp_predict_row
    function.argtypes, function.restype = [ctypes.c_void_p] * 3, ctypes.c_int
    return function


if __name__ == "__main__":
    built = build()
    if built is None:
        sys.exit(
            "error: no C compiler (CC, cc) could build wineexp/models/compiled/kernel.c; compiled models will compute "
            "with numpy instead, with the same results"
        )
    print(built)
