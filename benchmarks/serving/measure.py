"""Measurements of a server: rates and response times by wrk, CPU and memory from /proc."""

import json
import os
import resource
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TICK_MICROSECONDS = 1_000_000 / os.sysconf("SC_CLK_TCK")
PAGE_MEGABYTES = os.sysconf("SC_PAGE_SIZE") / 1_000_000

SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = io.open(os.getenv("BODY"), "rb")
wrk.body = file:read("*all")
file:close()
function done(summary, latency)
    local bad = summary.errors.status + summary.errors.connect + summary.errors.read
        + summary.errors.write + summary.errors.timeout
    io.write(string.format('\\n{"requests": %d, "microseconds": %d, "bad": %d, "p50": %d, "p99": %d}\\n',
        summary.requests, summary.duration, bad, latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Load:
    """Responses per second, percentiles in milliseconds, and CPU of the server in microseconds per response.

    `others` is the share of all processors that programs beside the server and wrk used meanwhile.
    """

    rate: float
    p50: float
    p99: float
    cpu: float
    others: float


def wrk(url: str, body: bytes, connections: int, seconds: float, root: int) -> Load:
    """Send requests over some connections at once, each as soon as the last one has its response.

    Raises
    ------
    RuntimeError
        A response was an error.
    """
    with tempfile.TemporaryDirectory() as folder:
        script, file = Path(folder) / "post.lua", Path(folder) / "body"
        script.write_text(SCRIPT)
        file.write_bytes(body)
        before, busy_before, wrk_before = cpu(root), _busy(), _own_children()
        done = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout=30s", f"-s{script}", url],
            env={**os.environ, "BODY": str(file)},
            capture_output=True,
            text=True,
            check=True,
        )
        used = sum(cpu(root).values()) - sum(before.values())
        others = _busy() - busy_before - used - (_own_children() - wrk_before)
    summary: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    if summary["bad"] or not summary["requests"]:
        raise RuntimeError(f"{url}: {summary['bad']} of {summary['requests']} responses were errors")
    rate = 1e6 * summary["requests"] / summary["microseconds"]
    share = max(0.0, others / (summary["microseconds"] * (os.cpu_count() or 1)))
    return Load(rate, summary["p50"] / 1000, summary["p99"] / 1000, used / summary["requests"], share)


def cpu(root: int) -> dict[int, float]:
    """Microseconds of CPU that each process of a server has used, including children that it has waited for."""
    return {pid: TICK_MICROSECONDS * sum(map(int, stat[11:15])) for pid, stat in _processes(root).items()}


def _busy() -> float:
    """Microseconds that all processors of the machine have worked: user, nice and system time."""
    return TICK_MICROSECONDS * sum(map(int, Path("/proc/stat").read_text().split(maxsplit=4)[1:4]))


def _own_children() -> float:
    """Microseconds of CPU of the processes that this one has started and waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e6 * (usage.ru_utime + usage.ru_stime)


def resident(root: int) -> dict[int, float]:
    """Resident memory of each process of a server, in megabytes."""
    return {pid: PAGE_MEGABYTES * int(stat[21]) for pid, stat in _processes(root).items()}


def _processes(root: int) -> dict[int, list[str]]:
    """The fields of /proc/PID/stat from the third on, of a process, its session, and all their descendants."""
    stats = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stats[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
    members = {pid for pid, stat in stats.items() if root in (pid, int(stat[3]))}
    while children := {pid for pid, stat in stats.items() if int(stat[1]) in members} - members:
        members |= children
    return {pid: stats[pid] for pid in members}
