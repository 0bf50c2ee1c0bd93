"""The line that moves while a sweep runs, where there is a terminal to show it."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from wineexp.sweep.ledger import Ledger
from wineexp.sweep.report import summary

# Seconds between two looks at the study.
PERIOD = 0.5


@contextmanager
def live_line(ledger: Ledger, started: float) -> Iterator[None]:
    """Show how far the study is, for the length of a with block; elsewhere than in a terminal, nothing."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    done = threading.Event()

    def text() -> Text:
        trials = ledger.trials()
        elapsed = time.strftime("%H:%M:%S", time.gmtime(time.time() - started))
        finished = len(ledger.finished(trials))
        return Text(f"{elapsed} {summary(ledger, trials, finished, started)}", style="bold")

    with Live(text(), console=Console(stderr=True), auto_refresh=False, transient=True) as live:

        def watch() -> None:
            while not done.wait(PERIOD):
                live.update(text(), refresh=True)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
