"""What is asked of NVIDIA's driver, through its libraries in C: which card programs see, and the driver's version."""

import ctypes
from dataclasses import dataclass
from functools import lru_cache

CUDA_LIBRARY, MANAGEMENT_LIBRARY = "libcuda.so.1", "libnvidia-ml.so.1"
MAX_TEXT_BYTES = 256


@dataclass(frozen=True)
class Card:
    """A CUDA card.

    Attributes
    ----------
    name : str
        As its driver calls it, such as `NVIDIA H100 80GB HBM3`.
    driver : str
        Version of the driver; `unknown` where only its management library could tell, which is not installed.
    cuda : str
        The newest version of CUDA that the driver runs, such as `12.4`.
    """

    name: str
    driver: str
    cuda: str


@lru_cache(maxsize=1)
def first_card() -> Card | None:
    """The first card that CUDA programs of this process see, which `CUDA_VISIBLE_DEVICES` may choose; None if none."""
    try:
        library = ctypes.CDLL(CUDA_LIBRARY)
    except OSError:
        return None
    number, version, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(MAX_TEXT_BYTES)
    # Each returns 0 where it succeeds, and the later ones need the earlier ones.
    failed = (
        library.cuInit(0)
        or library.cuDeviceGet(ctypes.byref(number), 0)
        or library.cuDeviceGetName(name, MAX_TEXT_BYTES, number)
        or library.cuDriverGetVersion(ctypes.byref(version))
    )
    if failed:
        return None
    return Card(name.value.decode(), _driver_version(), f"{version.value // 1000}.{version.value % 1000 // 10}")


def _driver_version() -> str:
    text = ctypes.create_string_buffer(MAX_TEXT_BYTES)
    try:
        library = ctypes.CDLL(MANAGEMENT_LIBRARY)
    except OSError:
        return "unknown"
    is_read = library.nvmlInit_v2() == 0 and library.nvmlSystemGetDriverVersion(text, MAX_TEXT_BYTES) == 0
    return text.value.decode() if is_read else "unknown"
