"""What a server takes: answers and their times as wrk sees them, CPU and memory as /proc does."""

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TICK = 1_000_000 / os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE") / 1_000_000

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
    """What wrk saw: answers a second, milliseconds, and microseconds of the server's CPU for an answer."""

    rate: float
    p50: float
    p99: float
    cpu: float


def wrk(url: str, body: bytes, connections: int, seconds: float, root: int) -> Load:
    """Ask as fast as answers come, over so many connections at once.

    Raises
    ------
    RuntimeError
        One answer was an error.
    """
    with tempfile.TemporaryDirectory() as folder:
        script, file = Path(folder) / "post.lua", Path(folder) / "body"
        script.write_text(SCRIPT)
        file.write_bytes(body)
        before = cpu(root)
        done = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout=30s", f"-s{script}", url],
            env={**os.environ, "BODY": str(file)},
            capture_output=True,
            text=True,
            check=True,
        )
        used = sum(cpu(root).values()) - sum(before.values())
    seen: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    if seen["bad"] or not seen["requests"]:
        raise RuntimeError(f"{url}: {seen['bad']} of {seen['requests']} answers were errors")
    rate = 1e6 * seen["requests"] / seen["microseconds"]
    return Load(rate, seen["p50"] / 1000, seen["p99"] / 1000, used / seen["requests"])


def cpu(root: int) -> dict[int, float]:
    """Microseconds that each process of a server has used, those of children it has waited for included."""
    return {pid: TICK * sum(map(int, stat[11:15])) for pid, stat in _processes(root).items()}


def resident(root: int) -> dict[int, float]:
    """Megabytes that each process of a server has in memory."""
    return {pid: PAGE * int(stat[21]) for pid, stat in _processes(root).items()}


def _processes(root: int) -> dict[int, list[str]]:
    """The fields of /proc/PID/stat from the third on: of the process, its session, and all that descend from these."""
    every = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            every[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
    found = {pid for pid, stat in every.items() if root in (pid, int(stat[3]))}
    while more := {pid for pid, stat in every.items() if int(stat[1]) in found} - found:
        found |= more
    return {pid: every[pid] for pid in found}
