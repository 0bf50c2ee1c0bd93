"""What a program shows while it works and when it is done."""

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Self

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from wineexp.core.progress_lines import ProgressLines
from wineexp.evaluation.cross_validation import Fold

if TYPE_CHECKING:
    import pandas as pd

    from wineexp.workflows.row_file import Chunk

log = logging.getLogger(__name__)

Row = tuple[str, str, str]

# After so long without a line, one says what is being done.
NOTICE_SECONDS = 5.0


@contextmanager
def notice_if_slow(message: str) -> Iterator[None]:
    """Log what a with block does, if it takes more than `NOTICE_SECONDS`."""
    timer = threading.Timer(NOTICE_SECONDS, log.info, [message])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def show_progress(
    folds: Iterable[Fold],
    *,
    total: int,
    metric: str,
    quiet: bool = False,
    title: str = "",
    every: int = 1,
) -> Iterator[Fold]:
    """Yield folds as they are ready, with a progress bar in a terminal and lines in the log.

    Parameters
    ----------
    folds : iterable of Fold
    total : int
        How many folds there will be.
    metric : str
        The score that a line shows.
    quiet : bool, optional
        Show nothing: a trial of a sweep has one line, which the sweep writes.
    title : str, optional
        Whose folds they are.
    every : int, optional
        One of so many folds has a line.
    """
    if quiet:
        yield from folds
        return
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(title or "cross-validation", total=total)
        for fold in _notice_first(folds, f"{title and f'{title}, '}fitting fold 1 of {total} ..."):
            progress.advance(task)
            if (fold.number + 1) % every == 0:
                log.info(
                    "%sfold %d/%d: %s %.4f (fitted in %.2f s)",
                    *(title and f"{title}, ", fold.number + 1, total, metric, fold.scores[metric], fold.fit_seconds),
                )
            yield fold


def count_rows(frames: "Iterable[pd.DataFrame]", title: str) -> "Iterator[pd.DataFrame]":
    """Yield frames; in a terminal a line counts their rows, and a slow start has a line in the log."""
    console = Console()
    columns = (TextColumn("{task.description}"), TextColumn("{task.completed:,} rows"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(title, total=None)
        remaining = iter(frames)
        with notice_if_slow(f"{title} ..."):
            first = list(islice(remaining, 1))
        for frame in chain(first, remaining):
            progress.advance(task, len(frame))
            yield frame


def _notice_first(folds: Iterable[Fold], message: str) -> Iterator[Fold]:
    """The folds; a message where the first one takes long."""
    remaining = iter(folds)
    with notice_if_slow(message):
        first = list(islice(remaining, 1))
    yield from first
    yield from remaining


def print_scores(title: str, rows: list[Row]) -> None:
    """Print a table of metric, cross-validation and holdout."""
    table = Table("metric", box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    table.add_column("cross-validation", justify="right")
    table.add_column("holdout", justify="right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


class Bar:
    """A progress bar in a terminal, and elsewhere a line of the log now and then; a context manager.

    Parameters
    ----------
    title : str
        What is done.
    total : int
        As `show` counts.
    """

    def __init__(self, title: str, total: int) -> None:
        console = Console()
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task = self._progress.add_task(title, total=total)
        self._lines = ProgressLines(title, total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, done: int) -> None:
        """Show how much is done."""
        self._progress.update(self._task, completed=done)
        if self._progress.disable:
            self._lines.show(done)

    def over(self, chunks: "Iterable[Chunk]") -> "Iterator[Chunk]":
        """The chunks of a file, each shown when it is done."""
        for chunk in chunks:
            yield chunk
            self.show(chunk.read)
