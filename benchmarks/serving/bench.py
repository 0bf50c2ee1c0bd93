"""Servers of the same model, under load by wrk in turns on one machine, with the ratios to reach.

    python benchmarks/serving/bench.py                          # everything, 5 rounds
    python benchmarks/serving/bench.py table --rounds 2 --seconds 1 --only wineexp.serve "Litestar, echo"
    python benchmarks/serving/bench.py forest batch start swap

A server with dependencies of its own gets a virtual environment, which the first call makes. One that cannot be
installed or does not respond is reported as not measured. Needs wrk, and the red wine quality data as a run does.
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
from servers import (
    BATCH,
    FASTAPI,
    FOREST,
    MLFLOW_SERVE,
    SELECTION,
    SPECS,
    SWAP,
    WINEEXP,
    WINEEXP_ECHO,
    Server,
    ServerSpec,
)
from versions import VERSIONS, Store, make

PARTS = ("table", "forest", "selection", "batch", "start", "swap")


@dataclass(frozen=True)
class Settings:
    """The settings of a benchmark, from the command line."""

    store: Store
    environments: Path
    rounds: int
    seconds: float
    only: list[str]


@dataclass
class Measurements:
    """What was measured of a server, in each round; memory is in megabytes, of all its processes and of the busiest."""

    p50: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    memory: float = 0
    busiest_memory: float = 0


@contextmanager
def started(settings: Settings, specs: dict[str, ServerSpec], rows: int = 1) -> Iterator[dict[str, Server]]:
    """Start servers, all at once; those that do not start are reported and left out."""
    request_rows = [settings.store.row()] * rows
    with ExitStack() as stack:
        running = {}
        for name, spec in specs.items():
            if settings.only and name not in settings.only:
                continue
            try:
                running[name] = Server(spec, settings.store, settings.environments, request_rows)
            except RuntimeError as error:
                print(f"  {name}: not measured: {error}")
                continue
            stack.callback(running[name].stop)
            if (
                name == WINEEXP_ECHO
                and len(set(running[name].request()["predictions"][0]["probabilities"].values())) > 1
            ):
                print(f"  {name}: not measured: it predicts by another method than peers/wineexp_echo.py replaces")
                del running[name]
        yield running


def in_turns(settings: Settings, specs: dict[str, ServerSpec]) -> dict[str, Measurements]:
    """Requests of one row, over one connection and over 8, from one server after the other in each round."""
    results: dict[str, Measurements] = {}
    with started(settings, specs) as running:
        for server in running.values():
            measure.wrk(server.url, server.body, 8, 1, server.process.pid)
        for _ in range(settings.rounds):
            for name, server in running.items():
                result, root = results.setdefault(name, Measurements()), server.process.pid
                one_connection = measure.wrk(server.url, server.body, 1, settings.seconds, root)
                before = measure.cpu(root)
                eight_connections = measure.wrk(server.url, server.body, 8, settings.seconds, root)
                used = {pid: now - before.get(pid, 0) for pid, now in measure.cpu(root).items()}
                result.p50.append(one_connection.p50)
                result.rate.append(eight_connections.rate)
                result.cpu.append(eight_connections.cpu)
                result.others.append(eight_connections.others)
                memory = measure.resident(root)
                result.memory, result.busiest_memory = sum(memory.values()), memory[max(used, key=used.__getitem__)]
        if WINEEXP in running:
            results[WINEEXP].memory = idle_memory(running[WINEEXP])
    return results


def idle_memory(server: Server) -> float:
    """Megabytes of wineexp.serve once its verifier has ended, which is not needed while the alias stays."""
    deadline = time.monotonic() + 60
    while len(memory := measure.resident(server.process.pid)) > 1 and time.monotonic() < deadline:
        time.sleep(0.5)
    return sum(memory.values())


def table(settings: Settings) -> None:
    """Print the table of all servers, and its ratios."""
    results = in_turns(settings, SPECS)
    report(results)
    ratio(results, WINEEXP, MLFLOW_SERVE, 40)
    ratio(results, WINEEXP, FASTAPI, 23)
    ratio(results, WINEEXP, WINEEXP_ECHO, 0.7)
    if WINEEXP in results:
        reached("wineexp.serve in memory, MB", results[WINEEXP].memory, 100, at_most=True)


def forest(settings: Settings) -> None:
    """Print the table of two servers of a forest of 500 trees, and its ratio."""
    results = in_turns(settings, FOREST)
    report(results)
    ratio(results, WINEEXP, MLFLOW_SERVE, 100)


def selection(settings: Settings) -> None:
    """Print the table of two servers of an ensemble, support vectors among its members, and what is to be reached."""
    results = in_turns(settings, SELECTION)
    report(results)
    ratio(results, WINEEXP, MLFLOW_SERVE, 20)
    if WINEEXP in results:
        p50 = statistics.median(results[WINEEXP].p50)
        reached("milliseconds of a row, wineexp.serve, p50", p50, 2, at_most=True)


def report(results: dict[str, Measurements]) -> None:
    print("| | p50 ms | req/s | CPU us | RSS MB | busiest process |\n|---|---:|---:|---:|---:|---:|")
    for name, result in results.items():
        p50, rate, cpu = (statistics.median(values) for values in (result.p50, result.rate, result.cpu))
        print(f"| {name} | {p50:.2f} | {rate:,.0f} | {cpu:,.0f} | {result.memory:.0f} | {result.busiest_memory:.0f} |")
    others = [share for result in results.values() for share in result.others]
    if others:
        print(f"\nother programs used {statistics.median(others):.0%} of the processors, at most {max(others):.0%}")
    print()


def ratio(results: dict[str, Measurements], server: str, reference: str, goal: float) -> None:
    """Print how much less CPU a request takes of one server than of another, and how many more it serves per second.

    The first is judged; the second falls where other programs need the processors.
    """
    if {server, reference} <= results.keys():
        one, other = results[server], results[reference]
        compare(f"CPU a request, {reference} / {server}", other.cpu, one.cpu, goal)
        median, span = ratios(one.rate, other.rate)
        print(f"req/s, {server} / {reference}: {median:.2f}{span}")


def compare(name: str, values: list[float], references: list[float], goal: float, *, at_most: bool = False) -> None:
    median, span = ratios(values, references)
    reached(name, median, goal, at_most=at_most, span=span)


def ratios(values: list[float], references: list[float]) -> tuple[float, str]:
    """The median of the ratios of each round, and the lowest and the highest as text."""
    by_round = [value / reference for value, reference in zip(values, references, strict=True)]
    return statistics.median(by_round), f" ({min(by_round):.2f} to {max(by_round):.2f})"


def reached(name: str, value: float, goal: float, *, at_most: bool = False, span: str = "") -> None:
    is_reached = value <= goal if at_most else value >= goal
    verdict = f"at {'most' if at_most else 'least'} {goal:g}: {'reached' if is_reached else 'NOT REACHED'}"
    print(f"{name}: {value:.2f}{span}, {verdict}")


def batch(settings: Settings) -> None:
    """Print the seconds of one request of 10,000 rows, in MLflow's format."""
    seconds: dict[str, list[float]] = {}
    with started(settings, BATCH, 10_000) as running:
        for _ in range(settings.rounds):
            for name, server in running.items():
                began = time.perf_counter()
                server.request()
                seconds.setdefault(name, []).append(time.perf_counter() - began)
    for name, values in seconds.items():
        print(f"10,000 rows, {name}: {statistics.median(values):.3f} s")
    if len(seconds) == 2:
        compare(f"10,000 rows, {MLFLOW_SERVE} / {WINEEXP}", seconds[MLFLOW_SERVE], seconds[WINEEXP], 3)


