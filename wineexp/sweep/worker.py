"""A worker: suggests parameters, composes the config, runs the task and stores the result, until the budget is spent.

Any of Hydra's launchers can run several workers.
"""

import logging
import math
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hydra.core.utils import JobReturn, configure_log
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from optuna.exceptions import TrialPruned
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from wineexp.core.errors import SetupError, UnavailableError
from wineexp.core.signals import Interrupts, uninterrupted
from wineexp.sweep._omegaconf import parsing_interpolations_once
from wineexp.sweep.best_file import write_best
from wineexp.sweep.callbacks import Callbacks, Outcome, Sweep
from wineexp.sweep.compose import Composer
from wineexp.sweep.heartbeat import Heartbeat
from wineexp.sweep.ledger import Ledger
from wineexp.sweep.plan import Plan, value_text
from wineexp.sweep.progress import trial_line
from wineexp.sweep.run_job import assign_number, run_job
from wineexp.sweep.samplers import SamplerFactory
from wineexp.sweep.slots import ERROR
from wineexp.sweep.study import StudySpec, open_ledger
from wineexp.sweep.trial import Pruned, StudyTrial, set_current_trial

log = logging.getLogger(__name__)

# The time of a run after the trials, in trials: the model is cross-validated, fitted on all rows, explained and stored.
REFIT_TRIALS = 2
# How long a worker waits before it tries again what a store was away for, after its client's own tries.
UNAVAILABLE_PAUSE_SECONDS = 5.0
# How often a worker that has no trial looks whether one of another worker was given up.
MAX_IDLE_SECONDS = 1.0


@dataclass
class Worker:
    """What a launcher runs in place of the user's task. It is pickled to get into other processes.

    `storage` is given only for a study in memory, which no other process can open. `deadline` is in seconds since the
    epoch.
    """

    spec: StudySpec
    context: HydraContext
    task: TaskFunction
    plan: Plan
    deadline: float | None
    storage: BaseStorage | None = None

    def load_study(self) -> Study:
        """The study, loaded in the current process."""
        return open_ledger(self.spec, self.plan, self.storage).study

    def __call__(self, _: DictConfig) -> int:
        """Run trials until none is left; returns how many this worker ran."""
        return WorkerLoop(self).run()


