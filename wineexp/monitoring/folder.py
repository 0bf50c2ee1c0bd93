"""A log in a folder, as one process writes it: journals, closed in time to become segments, and old ones deleted."""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wineexp.monitoring import journal
from wineexp.monitoring.format import TRUTHS, Layout
from wineexp.monitoring.journal import Journal

# A journal is closed at this size or age: some 40,000 rows of twenty columns, or a quarter of an hour.
JOURNAL_BYTES, JOURNAL_SECONDS = 2**24, 900.0

# A process that makes segments of closed journals, and deletes what is too old, starts no more often than this; and as
# often as the second, where no journal was closed.
MAINTENANCE_SECONDS, IDLE_MAINTENANCE_SECONDS = 60.0, 3600.0


class FolderStore:
    """Writes rows into a log's folder.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    max_age_days : float or None
        How long rows are kept.
    max_bytes : int or None
        How large all files together may become; the oldest are deleted first.
    """

    def __init__(self, folder: Path, max_age_days: float | None = None, max_bytes: int | None = None) -> None:
        self.folder = folder
        self._limits = [str(max_age_days or ""), str(max_bytes or "")]
        self._journals: dict[bytes, Journal] = {}
        # At the start there may be journals that a killed process left.
        self._has_closed = True
        self._maintained_at = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None

    def write(self, layout: Layout, rows: Sequence[Sequence[Any]]) -> None:
        """Append rows to the journal of their layout.

        Raises
        ------
        OSError
            The disk is full, say; none of them is written.
        """
        self.write_encoded(layout, [self.encode(row) for row in rows])

    def encode(self, row: Sequence[Any]) -> bytes:
        """A row as a line of JSON, without its end."""
        return journal.encode(row)

    def write_encoded(self, layout: Layout, rows: Sequence[bytes]) -> None:
        """As `write`, for encoded rows."""
        key = journal.encode(layout)
        if key not in self._journals:
            self._journals[key] = Journal(self.folder, layout)
        self._journals[key].append(rows)

    def write_truths(self, rows: Sequence[tuple[int, str, int, str]]) -> None:
        """Append truths: when they were received (microseconds since 1970, UTC), request id, row, true value.

        Raises
        ------
        OSError
            As `write`.
        """
        self.write(TRUTHS, rows)

    def maintain(self) -> None:
        """Close journals in time, and have a process of its own make segments of them and delete what is too old."""
        now = time.monotonic()
        for key, each in list(self._journals.items()):
            if each.size >= JOURNAL_BYTES or now - each.opened_at >= JOURNAL_SECONDS:
                each.close()
                del self._journals[key]
                self._has_closed = True
        pause = MAINTENANCE_SECONDS if self._has_closed else IDLE_MAINTENANCE_SECONDS
        if now - self._maintained_at >= pause and (self._process is None or self._process.poll() is not None):
            self._maintained_at, self._has_closed = now, False
            self._start_maintenance()

    def close(self) -> None:
        """Close the journals."""
        for each in self._journals.values():
            each.close()
        self._journals.clear()

    def _start_maintenance(self) -> None:
        # The image of the server does without pyarrow. The journals are then made segments by the program that reads
        # them.
        if importlib.util.find_spec("pyarrow") is None:
            return
        command = [sys.executable, "-m", "wineexp.monitoring.maintenance", str(self.folder), *self._limits]
        # It must not take the processor from requests.
        self._process = subprocess.Popen(
            ["nice", "-n", "19", *command] if os.name == "posix" else command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
