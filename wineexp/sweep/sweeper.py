"""A sweep from its command line to its last file: read the plan, find the study, start the workers, write the best."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from wineexp.core.errors import UserError
from wineexp.core.signals import Interrupts
from wineexp.sweep.callbacks import Callbacks, Sweep
from wineexp.sweep.ledger import Ledger
from wineexp.sweep.live import live_line
from wineexp.sweep.prepare import BASIC_LAUNCHER, in_memory, prepare, read
from wineexp.sweep.refit import refit
from wineexp.sweep.report import summary, write_best
from wineexp.sweep.storage import open_storage
from wineexp.sweep.study import Setup, found, open_ledger
from wineexp.sweep.task import portable
from wineexp.sweep.worker import Worker

log = logging.getLogger(__name__)


def sweep(
    settings: Mapping[str, Any],
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    arguments: Sequence[str],
) -> list[float] | None:
    """Run a study to the end of its budget.

    Returns the best trial's values, one for each direction; None for several objectives, or if none is complete.

    Raises
    ------
    UserError
        Before any trial: for every fault of the space, the sampler, the storage, the study. After: where more than
        `max_failures` trials failed, or all of them did.
    KeyboardInterrupt
        At Ctrl-C or SIGTERM, once the trials are closed and the best is written.

    """
    plan = read(settings, context, config, arguments)
    setup = prepare(settings, context, config, plan)
    storage = open_storage(settings["storage"], setup.folder)
    found(setup, storage, plan)
    ledger = open_ledger(setup, plan, storage)
    callbacks = Callbacks(settings["callbacks"])
    told = Sweep(ledger.study, setup.folder, config, settings["seed"])
    OmegaConf.save(config, setup.folder / "multirun.yaml")
    started = time.time()
    deadline = started + settings["timeout"] if settings["timeout"] is not None else None
    kept = storage if in_memory(settings) else None
    worker = Worker(setup, context, portable(task), plan, deadline, kept)
    log.info("study %s in %s: %s", setup.name, setup.folder, _closing_line(ledger, started, None))
    _reap(ledger, callbacks, told, take_over=settings["take_over"])
    for trial in ledger.elsewhere():
        host = str(trial.user_attrs.get("worker", "another host")).split(":")[0]
        log.warning("trial %d runs on %s; if that host is gone, say hydra.sweeper.take_over=true", trial.number, host)
    callbacks.tell("study_start", told)
    status = "stopped"
    try:
        with Interrupts(), live_line(ledger, started):
            _launch(worker, ledger, callbacks, told)
            status = "finished" if _allowed(ledger) else "stopped"
            if status == "finished":
                refit(worker, ledger, callbacks, told)
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        _reap(ledger, callbacks, told, wait=5.0 if status == "interrupted" else 0.0)
        best_file = write_best(ledger, setup, plan)
        callbacks.tell("study_end", told, status, [best_file] if best_file else [])
        log.info("study %s %s: %s", setup.name, status, _closing_line(ledger, started, best_file))
    return _verdict(ledger, status)


def _launch(worker: Worker, ledger: Ledger, callbacks: Callbacks, told: Sweep) -> None:
    """Start the workers; again, as long as a launch was broken by dead workers and there is work to take up."""
    setup = worker.setup
    _widen(setup)
    while True:
        jobs = _jobs(worker, ledger)
        if not jobs:
            return
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=worker.context, task_function=worker, config=setup.config
        )
        try:
            for job in launcher.launch(jobs, initial_job_idx=0):
                job.return_value  # noqa: B018 - raises what the worker raised
        except Exception:
            dead = _reap(ledger, callbacks, told, wait=5.0)
            if not dead:
                raise
            log.warning("%d workers died; their trials are tried again where they may", len(dead), exc_info=True)
            continue
        finally:
            configure_log(setup.config.hydra.hydra_logging, setup.config.hydra.verbose)
        if not _reap(ledger, callbacks, told):
            return


def _widen(setup: Setup) -> None:
    """See that the launcher runs all workers at once, and say so where it cannot."""
    launcher, wanted = setup.config.hydra.launcher, setup.settings["n_workers"]
    if launcher._target_ == BASIC_LAUNCHER and wanted > 1:
        log.warning(
            "Hydra's basic launcher runs one worker at a time: for %d at once add hydra/launcher=joblib", wanted
        )
    if launcher.get("n_jobs") == -1:
        with open_dict(launcher):
            launcher.n_jobs = wanted


def _jobs(worker: Worker, ledger: Ledger) -> list[list[str]]:
    """One job's overrides for each worker that has something to do: its own folder, and no record of its config."""
    setup = worker.setup
    left = ledger.left()
    count = setup.settings["n_workers"] if left is None else min(setup.settings["n_workers"], left)
    start = next(iter(setup.defaults), {})
    groups = worker.plan.space.groups(start) if start else []
    fixed = [*worker.plan.fixed, *(str(group.input_line) for group in groups), *setup.placed]
    return [[*fixed, f"hydra.sweep.subdir=.workers/{index}", "hydra.output_subdir=null"] for index in range(count)]


def _reap(ledger: Ledger, callbacks: Callbacks, told: Sweep, wait: float = 0.0, take_over: bool = False) -> list[Any]:
    """Close what dead workers left; `wait` seconds at most for workers that are dying."""
    until = time.time() + wait
    dead: list[Any] = []
    while True:
        for trial in ledger.reap(take_over):
            log.warning("trial %d's worker is dead; the trial is closed as failed", trial.number)
            callbacks.tell("trial_dead", told, trial)
            dead.append(trial)
        if time.time() >= until or not ledger.running_here():
            return dead
        time.sleep(0.1)


def _allowed(ledger: Ledger) -> bool:
    limit = ledger.budget.max_failures
    return limit is None or ledger.failures(ledger.trials()) <= limit


def _closing_line(ledger: Ledger, started: float, best_file: Path | None) -> str:
    trials = ledger.trials()
    line = summary(ledger, trials, len(ledger.finished(trials)), started)
    return f"{line}; {best_file}" if best_file else line


def _verdict(ledger: Ledger, status: str) -> list[float] | None:
    best = ledger.best()
    failed = [trial for trial in ledger.trials() if trial.user_attrs.get("ended") == "error"]
    reasons = sorted({str(trial.user_attrs.get("error")) for trial in failed})
    if status == "stopped":
        raise UserError(
            f"{len(failed)} trials failed, more than hydra.sweeper.max_failures={ledger.budget.max_failures}: "
            + "; ".join(reasons)
        )
    if failed and not best:
        raise UserError(f"no trial is complete, {len(failed)} failed: " + "; ".join(reasons))
    return list(best[0].values) if best and len(ledger.study.directions) == 1 else None
