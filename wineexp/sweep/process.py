"""Who runs a trial: host, process and the moment that process began, so that a reused pid is no one's alibi."""

import os
import socket
from pathlib import Path


def _began(pid: int) -> str:
    """The process's start in clock ticks since boot, "" where the system does not tell; raises if it is gone."""
    if not Path("/proc/self/stat").exists():
        os.kill(pid, 0)
        return ""
    # The second field, the command, may itself hold blanks and brackets.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if fields[0] in "ZX":
        raise ProcessLookupError(pid)
    return fields[19]


def identity() -> str:
    """The current process as `host:pid:start`."""
    return f"{socket.gethostname()}:{os.getpid()}:{_began(os.getpid())}"


def is_here(worker: str) -> bool:
    """Whether the worker was started on this host."""
    return worker.rsplit(":", 2)[0] == socket.gethostname()


def is_alive(worker: str) -> bool:
    """Whether the worker, on this host, still runs."""
    _, pid, began = worker.rsplit(":", 2)
    try:
        return _began(int(pid)) == began
    except (OSError, ValueError):
        return False
