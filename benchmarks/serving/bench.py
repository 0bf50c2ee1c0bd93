"""Servers of one and the same model, asked in turns by wrk on one machine, and what was to be reached.

    python benchmarks/serving/bench.py                          # everything, 5 rounds
    python benchmarks/serving/bench.py table --rounds 2 --seconds 1 --only wineexp.serve "Litestar, echo"
    python benchmarks/serving/bench.py forest batch start swap

A peer with dependencies of its own gets a virtual environment, made by the first call; one that cannot be installed or
does not answer is reported as such. Needs wrk, and the red wine quality data as a run does.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import measure
from servers import BATCH, FOREST, KINDS, MLFLOW_SERVES, OURS, OWN_ECHO, SWAP, TUTORIAL, Kind, Server
from versions import Store, make

PARTS = ("table", "forest", "batch", "start", "swap")


@dataclass(frozen=True)
class Setting:
    """Where and how long is measured."""

    store: Store
    rivals: Path
    rounds: int
    seconds: float
    only: list[str]


@dataclass
class Seen:
    """What was seen of a server, round by round."""

    p50: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    tree: float = 0
    answering: float = 0


@contextmanager
def started(setting: Setting, kinds: dict[str, Kind], rows: int = 1) -> Iterator[dict[str, Server]]:
    """All servers of some kinds at once, those that do not start left out and told."""
    sent = [setting.store.row()] * rows
    with ExitStack() as stack:
        running = {}
        for name, kind in kinds.items():
            if setting.only and name not in setting.only:
                continue
            try:
                running[name] = Server(kind, setting.store, setting.rivals, sent)
            except RuntimeError as error:
                print(f"  {name}: not measured: {error}")
                continue
            stack.callback(running[name].stop)
            if name == OWN_ECHO and len(set(running[name].ask()["predictions"][0]["probabilities"].values())) > 1:
                print(f"  {name}: not measured: it asks the model on another way than peers/own_echo.py replaces")
                del running[name]
        yield running


def in_turns(setting: Setting, kinds: dict[str, Kind]) -> dict[str, Seen]:
    """One row at a time, asked over one connection and over 8, round by round."""
    seen: dict[str, Seen] = {}
    with started(setting, kinds) as running:
        for server in running.values():
            measure.wrk(server.url, server.body, 8, 1, server.process.pid)
        for _ in range(setting.rounds):
            for name, server in running.items():
                found, root = seen.setdefault(name, Seen()), server.process.pid
                alone = measure.wrk(server.url, server.body, 1, setting.seconds, root)
                before = measure.cpu(root)
                many = measure.wrk(server.url, server.body, 8, setting.seconds, root)
                used = {pid: now - before.get(pid, 0) for pid, now in measure.cpu(root).items()}
                found.p50.append(alone.p50)
                found.rate.append(many.rate)
                found.cpu.append(many.cpu)
                memory = measure.resident(root)
                found.tree, found.answering = sum(memory.values()), memory[max(used, key=used.__getitem__)]
        if OURS in running:
            seen[OURS].tree = rested(running[OURS])
    return seen


def rested(server: Server) -> float:
    """Megabytes of a server once its examiner has ended, which has nothing to do while the alias stays where it is."""
    deadline = time.monotonic() + 60
    while len(memory := measure.resident(server.process.pid)) > 1 and time.monotonic() < deadline:
        time.sleep(0.5)
    return sum(memory.values())


def table(setting: Setting) -> None:
    """The table, and its ratios."""
    seen = in_turns(setting, KINDS)
    report(seen)
    ratio(seen, OURS, MLFLOW_SERVES, 40)
    ratio(seen, OURS, TUTORIAL, 23)
    ratio(seen, OURS, OWN_ECHO, 0.7)
    if OURS in seen:
        reached("wineexp.serve in memory, MB", seen[OURS].tree, 100, most=True)


def forest(setting: Setting) -> None:
    """A forest of 500 trees."""
    seen = in_turns(setting, FOREST)
    report(seen)
    ratio(seen, OURS, MLFLOW_SERVES, 100)


def report(seen: dict[str, Seen]) -> None:
    print("| | p50 ms | req/s | CPU us | RSS MB | answering |\n|---|---:|---:|---:|---:|---:|")
    for name, found in seen.items():
        p50, rate, cpu = (statistics.median(values) for values in (found.p50, found.rate, found.cpu))
        print(f"| {name} | {p50:.2f} | {rate:,.0f} | {cpu:,.0f} | {found.tree:.0f} | {found.answering:.0f} |")
    print()


def ratio(seen: dict[str, Seen], one: str, other: str, goal: float) -> None:
    """Requests a second of one against another's, the median of the rounds' own ratios."""
    if {one, other} <= seen.keys():
        compare(f"req/s, {one} / {other}", seen[one].rate, seen[other].rate, goal)


def compare(name: str, ones: list[float], others: list[float], goal: float, *, most: bool = False) -> None:
    ratios = [one / other for one, other in zip(ones, others, strict=True)]
    reached(name, statistics.median(ratios), goal, most=most, more=f" ({min(ratios):.2f} to {max(ratios):.2f})")


def reached(name: str, value: float, goal: float, *, most: bool = False, more: str = "") -> None:
    right = value <= goal if most else value >= goal
    told = f"at {'most' if most else 'least'} {goal:g}: {'reached' if right else 'NOT REACHED'}"
    print(f"{name}: {value:.2f}{more}, {told}")


def batch(setting: Setting) -> None:
    """10,000 rows in one request, in MLflow's own form."""
    taken: dict[str, list[float]] = {}
    with started(setting, BATCH, 10_000) as running:
        for _ in range(setting.rounds):
            for name, server in running.items():
                began = time.perf_counter()
                server.ask()
                taken.setdefault(name, []).append(time.perf_counter() - began)
    for name, seconds in taken.items():
        print(f"10,000 rows, {name}: {statistics.median(seconds):.3f} s")
    if len(taken) == 2:
        compare(f"10,000 rows, {MLFLOW_SERVES} / {OURS}", taken[MLFLOW_SERVES], taken[OURS], 3)


