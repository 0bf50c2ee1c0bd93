"""Feature steps and the walk over trees: in C where its library was built ahead, else in numpy, with the same bits.

`python -m wineexp.models.compiled.kernel` builds the library, with whatever C compiler is there; serving never does.
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
FOLDER = Path(__file__).with_name("build")

# No extended precision, no fused multiply-add, and vectors that take no sum apart: the bits are to be those of the
# libraries.
FLAGS = ["-std=c11", "-O2", "-ftree-vectorize", "-fPIC", "-shared", "-ffp-contract=off"]


def place() -> Path:
    """Where the library is, or would be: under a name that no other source, flags or machine share."""
    told = [SOURCE.read_bytes(), *(word.encode() for word in (*FLAGS, platform.machine(), *platform.libc_ver()))]
    return FOLDER / f"kernel-{hashlib.sha256(b' '.join(told)).hexdigest()[:16]}.so"


def build() -> Path | None:
    """Build the library where it is missing; None where there is no compiler, or no room for it."""
    target = place()
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if target.exists():
        return target
    if compiler is None:
        return None
    try:
        FOLDER.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
            made = Path(scratch) / target.name
            subprocess.run([compiler, *FLAGS, str(SOURCE), "-o", str(made), "-lm"], check=True, capture_output=True)
            # Whole or not at all, whoever else builds it meanwhile.
            made.replace(target)
    except (OSError, subprocess.CalledProcessError):
        return None
    return target


_plain = False


@contextmanager
def plain() -> Iterator[None]:
    """Numpy alone, as where no library was built."""
    global _plain
    _plain = True
    try:
        yield
    finally:
        _plain = False


def library() -> ctypes.CDLL | None:
    """The library, where it was built."""
    return None if _plain else _library()


@functools.cache
def _library() -> ctypes.CDLL | None:
    try:
        found = ctypes.CDLL(str(place()))
    except OSError:
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    for name, arguments in {
        "wineexp_sum32": [pointer, pointer, number, pointer, pointer],
        "wineexp_sum64": [pointer, pointer, number, pointer, pointer],
        "wineexp_softmax32": [pointer, number, number],
        "wineexp_sigmoid32": [pointer, number],
        "wineexp_sigmoid64": [pointer, number],
    }.items():
        function = getattr(found, name)
        function.argtypes, function.restype = arguments, None
    found.wineexp_steps.argtypes = [pointer, number, pointer, number, pointer, pointer, number]
    found.wineexp_steps.restype = ctypes.c_int
    return found


def brief() -> Callable[[int, bytes, Any], int]:
    """The library's way for one row: so short that Python keeps its turn, which a large request would take longer."""
    row = ctypes.PyDLL(str(place())).wineexp_row
    row.argtypes, row.restype = [ctypes.c_void_p] * 3, ctypes.c_int
    return row


if __name__ == "__main__":
    made = build()
    if made is None:
        sys.exit(
            "error: no C compiler (CC, cc) built wineexp/models/compiled/kernel.c; numpy will walk the trees instead"
        )
    print(made)
