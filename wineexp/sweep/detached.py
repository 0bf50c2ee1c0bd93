"""Workers that outlive the command that began them, and a worker that joins a study which another command began."""

import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from wineexp.core.addresses import keep_credentials
from wineexp.core.errors import UserError
from wineexp.core.program import program_environment
from wineexp.core.signals import Interrupts, uninterrupted
from wineexp.sweep._hydra import BASIC_LAUNCHER
from wineexp.sweep.call import Call, begin, close_dead, end, has_too_many_failures, result
from wineexp.sweep.joining import joining_arguments, load_command
from wineexp.sweep.leases import CLOSING, STOP
from wineexp.sweep.progress import summary
from wineexp.sweep.refit import refit
from wineexp.sweep.study import shown
from wineexp.sweep.sweep_syntax import quote
from wineexp.sweep.worker import WorkerLoop
from wineexp.sweep.worker_id import exact_host, worker_id

log = logging.getLogger(__name__)

# How long to wait for the start of workers, which import libraries first, and how often to look.
MAX_START_SECONDS = 120.0
POLL_SECONDS = 0.2
# The user attribute of a study that its record was ended, and at how many trials.
ENDED_AT = "ended_at"


def submit(call: Call) -> None:
    """Begin workers that outlive this process, or show how far the study is if some are at it; waits for no trial."""
    ledger, spec = call.ledger, call.worker.spec
    assert ledger.leases is not None  # noqa: S101  a study without them was refused
    if spec.config.hydra.launcher._target_ != BASIC_LAUNCHER:
        raise UserError(
            "hydra.sweeper.wait=false begins workers on this machine: leave hydra/launcher out, or begin them "
            "elsewhere, with hydra.sweeper.n_workers=0 here and `python -m wineexp.worker` there"
        )
    holders = ledger.leases.living(ledger.is_dead)
    if holders:
        log.info("%d workers are at study %s: %s", len(holders), spec.name, summary(ledger, call.started))
        return
    if ledger.n_remaining() == 0 and ledger.study.user_attrs.get(ENDED_AT) == len(ledger.trials()):
        log.info("study %s has ended: %s", spec.name, summary(ledger, call.started))
        return
    ledger.leases.resume()
    begin(call)
    n_workers = spec.settings["n_workers"]
    _wait_for_start(call, [_start_worker(call, index) for index in range(n_workers)])
    where = f"; their logs are in {shown(spec.folder)}/.workers" if n_workers else ""
    log.info(
        "study %s is begun, by %d workers on this machine%s; more can join by `python -m wineexp.worker study=%s "
        "storage=...`; the same command again shows how far it is",
        *(spec.name, n_workers, where, spec.name),
    )


def _start_worker(call: Call, index: int) -> "subprocess.Popen[bytes]":
    """Start a process that joins the study and goes on when this one ends."""
    ledger, spec = call.ledger, call.worker.spec
    command = load_command(ledger.storage, spec.name)
    folder = [f"hydra.sweeper.folder={quote(str(spec.folder))}"]
    # The worker inherits the credentials, which its command line does not show.
    keep_credentials(spec.settings["storage"]["url"])
    arguments = joining_arguments(command, spec.name, spec.settings["storage"]["url"], folder)
    file = spec.folder / ".workers" / f"{index}.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, *arguments],
            env=program_environment(),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait_for_start(call: Call, processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Wait until each worker has its lease or has ended; raises UserError if one has ended with an error."""
    ledger, deadline = call.ledger, time.monotonic() + MAX_START_SECONDS
    assert ledger.leases is not None  # noqa: S101  see submit
    waiting = {worker_id(process.pid, exact_host()): (index, process) for index, process in enumerate(processes)}
    while waiting and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        begun = ledger.leases.beats()
        for name, (index, process) in list(waiting.items()):
            if process.poll() not in (None, 0):
                file = shown(call.worker.spec.folder / ".workers" / f"{index}.log")
                raise UserError(f"worker {index} ended with exit code {process.returncode}: {file} says why")
            if name in begun or process.returncode == 0:
                del waiting[name]


def join(call: Call) -> None:
    """Run trials of a study that another command has begun, and close the study if nobody else does.

    Raises
    ------
    UserError
        The study was stopped, or too many of its trials failed, or all.
    KeyboardInterrupt
        The study was stopped meanwhile, so that the exit code does not say that it is complete.
    """
    ledger, spec = call.ledger, call.worker.spec
    assert ledger.leases is not None  # noqa: S101  a study without them was refused
    if ledger.leases.holder(STOP) is not None:
        raise UserError(f"study {spec.name!r} was stopped by who began it: give its sweep's command again to go on")
    loop = WorkerLoop(call.worker)
    count = loop.run()
    # The loop's leases have been looked at all the while.
    call, ledger = replace(call, ledger=loop.ledger), loop.ledger
    log.info("this worker ran %d trials; study %s: %s", count, spec.name, summary(ledger, call.started))
    if loop.heartbeat.is_stopped:
        raise KeyboardInterrupt
    with loop.new_heartbeat():
        # Where the command that began the study lives, it does the rest.
        if ledger.n_remaining() == 0 and not ledger.running() and _may_close(call):
            _close(call)
    result(ledger, "stopped" if has_too_many_failures(ledger) else "finished")


def _may_close(call: Call) -> bool:
    """Whether this worker is the one to end the study's record."""
    ledger = call.ledger
    assert ledger.leases is not None  # noqa: S101  see join
    # A holder that was killed a moment ago is noticed when its lease is over.
    deadline = time.monotonic() + 2 * ledger.leases.seconds
    first = ledger.leases.beats()
    while not ledger.leases.claim(CLOSING, ledger.worker_id, ledger.is_dead):
        holder = ledger.leases.holder(CLOSING) or ""
        if ledger.leases.beats().get(holder) != first.get(holder) or time.monotonic() > deadline:
            return False
        time.sleep(ledger.leases.beat_seconds / 2)
    return ledger.study.user_attrs.get(ENDED_AT) != len(ledger.trials())


def _close(call: Call) -> None:
    """Run the best trial again and end the study's record, as the command that began the study would."""
    ledger = call.ledger
    assert ledger.leases is not None  # noqa: S101  see join
    status = "interrupted"
    try:
        with Interrupts():
            close_dead(call)
            call.callbacks.notify("trials_end", call.sweep, call.worker.spec.settings["max_outage"])
            refit(call.worker, ledger, call.callbacks, call.sweep)
            status = "finished"
    finally:
        with uninterrupted():
            end(call, status)
            if status == "finished":
                ledger.study.set_user_attr(ENDED_AT, len(ledger.trials()))
            ledger.leases.end(CLOSING)
