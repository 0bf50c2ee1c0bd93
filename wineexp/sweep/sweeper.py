"""A sweep from its command line to its last file: read the plan, open the study, run the workers, write the best."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from optuna.trial import TrialState

from wineexp.core.addresses import without_credentials
from wineexp.core.composition import log_found_folder
from wineexp.core.errors import UserError
from wineexp.core.output_files import SWEEP_RECORD
from wineexp.core.signals import Interrupts, uninterrupted
from wineexp.sweep._hydra import BASIC_LAUNCHER, without_callbacks
from wineexp.sweep.call import Call, begin, close_dead, end, has_too_many_failures, result
from wineexp.sweep.callbacks import Callbacks, Sweep
from wineexp.sweep.detached import join, submit
from wineexp.sweep.heartbeat import Heartbeat
from wineexp.sweep.joining import store_command
from wineexp.sweep.launching import is_loss, is_loss_of_one
from wineexp.sweep.leases import CLOSING
from wineexp.sweep.ledger import Ledger
from wineexp.sweep.prepare import prepare, read_plan, with_absolute_paths
from wineexp.sweep.progress import live_line, summary
from wineexp.sweep.refit import refit
from wineexp.sweep.storage import is_in_memory, open_storage
from wineexp.sweep.study import StudySpec, check_exists, create_or_load, open_ledger, patiently_opened, shown
from wineexp.sweep.task import picklable
from wineexp.sweep.warm_start import find_known, take_over
from wineexp.sweep.worker import Worker

log = logging.getLogger(__name__)

# How long to wait for workers that are ending when the sweep is interrupted or a worker has died.
WORKER_EXIT_SECONDS = 5.0

# How often trials on other hosts are looked at.
MAX_WAIT_SECONDS = 1.0

# How often workers that died without a trial are started again.
MAX_IDLE_DEATHS = 3


def run_sweep(
    settings: Mapping[str, Any],
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    arguments: Sequence[str],
) -> list[float] | None:
    """Run a study until its budget is spent; or only begin its workers, or be one of them.

    Returns the best trial's values, one for each direction; None with several objectives or without a complete trial,
    and from a call that does not wait for the study's end.

    Raises
    ------
    UserError
        Before any trial: with every fault of the space, the sampler, the storage and the study. After the trials: if
        more than `max_failures` of them failed, or all.
    KeyboardInterrupt
        At Ctrl-C or SIGTERM, when the trials are closed and the best is written.

    """
    settings = with_absolute_paths(settings)
    plan = read_plan(settings, context, config, arguments)
    spec = prepare(settings, config, plan)
    if settings["joins"]:
        storage = patiently_opened(settings, spec.folder)
        check_exists(spec, storage)
    else:
        storage = open_storage(settings["storage"], spec.folder, settings["max_outage"])
    known = [] if settings["joins"] else find_known(spec, plan, storage)
    create_or_load(spec, storage)
    ledger = open_ledger(spec, plan, storage)
    take_over(known, ledger)
    (spec.folder / SWEEP_RECORD).write_text(without_credentials(OmegaConf.to_yaml(config)), encoding="utf-8")
    started = time.time()
    deadline = started + settings["timeout"] if settings["timeout"] is not None else None
    shared_storage = storage if is_in_memory(settings["storage"]) else None
    worker = Worker(spec, context, picklable(task), plan, deadline, shared_storage)
    sweep = Sweep(ledger.study, spec.folder, config, settings["seed"], plan)
    call = Call(worker, ledger, Callbacks(settings["callbacks"]), sweep, started)
    log_found_folder()
    log.info("study %s in %s: %s", spec.name, shown(spec.folder), summary(ledger, started))
    if settings["joins"]:
        join(call)
        return None
    if ledger.leases is not None:
        store_command(storage, ledger.study_id, spec.command, config, arguments)
    if ledger.n_remaining() == 0 and ledger.trials() and not ledger.ended_early:
        log.info(
            "study %s has no trial left to run: a higher hydra.sweeper.n_trials goes on with it, another "
            "hydra.sweeper.study_name begins a new one",
            spec.name,
        )
    if not settings["wait"]:
        submit(call)
        return None
    with Heartbeat(ledger.leases, ledger.worker_id):
        return _run(call)


def _run(call: Call) -> list[float] | None:
    """Run the trials and what follows them."""
    ledger = call.ledger
    if ledger.leases is not None:
        ledger.leases.resume()
        ledger.leases.claim(CLOSING, ledger.worker_id, ledger.is_dead)
    begin(call)
    status = "stopped"
    try:
        with Interrupts(), live_line(ledger, call.started):
            _run_workers(call)
            call.callbacks.notify("trials_end", call.sweep, call.worker.spec.settings["max_outage"])
            if not has_too_many_failures(ledger):
                status = "finished"
                refit(call.worker, ledger, call.callbacks, call.sweep)
    except KeyboardInterrupt:
        status = "interrupted"
        _stop_workers(call)
        raise
    finally:
        # A second Ctrl-C does not leave the study's record open.
        with uninterrupted():
            close_dead(call, wait_seconds=WORKER_EXIT_SECONDS if status == "interrupted" else 0.0)
            fault = end(call, status)
            if ledger.leases is not None and ledger.leases.holder(CLOSING) == ledger.worker_id:
                ledger.leases.end(CLOSING)
    if fault is not None:
        raise UserError(fault)
    return result(ledger, status)


def _stop_workers(call: Call) -> None:
    """Tell the workers on other hosts to stop, and wait until they have closed their trials; Ctrl-C ends the wait."""
    ledger = call.ledger
    if ledger.leases is None:
        return
    with uninterrupted():
        ledger.leases.stop(ledger.worker_id)
    if ledger.has_other_workers():
        log.info("waiting for the workers on other hosts to stop; Ctrl-C leaves them to themselves")
        close_dead(call, wait_seconds=2 * ledger.leases.seconds)


def _wait_for_others(call: Call) -> bool:
    """Wait for the trials of workers on other hosts; whether one of these workers was lost.

    Raises KeyboardInterrupt if the study is stopped elsewhere.
    """
    ledger, is_any_lost = call.ledger, False
    while ledger.leases is not None and ledger.has_other_workers() and not ledger.is_stopped:
        time.sleep(min(MAX_WAIT_SECONDS, ledger.leases.beat_seconds))
        is_any_lost |= bool(close_dead(call))
    if ledger.is_stopped:
        log.info("another program that runs this study is stopping it")
        raise KeyboardInterrupt
    return is_any_lost


def _run_workers(call: Call) -> None:
    """Launch the workers, and again if some of them died and left slots open."""
    worker, ledger, spec = call.worker, call.ledger, call.worker.spec
    _set_launcher_jobs(spec)
    n_idle_deaths, n_evaluated = 0, 0
    while True:
        jobs = _worker_jobs(worker, ledger)
        if not jobs:
            return
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=without_callbacks(worker.context), task_function=worker, config=spec.config
        )
        try:
            for job in launcher.launch(jobs, initial_job_idx=0):
                # Raises the exception that the worker raised.
                _ = job.return_value
        except Exception as error:
            wait_seconds = WORKER_EXIT_SECONDS if ledger.leases is None else 2 * ledger.leases.seconds
            dead = close_dead(call, wait_seconds)
            if not (dead or is_loss(error)):
                raise
            if is_loss_of_one(error):
                _wait_for_others(call)
            if dead:
                log.warning(
                    "%d workers died; their trials are tried again if hydra.sweeper.retries allows",
                    len(dead),
                    exc_info=not is_loss(error),
                )
                continue
            # Killed between two trials or before the first one, or in time to close its trial.
            n_idle_deaths = n_idle_deaths + 1 if _n_evaluated(ledger) == n_evaluated else 1
            n_evaluated = _n_evaluated(ledger)
            if n_idle_deaths > MAX_IDLE_DEATHS:
                raise UserError(
                    f"workers were killed {n_idle_deaths} times without a trial: from outside, by a limit of time that "
                    "is shorter than a trial, or by the system, whose memory ran out; try fewer of them with "
                    "hydra.sweeper.n_workers"
                ) from error
            log.warning("a worker was killed outside of a trial; workers are started again for what is left")
            continue
        finally:
            configure_log(spec.config.hydra.hydra_logging, spec.config.hydra.verbose)
        if not (close_dead(call) or _wait_for_others(call)):
            return


def _n_evaluated(ledger: Ledger) -> int:
    """How many trials have a result."""
    return sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in ledger.trials())


def _set_launcher_jobs(spec: StudySpec) -> None:
    """Let the launcher run all workers at once, and warn if it cannot."""
    launcher, n_workers = spec.config.hydra.launcher, spec.settings["n_workers"]
    if launcher._target_ == BASIC_LAUNCHER and n_workers > 1:
        log.warning(
            "Hydra's basic launcher runs one worker at a time: for %d at once add hydra/launcher=joblib", n_workers
        )
    if launcher.get("n_jobs") == -1:
        with read_write(launcher), open_dict(launcher):
            launcher.n_jobs = n_workers


def _worker_jobs(worker: Worker, ledger: Ledger) -> list[list[str]]:
    """The overrides of a job for each worker that has something to do; workers leave no record of their configs."""
    spec = worker.spec
    n_remaining = ledger.n_remaining()
    n_workers = spec.settings["n_workers"]
    count = n_workers if n_remaining is None else min(n_workers, n_remaining)
    # A group that the config leaves open has to be chosen for a config to be composed.
    first_point = next(iter(spec.enqueued), {})
    groups = worker.plan.space.group_overrides(first_point) if first_point else []
    fixed = [*worker.plan.fixed_overrides, *(str(group.input_line) for group in groups), *spec.folder_overrides]
    own = ["hydra.output_subdir=null", "hydra.job.chdir=false"]
    return [[*fixed, f"hydra.sweep.subdir=.workers/{index}", *own] for index in range(count)]
