"""A sweep from its command line to its last file: read the plan, open the study, run the workers, write the best."""

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from optuna.trial import FrozenTrial

from wineexp.core.addresses import without_credentials
from wineexp.core.composition import log_found_folder
from wineexp.core.errors import UserError
from wineexp.core.output_files import SWEEP_RECORD
from wineexp.core.signals import Interrupts, uninterrupted
from wineexp.sweep._hydra import BASIC_LAUNCHER, without_callbacks
from wineexp.sweep.best_file import write_best
from wineexp.sweep.callbacks import Callbacks, Sweep
from wineexp.sweep.ledger import Ledger
from wineexp.sweep.plan import Plan
from wineexp.sweep.prepare import prepare, read_plan, with_absolute_paths
from wineexp.sweep.progress import live_line, summary
from wineexp.sweep.refit import refit
from wineexp.sweep.slots import ERROR
from wineexp.sweep.storage import is_in_memory, open_storage
from wineexp.sweep.study import StudySpec, create_or_load, open_ledger, shown
from wineexp.sweep.task import picklable
from wineexp.sweep.worker import Worker

log = logging.getLogger(__name__)

# How long to wait for workers that are ending when the sweep is interrupted or a worker has died.
WORKER_EXIT_SECONDS = 5.0

# How often workers that died without a trial are started again.
MAX_IDLE_DEATHS = 3


def run_sweep(
    settings: Mapping[str, Any],
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    arguments: Sequence[str],
) -> list[float] | None:
    """Run a study until its budget is spent.

    Returns the best trial's values, one for each direction; None with several objectives or without a complete trial.

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
    spec = prepare(settings, context, config, plan)
    storage = open_storage(settings["storage"], spec.folder)
    create_or_load(spec, storage)
    ledger = open_ledger(spec, plan, storage)
    callbacks = Callbacks(settings["callbacks"])
    sweep = Sweep(ledger.study, spec.folder, config, settings["seed"], plan)
    (spec.folder / SWEEP_RECORD).write_text(without_credentials(OmegaConf.to_yaml(config)), encoding="utf-8")
    started = time.time()
    deadline = started + settings["timeout"] if settings["timeout"] is not None else None
    shared_storage = storage if is_in_memory(settings["storage"]) else None
    worker = Worker(spec, context, picklable(task), plan, deadline, shared_storage)
    log_found_folder()
    log.info("study %s in %s: %s", spec.name, shown(spec.folder), summary(ledger, started))
    if ledger.n_remaining() == 0 and ledger.trials():
        log.info(
            "study %s has no trial left to run: a higher hydra.sweeper.n_trials goes on with it, another "
            "hydra.sweeper.study_name begins a new one",
            spec.name,
        )
    _close_dead(ledger, callbacks, sweep, include_other_hosts=settings["take_over"])
    for trial in ledger.running_on_other_hosts():
        host = str(trial.user_attrs.get("worker", "another host")).split(":")[0]
        log.warning("trial %d runs on %s; if that host is gone, say hydra.sweeper.take_over=true", trial.number, host)
    callbacks.notify("study_start", sweep)
    if ledger.close_dead_refit(include_other_hosts=settings["take_over"]):
        callbacks.notify("refit_dead", sweep)
    status = "stopped"
    try:
        with Interrupts(), live_line(ledger, started):
            _run_workers(worker, ledger, callbacks, sweep)
            if not _has_too_many_failures(ledger):
                status = "finished"
                refit(worker, ledger, callbacks, sweep)
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        # A second Ctrl-C does not leave the study's record open.
        with uninterrupted():
            _close_dead(ledger, callbacks, sweep, wait_seconds=WORKER_EXIT_SECONDS if status == "interrupted" else 0.0)
            best_file, fault = _write_best(ledger, spec, plan)
            callbacks.notify("study_end", sweep, status, [best_file] if best_file else [])
            log.info("study %s %s: %s", spec.name, status, _closing_line(ledger, started, best_file))
    if fault is not None:
        raise UserError(fault)
    return _result(ledger, status)


def _write_best(ledger: Ledger, spec: StudySpec, plan: Plan) -> tuple[Path | None, str | None]:
    """Write the best trial's file; gives it, or what kept it from being written."""
    try:
        return write_best(ledger, spec, plan), None
    except OSError as error:
        fault = (
            f"the study is complete as far as it went, but its best trial's file could not be written: {error}; "
            "give the same command again when that is mended"
        )
        log.error(fault)
        return None, fault


def _run_workers(worker: Worker, ledger: Ledger, callbacks: Callbacks, sweep: Sweep) -> None:
    """Launch the workers, and again if some of them died and left slots open."""
    spec = worker.spec
    _set_launcher_jobs(spec)
    n_idle_deaths = 0
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
            dead = _close_dead(ledger, callbacks, sweep, wait_seconds=WORKER_EXIT_SECONDS)
            if dead:
                log.warning(
                    "%d workers died; their trials are tried again if hydra.sweeper.retries allows",
                    len(dead),
                    exc_info=not isinstance(error, BrokenProcessPool),
                )
                continue
            if not isinstance(error, BrokenProcessPool):
                raise
            # Killed between two trials or before the first one, so that none has to be closed.
            n_idle_deaths += 1
            if n_idle_deaths > MAX_IDLE_DEATHS:
                raise UserError(
                    f"workers were killed {n_idle_deaths} times without a trial: from outside, or by the system, whose "
                    "memory ran out; try fewer of them with hydra.sweeper.n_workers"
                ) from error
            log.warning("a worker was killed before it had begun a trial; the workers are started again")
            continue
        finally:
            configure_log(spec.config.hydra.hydra_logging, spec.config.hydra.verbose)
        if not _close_dead(ledger, callbacks, sweep):
            return


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


def _close_dead(
    ledger: Ledger,
    callbacks: Callbacks,
    sweep: Sweep,
    wait_seconds: float = 0.0,
    include_other_hosts: bool = False,
) -> list[FrozenTrial]:
    """Close the trials of dead workers, and give them; waits for at most so long for workers that are ending."""
    deadline = time.time() + wait_seconds
    closed: list[FrozenTrial] = []
    while True:
        for trial in ledger.close_dead(include_other_hosts):
            log.warning("trial %d's worker is dead; the trial is closed as failed", trial.number)
            callbacks.notify("trial_dead", sweep, trial)
            closed.append(trial)
        if time.time() >= deadline or not ledger.has_other_workers_here():
            return closed
        time.sleep(0.1)


def _has_too_many_failures(ledger: Ledger) -> bool:
    limit = ledger.budget.max_failures
    return limit is not None and ledger.slots().n_failures > limit


def _closing_line(ledger: Ledger, started: float, best_file: Path | None) -> str:
    line = summary(ledger, started)
    return f"{line}; {shown(best_file)}" if best_file else line


def _result(ledger: Ledger, status: str) -> list[float] | None:
    """What `run_sweep` returns; raises UserError if too many trials failed, or all."""
    best = ledger.best()
    failed = [trial for trial in ledger.trials() if trial.user_attrs.get("ended") == ERROR]
    reasons = "; ".join(sorted({str(trial.user_attrs.get("error")) for trial in failed}))
    if status == "stopped":
        limit = ledger.budget.max_failures
        raise UserError(f"{len(failed)} trials failed, more than hydra.sweeper.max_failures={limit}: {reasons}")
    if failed and not best:
        raise UserError(f"no trial is complete, {len(failed)} failed: {reasons}")
    return list(best[0].values) if best and len(ledger.study.directions) == 1 else None
