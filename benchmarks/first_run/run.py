"""Time `python -m wineexp.train model=xgb` against a straight script that does the same work, interleaved.

    python benchmarks/first_run/run.py [rounds]

Also times a command's answers that need no work (`--help`, `--cfg job`, a typo) against a bare Hydra program's.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ANSWERS = {
    "--help": ["--help"],
    "--cfg job": ["--cfg", "job"],
    "--info defaults": ["--info", "defaults"],
    "typo": ["model.max_deph=3"],
    "completion": ["-sc", "query=bash"],
}


def timed(command: list[str], folder: Path, **environment: str) -> float:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 and "max_deph" not in str(command):
        raise SystemExit(f"{command} failed:\n{done.stderr}")
    return time.perf_counter() - started


def compare(name: str, ours: list[float], theirs: list[float]) -> None:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(
        f"{name:16} ours {statistics.median(ours):6.2f} s   other {statistics.median(theirs):6.2f} s   "
        f"ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})"
    )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours, straight = f"sqlite:///{folder}/ours.db", f"sqlite:///{folder}/straight.db"
        train = ["-m", "wineexp.train", "model=xgb", f"hydra.run.dir={folder}/run"]
        (folder / "script").mkdir()
        script = [str(HERE / "straight.py"), str(folder / "script"), str(ROOT / "data/raw/wine.data"), straight]
        # Once each to make the databases, which are made once in a project's life.
        timed(train, folder, MLFLOW_TRACKING_URI=ours)
        timed(script, folder)
        times: list[list[float]] = [[], []]
        for _ in range(rounds):
            times[0].append(timed(train, folder, MLFLOW_TRACKING_URI=ours))
            times[1].append(timed(script, folder))
        compare("train", *times)
        for answer, arguments in ANSWERS.items():
            environment = {"COMP_LINE": "x model=", "COMP_POINT": "8"} if answer == "completion" else {}
            times = [[], []]
            for _ in range(2 * rounds):
                times[0].append(timed(["-m", "wineexp.train", *arguments], folder, **environment))
                times[1].append(timed([str(HERE / "bare.py"), *arguments], folder, **environment))
            compare(answer, *times)


if __name__ == "__main__":
    main()
