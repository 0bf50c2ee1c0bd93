"""The overhead of a sweep per trial, compared with bare Optuna and with two releases of Hydra's Optuna plugin.

Each release of the plugin gets a virtual environment of its own, which the first call makes, and the sweepers take
turns. CPU is user plus system time of the whole process; the cost of a trial is computed from the difference between a
long and a short sweep, so that imports cancel out.

    python benchmarks/sweep/bench.py                  # CPU of a trial
    python benchmarks/sweep/bench.py workers mlflow   # wall time with 4 workers, and what MLflow adds
    python benchmarks/sweep/bench.py growth           # CPU of a trial in memory as the study grows
    POSTGRES_URL=postgresql+psycopg://user@host/database python benchmarks/sweep/bench.py postgres
"""

import argparse
import functools
import itertools
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
# The numbers of trials between which the cost of one is measured, and what it may cost beyond bare Optuna.
GROWTH = (10, 100, 400, 1600)
MAX_ADDED_MILLISECONDS = 5

PLUGINS = {
    "1.3.0": ["hydra-core==1.3.8", "hydra-optuna-sweeper==1.3.0", "sqlalchemy<2", "setuptools<81"],
    "1.4.0rc3": ["hydra-core==1.4.0rc3", "hydra-optuna-sweeper==1.4.0rc3", "hydra-joblib-launcher==1.4.0rc3"],
}

BARE = """
import sys, optuna
optuna.logging.set_verbosity(optuna.logging.WARNING)
storage, name = [*sys.argv[2:4], None, None][:2]
study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1), storage=storage, study_name=name)
study.optimize(lambda t: t.suggest_float("x", -5, 5) ** 2 + t.suggest_float("y", -5, 5) ** 2, int(sys.argv[1]))
"""


def plugin_python(release: str, folder: Path) -> str:
    """The interpreter of a plugin's environment, which is made if it is missing."""
    home = folder / release
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "--pre", *PLUGINS[release]], check=True)
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


def sweep_with_wineexp(python: str, n_trials: int, *more: str) -> tuple[float, float]:
    """CPU and wall seconds of a sweep with the sweeper of this project."""
    search_path = f"hydra.searchpath=[file://{ROOT}/conf]"
    command = [
        python,
        TASK,
        "-m",
        "hydra/sweeper=optuna_schema",
        *SPACE,
        search_path,
        f"hydra.sweeper.n_trials={n_trials}",
        *more,
    ]
    return measure(command, PYTHONPATH=str(ROOT))


def sweep_with_plugin(python: str, n_trials: int, *more: str) -> tuple[float, float]:
    """CPU and wall seconds of a sweep with Hydra's Optuna plugin."""
    jobs = [] if any(part.startswith("hydra.sweeper.n_jobs") for part in more) else ["hydra.sweeper.n_jobs=1"]
    return measure(
        [python, TASK, "-m", "hydra/sweeper=optuna", *SPACE, f"hydra.sweeper.n_trials={n_trials}", *jobs, *more],
        PYTHONPATH="",
    )


def trial_milliseconds(run: Callable[[int], tuple[float, float]], which: int) -> float:
    """Milliseconds of one trial: CPU (0) or wall time (1)."""
    return 1000 * (run(LONG)[which] - run(SHORT)[which]) / (LONG - SHORT)


