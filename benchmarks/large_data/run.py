"""Train, score and promote on a table that is larger than the memory that the programs may use.

    python benchmarks/large_data/run.py [rows] [--limit-mb 1500] [--folder FOLDER]

A seeded generator writes a Parquet file of 28 columns of numbers and a label of two classes, by default 20,000,000
rows. Then `train` with data.engine=external (two folds and the final fit), `promote` with the gate and the baseline,
and `predict` run one after the other in a cgroup that holds them, their children and the pages of files to the limit.
Last, without a limit, the same training runs in memory on the first tenth of the rows, and the areas under the ROC
curve are compared. Making a cgroup needs the rights of root; without them nothing is limited.
"""

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

ROOT = Path(__file__).resolve().parents[2]
CGROUPS = Path("/sys/fs/cgroup")
N_COLUMNS, CHUNK_ROWS = 28, 500_000
SETTINGS = ["target=label", "feature=raw", "split.n_splits=2", "model.n_estimators=10", "model.max_depth=6"]
WANTED_DIFFERENCE = 0.001


def write_table(path: Path, n_rows: int) -> None:
    """Write the table; its first rows are the same for every number of rows."""
    names = [f"x{number}" for number in range(N_COLUMNS)]
    writer = None
    for number, start in enumerate(range(0, n_rows, CHUNK_ROWS)):
        rng = np.random.default_rng([0, number])
        X = rng.standard_normal((min(CHUNK_ROWS, n_rows - start), N_COLUMNS), dtype=np.float32)
        signal = X[:, :5] @ np.array([1.0, -0.8, 0.6, 0.4, -0.2], dtype=np.float32) + X[:, 5] * X[:, 6]
        label = np.where(signal + rng.standard_normal(len(X), dtype=np.float32) > 0, "yes", "no")
        table = pa.table({name: X[:, column] for column, name in enumerate(names)} | {"label": label})
        writer = writer or pa.parquet.ParquetWriter(path, table.schema, compression="none", use_dictionary=["label"])
        writer.write_table(table)
    if writer is not None:
        writer.close()


def write_configs(folder: Path, table: Path, name: str, more: str) -> None:
    target = "_target_: wineexp.data.target.Target\ncolumn: label\nbins: null\nlabels: null\nordinal: false\n"
    for file, text in {
        f"data/{name}": f"_target_: wineexp.data.table\npath: {table}\ntargets: [label]\n{more}",
        "target/label": f"{target}metric: roc_auc\n",
    }.items():
        path = folder / "conf" / f"{file}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@contextlib.contextmanager
def limited_memory(limit_mb: int) -> Iterator[Path | None]:
    """A cgroup with this limit, of version 2 or 1; None without the rights to make one."""
    of_version_2 = (CGROUPS / "cgroup.controllers").exists()
    folder = (CGROUPS if of_version_2 else CGROUPS / "memory") / f"wineexp-{os.getpid()}"
    try:
        folder.mkdir()
        limit = folder / ("memory.max" if of_version_2 else "memory.limit_in_bytes")
        limit.write_text(str(limit_mb << 20))
    except OSError as error:
        print(f"no cgroup can be made ({error}): nothing is limited")
        yield None
        return
    try:
        yield folder
    finally:
        folder.rmdir()


def run(folder: Path, cgroup: Path | None, program: str, *overrides: str) -> str:
    """Run a program, in the cgroup if there is one; prints its time and memory, gives what it printed."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "TMPDIR": str(folder / "scratch"),
        "COLUMNS": "150",
    }
    join = f"echo $$ > {cgroup}/cgroup.procs && " if cgroup else ""
    command = ["sh", "-c", f'{join}exec "$@"', "sh", sys.executable, "-m", f"wineexp.{program}", *overrides]
    started = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            print(f"    {line}", end="", flush=True)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    print(
        f"{program}: exit code {process.returncode}, {time.perf_counter() - started:,.0f} s, "
        f"{usage.ru_utime + usage.ru_stime:,.0f} CPU s, peak resident memory {usage.ru_maxrss / 1024:,.0f} MB",
        flush=True,
    )
    if process.returncode:
        raise SystemExit(1)
    return "".join(lines)


def roc_auc(output: str) -> float:
    return float(re.search(r"^\s*roc_auc\s+([\d.]+) ±", output, re.MULTILINE)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="?", default=20_000_000)
    parser.add_argument("--limit-mb", type=int, default=1500)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    for name, n_rows in (("large", arguments.rows), ("tenth", arguments.rows // 10)):
        path = folder / f"{name}.parquet"
        # A folder of an earlier time has the same rows.
        if not path.exists() or pa.parquet.read_metadata(path).num_rows != n_rows:
            write_table(path, n_rows)
    write_configs(folder, folder / "large.parquet", "large", "engine: external\n")
    write_configs(folder, folder / "tenth.parquet", "tenth", "")
    size = (folder / "large.parquet").stat().st_size >> 20
    print(f"{arguments.rows:,} rows, {size:,} MB, written in {time.perf_counter() - started:,.0f} s", flush=True)
    with limited_memory(arguments.limit_mb) as cgroup:
        external = run(folder, cgroup, "train", "data=large", *SETTINGS)
        run_id = re.search(r"Recorded as run (\S+)", external)[1]
        run(folder, cgroup, "promote", f"run={run_id}", "registry.name=large", "repeats=1", "allow=[dirty]")
        first = next(pa.parquet.ParquetFile(folder / "tenth.parquet").iter_batches(1000))
        pa.parquet.write_table(pa.Table.from_batches([first]), folder / "rows.parquet")
        run(folder, cgroup, "predict", "input=rows.parquet", "output=answers.parquet", "registry.name=large")
    in_memory = run(folder, None, "train", "data=tenth", *SETTINGS)
    difference = abs(roc_auc(external) - roc_auc(in_memory))
    print(
        f"ROC-AUC {roc_auc(external):.4f} on all rows, {roc_auc(in_memory):.4f} in memory on a tenth: {difference:.4f} "
        f"apart (to reach: {WANTED_DIFFERENCE:g})"
    )
    if arguments.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
