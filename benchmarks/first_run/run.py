"""Time `python -m wineexp.train model=xgb` and a plain script that does the same work, in turns.

    python benchmarks/first_run/run.py [rounds]

Also times what needs no training (`--help`, `--cfg job`, a typo) in wineexp and in a bare Hydra program.
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
COMMANDS_WITHOUT_TRAINING = {
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


def compare(name: str, wineexp: list[float], reference: list[float]) -> None:
    ratios = [seconds / other for seconds, other in zip(wineexp, reference, strict=True)]
    print(
        f"{name:16} wineexp {statistics.median(wineexp):6.2f} s   reference {statistics.median(reference):6.2f} s   "
        f"ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})"
    )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wineexp, straight = f"sqlite:///{folder}/wineexp.db", f"sqlite:///{folder}/straight.db"
        train = ["-m", "wineexp.train", "model=xgb", f"hydra.run.dir={folder}/run"]
        (folder / "script").mkdir()
        script = [str(HERE / "straight.py"), str(folder / "script"), str(ROOT / "data/raw/wine.data"), straight]
        # The first run of each makes the database, which is made only once in a project.
        timed(train, folder, MLFLOW_TRACKING_URI=wineexp)
        timed(script, folder)
        times: list[list[float]] = [[], []]
        for _ in range(rounds):
            times[0].append(timed(train, folder, MLFLOW_TRACKING_URI=wineexp))
            times[1].append(timed(script, folder))
        compare("train", *times)
        for name, arguments in COMMANDS_WITHOUT_TRAINING.items():
            environment = {"COMP_LINE": "x model=", "COMP_POINT": "8"} if name == "completion" else {}
            times = [[], []]
            for _ in range(2 * rounds):
                times[0].append(timed(["-m", "wineexp.train", *arguments], folder, **environment))
                times[1].append(timed([str(HERE / "bare.py"), *arguments], folder, **environment))
            compare(name, *times)


if __name__ == "__main__":
    main()
