"""What a sweep costs beside its trials, against bare Optuna and the two plugins that exist.

Each rival gets a virtual environment of its own (made on the first call), and the contestants take turns. CPU is user
plus system time of the whole process; a trial's share is the difference between a long and a short sweep, so that
imports cancel out.

    python benchmarks/sweep/bench.py                  # CPU of a trial
    python benchmarks/sweep/bench.py workers mlflow   # wall time with 4 workers, and what MLflow adds
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TASK = str(HERE / "null.py")
SPACE = ["x=interval(-5,5)", "y=interval(-5,5)"]
SHORT, LONG = 10, 110

RIVALS = {
    "1.3.0": ["hydra-core==1.3.8", "hydra-optuna-sweeper==1.3.0", "sqlalchemy<2", "setuptools<81"],
    "1.4.0rc3": ["hydra-core==1.4.0rc3", "hydra-optuna-sweeper==1.4.0rc3", "hydra-joblib-launcher==1.4.0rc3"],
}

BARE = """
import sys, optuna
optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1))
study.optimize(lambda t: t.suggest_float("x", -5, 5) ** 2 + t.suggest_float("y", -5, 5) ** 2, int(sys.argv[1]))
"""


def python_of(rival: str, folder: Path) -> str:
    """The rival's interpreter, its environment made if it is missing."""
    home = folder / rival
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "--pre", *RIVALS[rival]], check=True)
    return str(python)


def measure(command: list[str], **environment: str) -> tuple[float, float]:
    """CPU and wall seconds of a command in an empty folder."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "out").open("w+") as out:
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=variables | environment, stdout=out, stderr=out)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            out.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{out.read()[-3000:]}")
    return used.ru_utime + used.ru_stime, wall


def ours(python: str, n_trials: int, *more: str) -> tuple[float, float]:
    """A sweep of this project's."""
    found = f"hydra.searchpath=[file://{ROOT}/conf]"
    command = [
        python,
        TASK,
        "-m",
        "hydra/sweeper=optuna_schema",
        *SPACE,
        found,
        f"hydra.sweeper.n_trials={n_trials}",
        *more,
    ]
    return measure(command, PYTHONPATH=str(ROOT))


def theirs(python: str, n_trials: int, *more: str) -> tuple[float, float]:
    """A sweep of a rival's."""
    jobs = [] if any(part.startswith("hydra.sweeper.n_jobs") for part in more) else ["hydra.sweeper.n_jobs=1"]
    return measure(
        [python, TASK, "-m", "hydra/sweeper=optuna", *SPACE, f"hydra.sweeper.n_trials={n_trials}", *jobs, *more],
        PYTHONPATH="",
    )


def share(run: Callable[[int], tuple[float, float]], which: int) -> float:
    """Milliseconds of one trial: CPU (0) or wall (1)."""
    return 1000 * (run(LONG)[which] - run(SHORT)[which]) / (LONG - SHORT)


def in_turns(contestants: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Each contestant's median, all of them once a round."""
    seen: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            seen[name].append(run())
    for name, values in seen.items():
        print(f"  {name:34} {statistics.median(values):8.2f}   ({', '.join(f'{value:.2f}' for value in values)})")
    return {name: statistics.median(values) for name, values in seen.items()}


def ratio(told: dict[str, float], one: str, other: str, goal: float) -> None:
    value = told[one] / told[other]
    print(f"  {one} / {other}: {value:.3f}, at most {goal}: {'reached' if value <= goal else 'NOT REACHED'}")


def cpu(python: str, rivals: Path, rounds: int) -> None:
    """CPU of a null trial."""
    old, new = python_of("1.3.0", rivals), python_of("1.4.0rc3", rivals)
    sqlite = ("hydra.sweeper.storage=sqlite:///study.db", "hydra.sweeper.study_name=s")
    print(f"CPU ms of a trial, median of {rounds}")
    told = in_turns(
        {
            "bare Optuna": lambda: share(lambda n: measure([python, "-c", BARE, str(n)]), 0),
            "ours in memory": lambda: share(lambda n: ours(python, n, "hydra/sweeper/storage=memory"), 0),
            "ours on the journal": lambda: share(lambda n: ours(python, n), 0),
            "1.3.0 in memory": lambda: share(lambda n: theirs(old, n), 0),
            "1.4.0rc3 in memory": lambda: share(lambda n: theirs(new, n), 0),
            "1.4.0rc3 on sqlite": lambda: share(lambda n: theirs(new, n, *sqlite), 0),
        },
        rounds,
    )
    ratio(told, "ours in memory", "1.3.0 in memory", 0.35)
    ratio(told, "ours in memory", "1.4.0rc3 in memory", 0.4)
    ratio(told, "ours on the journal", "1.4.0rc3 on sqlite", 0.35)
    ratio(told, "ours in memory", "bare Optuna", 25)


def workers(python: str, rivals: Path, rounds: int) -> None:
    """Wall time of 48 heavy-tailed sleeps on 4 workers."""
    new = python_of("1.4.0rc3", rivals)
    four = ("hydra/launcher=joblib", "sleep=0.25")
    print(f"wall seconds of 48 heavy-tailed sleeps on 4 workers, median of {rounds}")
    told = in_turns(
        {
            "ours": lambda: ours(python, 48, *four, "hydra.sweeper.n_workers=4", "hydra.launcher.n_jobs=4")[1],
            "1.4.0rc3": lambda: theirs(new, 48, *four, "hydra.sweeper.n_jobs=4", "hydra.launcher.n_jobs=4")[1],
        },
        rounds,
    )
    value = told["1.4.0rc3"] / told["ours"]
    print(f"  ours is {value:.2f} times faster, at least 1.7: {'reached' if value >= 1.7 else 'NOT REACHED'}")


def mlflow(python: str, _: Path, rounds: int) -> None:
    """What recording a null trial in MLflow adds to its wall time."""
    node = "{_target_: wineexp.sweep.recorder.Recorder, uri: 'sqlite:///${hydra:runtime.cwd}/mlflow.db', experiment: e}"
    recorded = f"+hydra.sweeper.callbacks.mlflow={node.replace('${hydra:runtime.cwd}', tempfile.mkdtemp())}"
    print(f"wall ms of a trial on the journal, median of {rounds}")
    told = in_turns(
        {
            "without MLflow": lambda: share(lambda n: ours(python, n), 1),
            "with MLflow": lambda: share(lambda n: ours(python, n, recorded), 1),
        },
        rounds,
    )
    added = told["with MLflow"] - told["without MLflow"]
    print(f"  MLflow adds {added:.1f} ms a trial, at most 40: {'reached' if added <= 40 else 'NOT REACHED'}")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default="cpu", choices=["cpu", "workers", "mlflow"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", default=sys.executable, help="the interpreter with this project's packages")
    parser.add_argument("--rivals", type=Path, default=Path(tempfile.gettempdir()) / "sweep-rivals")
    options = parser.parse_args()
    for name in [options.what] if isinstance(options.what, str) else options.what:
        {"cpu": cpu, "workers": workers, "mlflow": mlflow}[name](options.python, options.rivals, options.rounds)


if __name__ == "__main__":
    main()
