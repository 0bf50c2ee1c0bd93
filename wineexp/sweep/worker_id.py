"""A worker's identity, `host:pid:start`; the start tells a worker from a later process with the same pid."""

import os
import socket
from pathlib import Path


def current_worker_id() -> str:
    """The identity of the current process."""
    return worker_id(os.getpid())


def worker_id(pid: int) -> str:
    """The identity of a process of this host."""
    return f"{socket.gethostname()}:{pid}:{_start_ticks(pid)}"


def is_on_this_host(worker_id: str) -> bool:
    """Whether the worker was started on this host."""
    return worker_id.rsplit(":", 2)[0] == socket.gethostname()


def is_alive(worker_id: str) -> bool:
    """Whether the worker, one of this host, still runs."""
    _, pid, start_ticks = worker_id.rsplit(":", 2)
    try:
        return _start_ticks(int(pid)) == start_ticks
    except (OSError, ValueError):
        return False


def _start_ticks(pid: int) -> str:
    """When a process was started, in clock ticks since boot; "" on a system without /proc.

    Raises ProcessLookupError or FileNotFoundError if the process has ended.
    """
    if not Path("/proc/self/stat").exists():
        os.kill(pid, 0)
        return ""
    # The second field, the command in brackets, may itself contain blanks and brackets.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if fields[0] in "ZX":
        raise ProcessLookupError(pid)
    return fields[19]
