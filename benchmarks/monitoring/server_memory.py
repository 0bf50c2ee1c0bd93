"""Memory of a server and all of its processes, from its start on: what of it is shared counts by its share (PSS).

    python -m benchmarks.monitoring.server_memory 120 serve.log=log serve.challenger=challenger

Start it in a project's folder; the number is for how many seconds it looks.
"""

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path


def main() -> None:
    seconds, *overrides = sys.argv[1:]
    command = [sys.executable, "-m", "wineexp.serve", "serve.port=0", *overrides]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    greatest: dict[str, int] = {}
    now: dict[str, int] = {}
    deadline = time.monotonic() + float(seconds)
    try:
        while time.monotonic() < deadline and process.poll() is None:
            now = dict(map(megabytes, tree(process.pid)))
            greatest = max(greatest, now, key=lambda found: sum(found.values()))
            time.sleep(0.3)
    finally:
        process.terminate()
        process.wait(60)
    for name, found in (("greatest", greatest), ("at the end", now)):
        print(f"{name}: {sum(found.values())} MB", *(f"  {size:4} {what}" for what, size in found.items()), sep="\n")


def tree(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for each in found:
        for path in Path(f"/proc/{each}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, path.read_text().split())
    return found


def megabytes(pid: int) -> tuple[str, int]:
    """Number and module of a process, and its memory in MB; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return f"{pid}", 0
    size = next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return f"{pid} {b' '.join(command[1:3]).decode()}", size // 1024


if __name__ == "__main__":
    main()
