"""Evidently's report on the drift of the tables that `wide.py` wrote; in an environment of its own, with evidently 0.7.

python benchmarks/monitoring/wide_evidently.py wide
"""

import sys
import time
from pathlib import Path

import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset

folder, every = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
before, now = (pd.read_parquet(folder / f"{name}.parquet").iloc[::every] for name in ("reference", "now"))
started, cpu_started = time.perf_counter(), time.process_time()
snapshot = Report([DataDriftPreset()]).run(now, before)
content = snapshot.dict()
print(
    f"{len(now):,} rows of {now.shape[1]} columns: {time.perf_counter() - started:.1f} s, "
    f"{time.process_time() - cpu_started:.1f} s of a processor"
)
started = time.perf_counter()
snapshot.save_html(str(folder / "evidently.html"))
print(f"page: {time.perf_counter() - started:.1f} s more")
