"""Environment variables that are set for a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def restoring(name: str) -> Iterator[None]:
    """Put an environment variable back, at the end of a with block, to what it was, or to not being there."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