class WorkerLoop:
    """A worker in the process where it runs."""

    def __init__(self, worker: Worker) -> None:
        spec = worker.spec
        self.worker, self.spec, self.plan = worker, spec, worker.plan
        self.ledger: Ledger = open_ledger(spec, worker.plan, worker.storage)
        self.samplers = SamplerFactory(spec.settings["sampler"], spec.settings["seed"], worker.plan.space)
        overrides = [*worker.plan.fixed_overrides, *spec.folder_overrides]
        self.composer = Composer(worker.context.config_loader, spec.config, overrides)
        self.callbacks = Callbacks(spec.settings["callbacks"])
        self.sweep = Sweep(self.ledger.study, spec.folder, spec.config, spec.settings["seed"], worker.plan)
        self.unit = str(spec.settings["pruner"].get("unit", "fold"))
        self.interrupts = Interrupts()
        self.heartbeat = self.new_heartbeat()
        self.started = time.time()
        self.longest_trial_seconds = 0.0
        self.setup_error: SetupError | None = None
        # What cannot be reached, as the last task said, and since when, in seconds of the monotonic clock.
        self.unavailable: UnavailableError | None = None
        self.unavailable_since: float | None = None

    def new_heartbeat(self) -> Heartbeat:
        """What shows that this worker lives, for one with block."""
        return Heartbeat(self.ledger.leases, self.ledger.worker_id, self.ledger.close_interrupted)

    def run(self) -> int:
        """Run trials until the budget or the time is spent, or the study is to stop; returns how many."""
        count = 0
        try:
            with self.interrupts, self.heartbeat, parsing_interpolations_once():
                self.callbacks.notify("worker_start", self.sweep)
                while self._has_time():
                    self.interrupts.check()
                    if self.heartbeat.is_stopped:
                        log.info("the study is to stop, says the program that began it")
                        break
                    self._close_lost()
                    trial = self.ledger.start_next_trial(self.samplers.make)
                    if trial is None:
                        if not self._may_get_another():
                            break
                        continue
                    trial_started = time.time()
                    self._run_trial(trial)
                    set_current_trial(None)
                    self.longest_trial_seconds = max(self.longest_trial_seconds, time.time() - trial_started)
                    count += 1
        except BaseException as error:
            # The task did not fail: its slot stays open, and a resumed study tries the same parameters again.
            self.ledger.close_interrupted()
            if not (isinstance(error, KeyboardInterrupt) and self.heartbeat.is_stopped):
                raise
            log.info("the study is to stop, says the program that began it; the trial is closed as interrupted")
        finally:
            set_current_trial(None)
            configure_log(self.spec.config.hydra.hydra_logging, self.spec.config.hydra.verbose)
        return count

    def _close_lost(self) -> None:
        """Close the trials of workers on other hosts that are lost; this worker may fill their slots itself."""
        if self.ledger.leases is None:
            return
        for trial in self.ledger.close_dead():
            log.warning("trial %d's worker is lost; the trial is closed as failed", trial.number)
            self.callbacks.notify("trial_dead", self.sweep, trial)

    def _may_get_another(self) -> bool:
        """Whether a trial that still runs elsewhere may leave its slot open, for which this worker waits a moment."""
        leases = self.ledger.leases
        if leases is None or not self.ledger.running() or self.ledger.is_spent():
            return False
        time.sleep(min(MAX_IDLE_SECONDS, leases.beat_seconds))
        return True

    def _has_time(self) -> bool:
        seconds_left = math.inf if self.worker.deadline is None else self.worker.deadline - time.time()
        settings = self.spec.settings
        n_refits = 0 if settings["refit_seed"] is None else 1 + settings["refit_default"]
        return has_time_for_trial(seconds_left, self.longest_trial_seconds, n_refits)

    def _run_trial(self, trial: Trial) -> None:
        groups, values = self.plan.suggest(trial)
        overrides = {item.key_or_group: value_text(item) for item in (*groups, *values)}
        config = self.composer.compose(groups, values)
        folder = assign_number(config, trial.number)
        outcome = Outcome(trial.number, "running", None, overrides, folder, started=time.time())
        duplicate = self.ledger.find_duplicate(trial.params) if self.spec.settings["dedupe"] else None
        if duplicate is not None:
            self._close_as_duplicate(trial, duplicate, outcome)
            return
        study_trial = StudyTrial(trial, overrides, str(folder), self.unit)
        self.callbacks.notify("trial_start", self.sweep, study_trial)
        set_current_trial(study_trial)
        try:
            job = run_job(self._run_task, config, self.worker.context)
            if self.setup_error is not None:
                # Other trials would fail alike. Once it is mended, a resumed study tries these parameters again.
                raise self.setup_error
        except BaseException:
            with uninterrupted():
                self.ledger.close_interrupted()
                interrupted = replace(
                    outcome, state="interrupted", scores=study_trial.scores, attrs=study_trial.user_attrs
                )
                self.callbacks.notify("trial_end", self.sweep, interrupted)
            raise
        if self.unavailable is not None:
            self._put_off(trial)
            return
        self.unavailable_since = None
        # A trial that is closed in the study is recorded, too.
        with uninterrupted():
            self._close(trial, study_trial, job, outcome)

    def _put_off(self, trial: Trial) -> None:
        """Leave a trial's slot open and wait, as the store that its task needs cannot be reached.

        Raises UnavailableError if that has been so for too long.
        """
        error, self.unavailable = self.unavailable, None
        assert error is not None  # noqa: S101  the caller has looked
        self.ledger.close_interrupted()
        now = time.monotonic()
        self.unavailable_since = self.unavailable_since or now
        if now - self.unavailable_since > self.spec.settings["max_outage"]:
            raise error
        log.warning("trial %d is put off, and tried again in %g s: %s", trial.number, UNAVAILABLE_PAUSE_SECONDS, error)
        time.sleep(UNAVAILABLE_PAUSE_SECONDS)

    def _run_task(self, config: DictConfig) -> Any:
        """Run the task; if it calls `sys.exit`, its trial fails and the sweep goes on."""
        self.interrupts.check()
        try:
            with self.heartbeat.stopping_task():
                return self.worker.task(config)
        except SetupError as error:
            self.setup_error = error
            raise
        except UnavailableError as error:
            self.unavailable = error
            raise
        except SystemExit as error:
            raise RuntimeError(f"the task exited with {error.code!r}") from error

    def _close(self, trial: Trial, study_trial: StudyTrial, job: JobReturn, outcome: Outcome) -> None:
        """Close a trial whose job has ended, and announce it."""
        state, values, error, trace = TrialState.COMPLETE, None, None, None
        try:
            # Raises the exception that the task raised.
            values = self._objective_values(job.return_value)
            self._set_constraints(study_trial)
            if study_trial.is_pruned:
                state = TrialState.PRUNED
        except (Pruned, TrialPruned):
            state = TrialState.PRUNED
            # The task returned nothing: the mean of what it reported takes the place of its value.
            scores = [score for score in study_trial.scores.values() if not math.isnan(score)]
            values = [sum(scores) / len(scores)] if scores and len(self.ledger.directions) == 1 else None
        except Exception as problem:
            state, error = TrialState.FAIL, f"{type(problem).__name__}: {problem}".splitlines()[0]
            trace = "".join(traceback.format_exception(problem))
        attrs = {"ended": ERROR, "error": error, "traceback": trace} if error else {}
        if not self.ledger.close(trial, state, None if state is TrialState.FAIL else values, **attrs):
            log.warning("trial %d was closed by another process; its result is not counted", trial.number)
            return
        name = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}[state]
        closed = replace(outcome, state=name, values=values, error=error, traceback=trace)
        self._announce(replace(closed, scores=study_trial.scores, attrs=study_trial.user_attrs))

    def _announce(self, outcome: Outcome) -> None:
        """Tell callbacks and the log of a closed trial, and write the best file if the trial belongs in it."""
        self.callbacks.notify("trial_end", self.sweep, outcome)
        log.info(trial_line(self.ledger, outcome, self.started))
        if outcome.state == "complete":
            try:
                file = write_best(self.ledger, self.spec, self.plan, only_if=outcome.number)
            except OSError as error:
                log.warning("the best trial's file could not be written: %s", error)
                return
            if file is not None:
                self.callbacks.notify("new_best", self.sweep, outcome, file)

    def _close_as_duplicate(self, trial: Trial, duplicate: FrozenTrial, outcome: Outcome) -> None:
        """Close a trial with the results of an earlier trial that has the same parameters."""
        for step, score in duplicate.intermediate_values.items():
            trial.report(score, step)
        for key, value in duplicate.constraints.items():
            trial.set_constraint(key, value)
        attrs = {"duplicate_of": duplicate.number}
        self.ledger.close(trial, duplicate.state, duplicate.values, **attrs)
        scores = duplicate.intermediate_values
        self._announce(replace(outcome, state="duplicate", values=duplicate.values, scores=scores, attrs=attrs))

    def _objective_values(self, returned: Any) -> list[float]:
        """What the task returned, as one number for each direction; raises ValueError if it is anything else."""
        n_objectives = len(self.ledger.directions)
        is_sequence = isinstance(returned, Sequence) and not isinstance(returned, str)
        try:
            values = [float(value) for value in returned] if is_sequence else [float(returned)]
        except (TypeError, ValueError):
            raise ValueError(f"the task returned {returned!r}, and a sweep needs the metric, a number") from None
        if len(values) != n_objectives:
            raise ValueError(f"the task returned {len(values)} values for {n_objectives} directions")
        if any(math.isnan(value) for value in values):
            raise ValueError(f"the task returned {returned!r}")
        return values

    def _set_constraints(self, study_trial: StudyTrial) -> None:
        for key, bound in self.spec.settings["constraints"].items():
            if key not in study_trial.user_attrs:
                raise ValueError(f"hydra.sweeper.constraints.{key}: the task set no attribute of this name")
            study_trial.set_constraint(key, float(study_trial.user_attrs[key]) - bound)


def has_time_for_trial(seconds_left: float, longest_trial_seconds: float, n_refits: int) -> bool:
    """Whether a trial as long as the longest so far, and then the runs after the trials, end in the time left."""
    return (1 + REFIT_TRIALS * n_refits) * longest_trial_seconds < seconds_left