def start(setting: Setting) -> None:
    """From the start of the process to the first answer; the cache is warm after a first start."""
    taken = []
    for _ in range(setting.rounds + 1):
        server = Server(KINDS[OURS], setting.store, setting.rivals, [setting.store.row()])
        taken.append(server.seconds)
        server.stop()
    reached("seconds from process start to the first answer", statistics.median(taken[1:]), 2, most=True)


def swap(setting: Setting) -> None:
    """The worst p99 of windows from a move of the alias until it is followed, against that of as many after it."""
    usual, moving = [], []
    server = Server(SWAP, setting.store, setting.rivals, [setting.store.row()])
    try:
        window(server, setting.seconds)
        for _ in range(2 * setting.rounds):
            wanted = 2 if server.ask()["model"]["version"] == 1 else 1
            setting.store.client.set_registered_model_alias("wine", "champion", str(wanted))
            began, windows = time.monotonic(), [window(server, setting.seconds)]
            while server.ask()["model"]["version"] != wanted:
                if time.monotonic() > began + 120:
                    sys.exit(f"the server does not follow the alias to version {wanted}; see {server.log}")
                windows.append(window(server, setting.seconds))
            moving.append(max(windows))
            usual.append(max(window(server, setting.seconds) for _ in windows))
    finally:
        server.stop()
    print(f"p99: usual {statistics.median(usual):.2f} ms, while the alias moves {statistics.median(moving):.2f} ms")
    compare("p99, moving / usual", moving, usual, 1.5, most=True)


def window(server: Server, seconds: float) -> float:
    """p99 over some seconds, in milliseconds."""
    return measure.wrk(server.url, server.body, 8, seconds, server.process.pid).p99


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help=f"of {', '.join(PARTS)}; everything, where nothing is said")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="of one measurement")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--store", type=Path, help="where the versions are kept for another call; nowhere, if not said")
    parser.add_argument("--rivals", type=Path, default=Path(tempfile.gettempdir()) / "serving-rivals")
    options = parser.parse_args()
    if unknown := [part for part in options.what if part not in PARTS] + [n for n in options.only if n not in KINDS]:
        parser.error(f"not known: {', '.join(unknown)}")
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} cores, Python {platform.python_version()}, "
          f"load {os.getloadavg()[0]:.1f}; {options.rounds} rounds of {options.seconds:g} s\n")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        store = make((options.store or Path(folder)).resolve())
        setting = Setting(store, options.rivals.resolve(), options.rounds, options.seconds, options.only)
        for part in options.what or PARTS:
            {"table": table, "forest": forest, "batch": batch, "start": start, "swap": swap}[part](setting)
            print(flush=True)


if __name__ == "__main__":
    main()
