"""A worker's identity, `host:pid:start`; the start tells a worker from a later process with the same pid.

The host is a name, or where hosts share no file system also the machine's boot and its space of process ids, by which
hosts of one name, and containers, are told apart.
"""

import os
import socket
from pathlib import Path


def current_worker_id(*, is_exact: bool = False) -> str:
    """The identity of the current process; with `is_exact`, as of a host that others of its name exist beside."""
    return worker_id(os.getpid(), exact_host() if is_exact else None)


def worker_id(pid: int, host: str | None = None) -> str:
    """The identity of a process of this host."""
    return f"{host or socket.gethostname()}:{pid}:{_start_ticks(pid)}"


def is_on_this_host(worker_id: str) -> bool:
    """Whether the worker was started on this host."""
    return worker_id.rsplit(":", 2)[0] in (socket.gethostname(), exact_host())


def host_name(worker_id: str) -> str:
    """The name of the host where the worker was started, for a person to read."""
    return worker_id.rsplit(":", 2)[0].partition("/")[0]


def exact_host() -> str:
    """The host's name, with the id of its boot and the number of its space of process ids, where Linux tells them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()}/{boot[:8]}-{space}"


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
