"""One thread for native libraries, as in training: the machine's cores are shared by the tests' processes."""

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits

from wineexp.evaluation.cross_validation import NATIVE_THREADS


@pytest.fixture(scope="session", autouse=True)
def native_threads() -> Iterator[None]:
    with threadpool_limits(NATIVE_THREADS):
        yield
