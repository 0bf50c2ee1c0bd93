"""Join a sweep's study as one more worker: `python -m wineexp.worker study=red-grade-xgb storage=postgresql+psycopg://...`."""

import logging
import os
import subprocess
import sys

from omegaconf import DictConfig

from wineexp.core.config import Worker
from wineexp.core.errors import UserError
from wineexp.core.program import program, program_environment

log = logging.getLogger(__name__)


@program(Worker)
def main(cfg: DictConfig) -> None:
    """Run from the command line: this process becomes the worker, whose exit code is thereby its own."""
    command = command_of(cfg)
    sys.stdout.flush()
    os.execve(command[0], command, program_environment())  # noqa: S606


def run(cfg: DictConfig) -> int:
    """Run a worker in a process of its own until the study ends, and give its exit code."""
    return subprocess.run(command_of(cfg), env=program_environment(), check=False).returncode


def command_of(cfg: DictConfig) -> list[str]:
    """The command of a worker of this study, from what its sweep has stored there.

    Raises
    ------
    UserError
        The study does not exist or was begun by another program than one of wineexp's, and `program` does not name it.
    """
    from pathlib import Path

    from wineexp.core.addresses import keep_credentials
    from wineexp.sweep.joining import joining_arguments, load_command
    from wineexp.sweep.outages import wait_out
    from wineexp.sweep.prepare import rdb_node
    from wineexp.sweep.storage import is_sqlite, open_storage

    if is_sqlite(cfg.storage):
        raise UserError(f"storage={cfg.storage}: a worker joins a study in a database's server; SQLite is a file")
    keep_credentials(cfg.storage)
    # Workers may be started before the database, or while it is restarted.
    storage, _ = wait_out(lambda: open_storage(rdb_node(cfg.storage), Path(), cfg.max_outage), cfg.max_outage)
    stored = load_command(storage, cfg.study)
    own = cfg.program.split() if cfg.program else None
    is_of_wineexp = stored.program[0] == "-m" and stored.program[1].startswith("wineexp.")
    # What a database says is run only as far as it names a program that is installed here for this.
    if own is None and not is_of_wineexp:
        raise UserError(
            f"study={cfg.study}: its sweep was started by `python {' '.join(stored.program)}`, which is no program of "
            "wineexp; name it by program='app.py' if this worker is to run it"
        )
    if own is not None:
        stored.program[:] = own
    log.info("joining the study %s: python %s -m ...", cfg.study, " ".join(stored.program))
    return [sys.executable, *joining_arguments(stored, cfg.study, cfg.storage, list(cfg.overrides))]


if __name__ == "__main__":
    main()