def in_turns(systems: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of each system; each is run once a round."""
    results: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, run in systems.items():
            results[name].append(run())
    for name, values in results.items():
        print(f"  {name:34} {statistics.median(values):8.2f}   ({', '.join(f'{value:.2f}' for value in values)})")
    return {name: statistics.median(values) for name, values in results.items()}


def ratio(medians: dict[str, float], system: str, reference: str, goal: float) -> None:
    value = medians[system] / medians[reference]
    print(f"  {system} / {reference}: {value:.3f}, at most {goal}: {'reached' if value <= goal else 'NOT REACHED'}")


def cpu(python: str, environments: Path, rounds: int) -> None:
    """CPU of a null trial."""
    old, new = plugin_python("1.3.0", environments), plugin_python("1.4.0rc3", environments)
    sqlite = ("hydra.sweeper.storage=sqlite:///study.db", "hydra.sweeper.study_name=s")
    print(f"CPU ms of a trial, median of {rounds}")
    medians = in_turns(
        {
            "bare Optuna": lambda: trial_milliseconds(lambda n: measure([python, "-c", BARE, str(n)]), 0),
            "wineexp in memory": lambda: trial_milliseconds(
                lambda n: sweep_with_wineexp(python, n, "hydra/sweeper/storage=memory"), 0
            ),
            "wineexp on the journal": lambda: trial_milliseconds(lambda n: sweep_with_wineexp(python, n), 0),
            "1.3.0 in memory": lambda: trial_milliseconds(lambda n: sweep_with_plugin(old, n), 0),
            "1.4.0rc3 in memory": lambda: trial_milliseconds(lambda n: sweep_with_plugin(new, n), 0),
            "1.4.0rc3 on sqlite": lambda: trial_milliseconds(lambda n: sweep_with_plugin(new, n, *sqlite), 0),
        },
        rounds,
    )
    ratio(medians, "wineexp in memory", "1.3.0 in memory", 0.35)
    ratio(medians, "wineexp in memory", "1.4.0rc3 in memory", 0.4)
    ratio(medians, "wineexp on the journal", "1.4.0rc3 on sqlite", 0.35)
    ratio(medians, "wineexp in memory", "bare Optuna", 25)


def workers(python: str, environments: Path, rounds: int) -> None:
    """Wall time of 48 heavy-tailed sleeps on 4 workers."""
    new = plugin_python("1.4.0rc3", environments)
    four = ("hydra/launcher=joblib", "sleep=0.25")
    print(f"wall seconds of 48 heavy-tailed sleeps on 4 workers, median of {rounds}")
    medians = in_turns(
        {
            "wineexp": lambda: sweep_with_wineexp(
                python, 48, *four, "hydra.sweeper.n_workers=4", "hydra.launcher.n_jobs=4"
            )[1],
            "1.4.0rc3": lambda: sweep_with_plugin(new, 48, *four, "hydra.sweeper.n_jobs=4", "hydra.launcher.n_jobs=4")[
                1
            ],
        },
        rounds,
    )
    value = medians["1.4.0rc3"] / medians["wineexp"]
    print(f"  wineexp is {value:.2f} times faster, at least 1.7: {'reached' if value >= 1.7 else 'NOT REACHED'}")


def mlflow(python: str, _: Path, rounds: int) -> None:
    """What recording a null trial in MLflow adds to its wall time."""
    node = "{_target_: wineexp.sweep.recorder.Recorder, uri: 'sqlite:///${hydra:runtime.cwd}/mlflow.db', experiment: e}"
    recorded = f"+hydra.sweeper.callbacks.mlflow={node.replace('${hydra:runtime.cwd}', tempfile.mkdtemp())}"
    print(f"wall ms of a trial on the journal, median of {rounds}")
    medians = in_turns(
        {
            "without MLflow": lambda: trial_milliseconds(lambda n: sweep_with_wineexp(python, n), 1),
            "with MLflow": lambda: trial_milliseconds(lambda n: sweep_with_wineexp(python, n, recorded), 1),
        },
        rounds,
    )
    added = medians["with MLflow"] - medians["without MLflow"]
    print(f"  MLflow adds {added:.1f} ms a trial, at most 40: {'reached' if added <= 40 else 'NOT REACHED'}")


def growth(python: str, _: Path, rounds: int) -> None:
    """CPU of a null trial in memory as the study grows, beside bare Optuna."""
    systems: dict[str, Callable[[int], tuple[float, float]]] = {
        "bare Optuna": lambda n: measure([python, "-c", BARE, str(n)]),
        "wineexp in memory": lambda n: sweep_with_wineexp(python, n, "hydra/sweeper/storage=memory"),
    }
    print(f"CPU ms of a trial in memory, median of {rounds}, between these numbers of trials")
    totals = {
        name: [statistics.median(run(n)[0] for _ in range(rounds)) for n in GROWTH] for name, run in systems.items()
    }
    for index in range(1, len(GROWTH)):
        first, last = GROWTH[index - 1 : index + 1]
        bare, own = (1000 * (total[index] - total[index - 1]) / (last - first) for total in totals.values())
        verdict = "reached" if own - bare <= MAX_ADDED_MILLISECONDS else "NOT REACHED"
        print(f"  {first:6} to {last:6}: bare {bare:6.2f}, wineexp {own:6.2f}, added {own - bare:5.2f}, "
              f"at most {MAX_ADDED_MILLISECONDS}: {verdict}")  # fmt: skip


def postgres(python: str, _: Path, rounds: int) -> None:
    """CPU and statements of a null trial on PostgreSQL, whose address is in POSTGRES_URL.

    The server must have pg_stat_statements in shared_preload_libraries, and the extension made in the database.
    """
    import sqlalchemy

    url = os.environ["POSTGRES_URL"]
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    runs = itertools.count(time.time_ns())

    def counted(run: Callable[[int, str], tuple[float, float]]) -> Callable[[int], tuple[float, float]]:
        """CPU seconds and thousands of statements of a run."""

        def call(n: int) -> tuple[float, float]:
            with engine.connect() as connection:
                connection.exec_driver_sql("SELECT pg_stat_statements_reset()")
                seconds, _ = run(n, f"bench{next(runs)}")
                statements = connection.exec_driver_sql("SELECT sum(calls) FROM pg_stat_statements").scalar_one()
            return seconds, float(statements) / 1000

        return call

    systems = {
        "bare Optuna": counted(lambda n, name: measure([python, "-c", BARE, str(n), url, name])),
        "wineexp": counted(
            lambda n, name: sweep_with_wineexp(
                python,
                n,
                "hydra/sweeper/storage=rdb",
                f"hydra.sweeper.storage.url={url}",
                f"hydra.sweeper.study_name={name}",
            )
        ),
    }
    for which, noun, system, goal in ((0, "CPU ms", "wineexp", 25), (1, "statements", "wineexp", 80)):
        print(f"{noun} of a trial on PostgreSQL, median of {rounds}")
        calls = {name: functools.partial(trial_milliseconds, run, which) for name, run in systems.items()}
        value = in_turns(calls, rounds)[system]
        print(f"  {system}: {value:.1f}, at most {goal}: {'reached' if value <= goal else 'NOT REACHED'}")


def main() -> None:
    """Run the chosen measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default="cpu", choices=["cpu", "workers", "mlflow", "growth", "postgres"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", default=sys.executable, help="the interpreter with this project's packages")
    parser.add_argument(
        "--environments",
        type=Path,
        default=Path(tempfile.gettempdir()) / "sweep-environments",
        help="folder of the virtual environments of the plugins",
    )
    options = parser.parse_args()
    for name in [options.what] if isinstance(options.what, str) else options.what:
        globals()[name](options.python, options.environments, options.rounds)


if __name__ == "__main__":
    main()
