"""How far a study is: a line for each trial in the log, and a line that is updated in a terminal."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from wineexp.sweep.callbacks import Outcome
from wineexp.sweep.ledger import Ledger

REFRESH_SECONDS = 0.5


def trial_line(ledger: Ledger, outcome: Outcome, started: float) -> str:
    """How a trial ended and how far the study is; `started` as in `summary`."""
    values = " ".join(f"{value:.6g}" for value in outcome.values or [])
    result = f"{outcome.state} {values}".rstrip() if outcome.error is None else f"failed: {outcome.error}"
    return f"trial {outcome.number} {result} | {summary(ledger, started)}"


def summary(ledger: Ledger, started: float) -> str:
    """Finished trials, best value, rate and time left.

    `started` is the beginning of this call, from which the rate is counted, in seconds since the epoch.
    """
    slots = ledger.slots()
    n_finished, n_trials = slots.n_finished, ledger.n_trials(slots)
    parts = [f"{n_finished}/{n_trials}" if n_trials is not None else f"{n_finished} done"]
    best = ledger.best(slots)
    if best and len(ledger.directions) == 1:
        parts.append(f"best {best[0].value:.6g} (trial {best[0].number})")
    elif best:
        parts.append(f"{len(best)} on the Pareto front")
    n_recent = slots.n_ended_since(started)
    elapsed = time.time() - started
    if n_recent and elapsed > 0:
        rate = n_recent / elapsed
        parts.append(f"{rate:.2g}/s" if rate >= 1 else f"{rate * 60:.2g}/min")
        if n_trials is not None and n_finished < n_trials:
            parts.append(f"{_clock((n_trials - n_finished) / rate)} left")
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def live_line(ledger: Ledger, started: float) -> Iterator[None]:
    """Show and update the summary for the length of a with block; shows nothing if stderr is no terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    has_ended = threading.Event()

    def line() -> Text:
        elapsed = time.strftime("%H:%M:%S", time.gmtime(time.time() - started))
        return Text(f"{elapsed} {summary(ledger, started)}", style="bold")

    with Live(line(), console=Console(stderr=True), auto_refresh=False, transient=True) as live:

        def refresh() -> None:
            while not has_ended.wait(REFRESH_SECONDS):
                live.update(line(), refresh=True)

        refresher = threading.Thread(target=refresh, daemon=True)
        refresher.start()
        try:
            yield
        finally:
            has_ended.set()
            refresher.join()
