"""What a challenger in the shadow costs the champion's clients: two servers in turns, one with it and one without.

python benchmarks/serving/challenger.py                       # 6 rounds of 3 s
python benchmarks/serving/challenger.py serve.challenger_only_when_idle=false
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from measure import Load, wrk
from tqdm import tqdm

CONNECTIONS = 8
LENIENT = ("allow=[dirty]", "gate.require=not_worse", "gate.margin=1", "gate.calibration_margin=1", "repeats=1")


def run(folder: Path, program: str, *overrides: str) -> str:
    """Run a program in a folder; gives its standard output."""
    command = [sys.executable, "-m", f"wineexp.{program}", *overrides]
    return subprocess.run(
        command, cwd=folder, env=environment(folder), check=True, capture_output=True, text=True
    ).stdout


def environment(folder: Path) -> dict[str, str]:
    """The environment of a program that records in a folder."""
    return os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}


def prepare(folder: Path) -> None:
    """Register two versions: the champion, and a challenger."""
    for alias, model in (("champion", "model=logreg"), ("challenger", "model=xgb")):
        recorded = re.search("Recorded as run ([0-9a-f]+)", run(folder, "train", model))
        assert recorded is not None
        run(folder, "promote", f"run={recorded[1]}", f"alias={alias}", *LENIENT)


@contextmanager
def serving(folder: Path, name: str, *overrides: str) -> Iterator[tuple[str, int]]:
    """A server with a log of its own; gives its address and process."""
    log = folder / f"{name}.log"
    command = [sys.executable, "-m", "wineexp.serve", "serve.port=0", f"serve.log=log-{name}"]
    command += [f"serve.cache_folder=cache-{name}", "serve.verifier_idle_timeout_seconds=1", *overrides]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=out, stderr=subprocess.STDOUT)
    try:
        while not (lines := [line for line in log.read_text().splitlines() if '"listening"' in line]):
            if process.poll() is not None:
                raise RuntimeError(log.read_text()[-2000:])
            time.sleep(0.2)
        yield json.loads(lines[0])["url"], process.pid
    finally:
        process.terminate()
        process.wait(40)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of the server with the challenger")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3)
    arguments = parser.parse_args()
    loads: dict[str, list[Load]] = {"log": [], "log and challenger": []}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        prepare(folder)
        servers = [
            stack.enter_context(serving(folder, "alone")),
            stack.enter_context(serving(folder, "tested", "serve.challenger=challenger", *arguments.overrides)),
        ]
        row = httpx.get(f"{servers[0][0]}/model").json()["schema"]["samples"][0]["row"]
        while httpx.get(f"{servers[1][0]}/readyz").json()["challenger"]["version"] is None:
            httpx.post(f"{servers[1][0]}/predict", json=row)
            time.sleep(0.5)
        # Until what verifies versions has ended.
        time.sleep(5)
        body = json.dumps(row).encode()
        for _ in tqdm(range(arguments.rounds), desc="rounds"):
            for name, (url, pid) in zip(loads, servers, strict=True):
                loads[name].append(wrk(f"{url}/predict", body, CONNECTIONS, arguments.seconds, pid))
        metrics = httpx.get(f"{servers[1][0]}/metrics").text
    print("| | req/s | p50 ms | p99 ms | CPU us, all processes | others |\n|---|---:|---:|---:|---:|---:|")
    for name, rounds in loads.items():
        medians = [
            statistics.median(getattr(load, key) for load in rounds) for key in ("rate", "p50", "p99", "cpu", "others")
        ]
        print("| {} | {:,.0f} | {:.2f} | {:.2f} | {:.0f} | {:.0%} |".format(name, *medians))
    ratios = {
        key: statistics.median(
            getattr(tested, key) / getattr(alone, key) for alone, tested in zip(*loads.values(), strict=True)
        )
        for key in ("rate", "p99")
    }
    print(f"req/s, with / without: {ratios['rate']:.2f}; p99, with / without: {ratios['p99']:.2f}")
    print(*(line for line in metrics.splitlines() if line.startswith("wineexp_challenger_rows_total")), sep="\n")


if __name__ == "__main__":
    main()
