"""The worker processes of one server, as they see each other: a file each, in a folder that they share."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from litestar import Litestar

from wineexp.serving.metrics import MULTIPROCESS_FOLDER, mark_dead


def alive() -> list[int]:
    """Process ids of the workers that have started and not died; empty where one process is all."""
    return sorted(pid for pid in _noted() if _runs(pid))


@asynccontextmanager
async def noted(_: Litestar) -> AsyncIterator[None]:
    """Be one of them while the application runs."""
    folder = os.environ.get(MULTIPROCESS_FOLDER)
    if folder is None:
        yield
        return
    for pid in _noted():
        if not _runs(pid):
            mark_dead(pid)
            _file(folder, pid).unlink(missing_ok=True)
    _file(folder, os.getpid()).touch()
    try:
        yield
    finally:
        _file(folder, os.getpid()).unlink(missing_ok=True)


def _noted() -> list[int]:
    folder = os.environ.get(MULTIPROCESS_FOLDER)
    return [int(path.name.removeprefix("worker-")) for path in Path(folder).glob("worker-*")] if folder else []


def _file(folder: str, pid: int) -> Path:
    return Path(folder) / f"worker-{pid}"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
