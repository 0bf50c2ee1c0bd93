"""One call of a sweep's command, in the process that runs it: beginning and ending the record of its study."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from optuna.trial import FrozenTrial

from wineexp.core.errors import UserError
from wineexp.sweep.best_file import write_best
from wineexp.sweep.callbacks import Callbacks, Sweep
from wineexp.sweep.ledger import Ledger
from wineexp.sweep.progress import summary
from wineexp.sweep.slots import ERROR, ended_by
from wineexp.sweep.study import shown
from wineexp.sweep.worker import Worker
from wineexp.sweep.worker_id import host_name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """What a call of a sweep has at hand; `started` is in seconds since the epoch."""

    worker: Worker
    ledger: Ledger
    callbacks: Callbacks
    sweep: Sweep
    started: float


def begin(call: Call) -> None:
    """Close what an earlier call of the study left open, and begin its record."""
    take_over = call.worker.spec.settings["take_over"]
    close_dead(call, include_other_hosts=take_over)
    for trial in call.ledger.running_on_other_hosts():
        host = host_name(str(trial.user_attrs.get("worker", "another host")))
        log.warning("trial %d runs on %s; if that host is gone, say hydra.sweeper.take_over=true", trial.number, host)
    call.callbacks.notify("study_start", call.sweep)
    if call.ledger.close_dead_refit(include_other_hosts=take_over):
        call.callbacks.notify("refit_dead", call.sweep)


def end(call: Call, status: str) -> str | None:
    """Write the best trial's file and end the study's record; gives what kept the file from being written."""
    spec = call.worker.spec
    fault: str | None = None
    best_file: Path | None = None
    try:
        best_file = write_best(call.ledger, spec, call.worker.plan)
    except OSError as error:
        fault = (
            f"the study is complete as far as it went, but its best trial's file could not be written: {error}; "
            "give the same command again when that is mended"
        )
        log.error(fault)
    call.callbacks.notify("study_end", call.sweep, status, [best_file] if best_file else [])
    if reason := call.ledger.ended_early:
        log.info(
            "study %s ends before its budget is spent: %s; another hydra.sweeper.terminator.patience, or "
            "null, goes on with it",
            *(spec.name, reason),
        )
    line = summary(call.ledger, call.started)
    log.info("study %s %s: %s", spec.name, status, f"{line}; {shown(best_file)}" if best_file else line)
    return fault


def close_dead(call: Call, wait_seconds: float = 0.0, include_other_hosts: bool = False) -> list[FrozenTrial]:
    """Close the trials of dead workers, and give them; waits for at most so long for workers that are ending."""
    deadline = time.time() + wait_seconds
    closed: list[FrozenTrial] = []
    while True:
        for trial in call.ledger.close_dead(include_other_hosts):
            log.warning("trial %d's worker is dead; the trial is closed as failed", trial.number)
            call.callbacks.notify("trial_dead", call.sweep, trial)
            closed.append(trial)
        if time.time() >= deadline or not call.ledger.has_other_workers():
            return closed
        time.sleep(0.1)


def has_too_many_failures(ledger: Ledger) -> bool:
    """Whether more trials have failed than may."""
    limit = ledger.budget.max_failures
    return limit is not None and ledger.slots().n_failures > limit


def result(ledger: Ledger, status: str) -> list[float] | None:
    """The best values of a study that has ended; raises UserError if too many trials failed, or all."""
    best = ledger.best()
    failed = [trial for trial in ledger.trials() if ended_by(trial) == ERROR]
    reasons = "; ".join(sorted({str(trial.user_attrs.get("error")) for trial in failed}))
    if status == "stopped":
        limit = ledger.budget.max_failures
        raise UserError(f"{len(failed)} trials failed, more than hydra.sweeper.max_failures={limit}: {reasons}")
    if failed and not best:
        raise UserError(f"no trial is complete, {len(failed)} failed: {reasons}")
    return list(best[0].values) if best and len(ledger.study.directions) == 1 else None