def start(settings: Settings) -> None:
    """Print the seconds from the start of the process to the first response; a first start warms the cache."""
    seconds = []
    for _ in range(settings.rounds + 1):
        server = Server(SPECS[WINEEXP], settings.store, settings.environments, [settings.store.row()])
        seconds.append(server.seconds)
        server.stop()
    reached("seconds from process start to the first response", statistics.median(seconds[1:]), 2, at_most=True)


def swap(settings: Settings) -> None:
    """Print the worst p99 of windows while the server follows a moved alias, and of as many windows after it."""
    usual, moving = [], []
    server = Server(SWAP, settings.store, settings.environments, [settings.store.row()])
    try:
        p99(server, settings.seconds)
        for _ in range(2 * settings.rounds):
            version = 2 if server.request()["model"]["version"] == 1 else 1
            settings.store.client.set_registered_model_alias("wine", "champion", str(version))
            began, windows = time.monotonic(), [p99(server, settings.seconds)]
            while server.request()["model"]["version"] != version:
                if time.monotonic() > began + 120:
                    sys.exit(f"the server does not follow the alias to version {version}; see {server.log}")
                windows.append(p99(server, settings.seconds))
            moving.append(max(windows))
            usual.append(max(p99(server, settings.seconds) for _ in windows))
    finally:
        server.stop()
    print(f"p99: usual {statistics.median(usual):.2f} ms, while the alias moves {statistics.median(moving):.2f} ms")
    compare("p99, moving / usual", moving, usual, 1.5, at_most=True)


def p99(server: Server, seconds: float) -> float:
    """The 99th percentile of response times over some seconds, in milliseconds."""
    return measure.wrk(server.url, server.body, 8, seconds, server.process.pid).p99


def main() -> None:
    """Run the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help=f"any of {', '.join(PARTS)}; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="duration of one measurement")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help=f"servers, of {', '.join(SPECS)}")
    parser.add_argument("--store", type=Path, help="folder of the registered versions; by default a temporary one")
    parser.add_argument(
        "--environments",
        type=Path,
        default=Path(tempfile.gettempdir()) / "serving-environments",
        help="folder of the virtual environments of other servers",
    )
    options = parser.parse_args()
    if unknown := [part for part in options.what if part not in PARTS] + [n for n in options.only if n not in SPECS]:
        parser.error(f"unknown: {', '.join(unknown)}")
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} cores, Python {platform.python_version()}, "
          f"load {os.getloadavg()[0]:.1f}; {options.rounds} rounds of {options.seconds:g} s\n")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        parts = options.what or PARTS
        store = make((options.store or Path(folder)).resolve(), set(VERSIONS) & {*parts})
        settings = Settings(store, options.environments.resolve(), options.rounds, options.seconds, options.only)
        for part in parts:
            measured = {"table": table, "forest": forest, "selection": selection}
            (measured | {"batch": batch, "start": start, "swap": swap})[part](settings)
            print(flush=True)


if __name__ == "__main__":
    main()
