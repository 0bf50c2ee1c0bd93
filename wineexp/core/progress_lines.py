"""Lines of the log while a loop takes long."""

import logging
import time

# Between two lines.
LINE_SECONDS = 15.0

log = logging.getLogger(__name__)


class ProgressLines:
    """Says in the log, every `LINE_SECONDS`, how much of something is done.

    Parameters
    ----------
    title : str
        What is done.
    total : int
        As `show` counts.
    """

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total = title, total
        self._shown_at = time.monotonic()

    def show(self, done: int) -> None:
        """Write a line, if it is time for one."""
        if time.monotonic() - self._shown_at >= LINE_SECONDS:
            self._shown_at = time.monotonic()
            log.info("%s: %.0f %%", self._title, 100 * done / max(self._total, 1))
