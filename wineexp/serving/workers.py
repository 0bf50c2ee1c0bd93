"""The registry of a server's worker processes: one file each, in a folder that they share."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from litestar import Litestar

from wineexp.serving.metrics import MULTIPROCESS_FOLDER, mark_dead


def running_pids() -> list[int]:
    """Process ids of the workers that run, sorted; empty for a server of one process."""
    return sorted(pid for pid in _registered_pids() if _is_running(pid))


@asynccontextmanager
async def registered(_: Litestar) -> AsyncIterator[None]:
    """Register this worker while the application runs, and remove those that have died."""
    folder = os.environ.get(MULTIPROCESS_FOLDER)
    if folder is None:
        yield
        return
    for pid in _registered_pids():
        if not _is_running(pid):
            mark_dead(pid)
            _file(folder, pid).unlink(missing_ok=True)
    _file(folder, os.getpid()).touch()
    try:
        yield
    finally:
        _file(folder, os.getpid()).unlink(missing_ok=True)


def _registered_pids() -> list[int]:
    folder = os.environ.get(MULTIPROCESS_FOLDER)
    return [int(path.name.removeprefix("worker-")) for path in Path(folder).glob("worker-*")] if folder else []


def _file(folder: str, pid: int) -> Path:
    return Path(folder) / f"worker-{pid}"


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
