"""Seconds and memory of joining a log with its truth: python benchmarks/monitoring/join.py.

Writes a log of rows with 11 inputs and 6 probabilities, as of wine quality, and a truth for each in another order, into
a folder of its own, which it keeps for the next call. Then a fresh process reads all columns of all rows with their
truth.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from wineexp.monitoring import prediction_log, segments
from wineexp.monitoring.format import TRUTHS
from wineexp.monitoring.truth import JoinCounts

SEGMENT_ROWS = 40_000
CLASSES = [str(grade) for grade in range(3, 9)]


def write(folder: Path, n_rows: int) -> None:
    random = np.random.default_rng(0)
    start = pd.Timestamp("2026-01-01", tz="UTC").as_unit("us")
    for number in range(0, n_rows, SEGMENT_ROWS):
        size = min(SEGMENT_ROWS, n_rows - number)
        probabilities = random.dirichlet(np.ones(len(CLASSES)), size)
        frame = pd.DataFrame(
            {
                "time": start + pd.to_timedelta(np.arange(number, number + size) * 1000, unit="us"),
                "request_id": request_ids(number, size),
                "row": np.zeros(size, dtype=np.int64),
                "latency_ms": random.exponential(0.2, size),
                "outside": "",
                "decision": np.array(CLASSES)[probabilities.argmax(axis=1)],
                **{f"probability.{name}": probabilities[:, place] for place, name in enumerate(CLASSES)},
                **{f"input.{place}": random.normal(10, 3, size).round(2) for place in range(11)},
            }
        )
        prediction_log.append(str(folder), "wine", 1, frame)
    received = start.value // 1000
    order = random.permutation(n_rows // SEGMENT_ROWS)
    for place, block in enumerate(order):
        ids = random.permutation(request_ids(block * SEGMENT_ROWS, SEGMENT_ROWS))
        truths = pa.table(
            {
                "time": pa.array(received + place * SEGMENT_ROWS + np.arange(SEGMENT_ROWS), pa.timestamp("us", "UTC")),
                "request_id": pa.array(ids, pa.string()),
                "row": pa.array(np.zeros(SEGMENT_ROWS, dtype=np.int64)),
                "truth": pa.array(random.choice(CLASSES, SEGMENT_ROWS), pa.string()),
            }
        )
        segments.write(folder, TRUTHS, truths, os.urandom(6).hex())


def request_ids(start: int, size: int) -> list[str]:
    """Ids of 32 hexadecimal digits, as a server makes them, the same for the same rows."""
    return [each.tobytes().hex() for each in np.random.default_rng(start).integers(0, 2**63, (size, 2))]


def join(folder: Path) -> None:
    started_at, cpu = time.perf_counter(), time.process_time()
    counts, right = JoinCounts(), 0
    for frame in prediction_log.read_with_truth(str(folder), counts=counts):
        right += int((frame["decision"] == frame["truth"]).sum())
    seconds, cpu_seconds = time.perf_counter() - started_at, time.process_time() - cpu
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{counts.predictions:,} predictions, {counts.truths:,} truths, {counts.joined:,} joined, {counts.unjoined:,} "
        f"not: {seconds:.1f} s ({cpu_seconds:.1f} s of processor time), {megabytes:.0f} MB"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, default=Path("outputs/benchmark-join"))
    parser.add_argument("--only-join", action="store_true", help="what the fresh process does")
    given = parser.parse_args()
    where = given.folder / str(given.rows)
    if given.only_join:
        join(where)
    else:
        if not (where / "done").exists():
            write(where, given.rows)
            (where / "done").touch()
        command = [sys.executable, __file__, "--only-join", "--rows", str(given.rows), "--folder", str(given.folder)]
        subprocess.run(command, check=True)
