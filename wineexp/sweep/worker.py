"""One worker: ask, compose, run, tell, until the budget is spent. Any launcher of Hydra's can start many."""

import logging
import math
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from optuna.exceptions import TrialPruned
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from wineexp.core.signals import Interrupts
from wineexp.sweep import trial as trials
from wineexp.sweep.callbacks import Callbacks, Outcome, Sweep
from wineexp.sweep.compose import Composer
from wineexp.sweep.job import run_job
from wineexp.sweep.ledger import ERROR, Ledger
from wineexp.sweep.plan import Plan
from wineexp.sweep.report import progress_line, write_best
from wineexp.sweep.samplers import SamplerMaker
from wineexp.sweep.study import Setup, open_ledger

log = logging.getLogger(__name__)

# Trials that the winner's run takes the time of: it is fitted once more, on all rows, explained and stored.
WINNER = 2


@dataclass
class Worker:
    """What a launcher runs in place of the user's task; it travels to other processes by pickle.

    `storage` is given only for a study in memory, which cannot travel. `deadline` is seconds since the epoch.
    """

    setup: Setup
    context: HydraContext
    task: TaskFunction
    plan: Plan
    deadline: float | None
    storage: BaseStorage | None = None

    def study(self) -> Study:
        """The study, in whatever process this is."""
        return open_ledger(self.setup, self.plan, self.storage).study

    def __call__(self, _: DictConfig) -> int:
        """Work until nothing is left; returns how many trials this worker ran."""
        return Loop(self).run()


class Loop:
    """A worker at work in its own process."""

    def __init__(self, worker: Worker) -> None:
        setup = worker.setup
        self.worker, self.setup, self.plan = worker, setup, worker.plan
        self.ledger: Ledger = open_ledger(setup, worker.plan, worker.storage)
        self.makes = SamplerMaker(setup.settings["sampler"], setup.settings["seed"], worker.plan.space)
        self.composer = Composer(worker.context.config_loader, setup.config, [*worker.plan.fixed, *setup.placed])
        self.callbacks = Callbacks(setup.settings["callbacks"])
        self.sweep = Sweep(self.ledger.study, setup.folder, setup.config, setup.settings["seed"])
        self.unit = str(setup.settings["pruner"].get("unit", "fold"))
        self.interrupts = Interrupts()
        self.started = time.time()
        # Seconds of the longest trial.
        self.longest = 0.0

    def run(self) -> int:
        """Run trials until the budget or the time is spent."""
        count = 0
        try:
            with self.interrupts:
                while self._has_time():
                    self.interrupts.check()
                    trial = self.ledger.claim(self.makes.make)
                    if trial is None:
                        break
                    begun = time.time()
                    self._trial(trial)
                    trials.enter(None)
                    self.longest = max(self.longest, time.time() - begun)
                    count += 1
        except BaseException:
            # Not the task's fault: the slots stay open, and a resumed study tries these parameters again.
            self.ledger.abandon()
            raise
        finally:
            trials.enter(None)
            configure_log(self.setup.config.hydra.hydra_logging, self.setup.config.hydra.verbose)
        return count

    def _has_time(self) -> bool:
        """Whether one more trial, as long as the longest so far, and the winner's run would be done in time."""
        if self.worker.deadline is None:
            return True
        runs = 1 + (WINNER if self.setup.settings["refit_seed"] is not None else 0)
        return time.time() + runs * self.longest < self.worker.deadline

    def _trial(self, trial: Trial) -> None:
        groups, leaves = self.plan.suggest(trial)
        overrides = {item.key_or_group: _text(item) for item in (*groups, *leaves)}
        folder = self.setup.folder / str(trial.number)
        begun = Outcome(trial.number, "running", None, overrides, folder, began=time.time())
        twin = self.ledger.duplicate(trial.params) if self.setup.settings["dedupe"] else None
        if twin is not None:
            self._copy(trial, twin, begun)
            return
        config = self.composer.compose(groups, leaves)
        live = trials.StudyTrial(trial, overrides, str(folder), self.unit)
        self.callbacks.tell("trial_start", self.sweep, live)
        trials.enter(live)
        try:
            job = run_job(self._guarded, config, self.worker.context, trial.number)
        except BaseException:
            stopped = replace(begun, state="interrupted", scores=live.scores, attrs=live.user_attrs)
            self.ledger.abandon()
            self.callbacks.tell("trial_end", self.sweep, stopped)
            raise
        self._close(trial, live, job, begun)

    def _guarded(self, config: DictConfig) -> Any:
        """The task; one that calls exit fails its trial and not the sweep."""
        self.interrupts.check()
        try:
            return self.worker.task(config)
        except SystemExit as error:
            raise RuntimeError(f"the task exited with {error.code!r}") from error

    def _close(self, trial: Trial, live: trials.StudyTrial, job: JobReturn, begun: Outcome) -> None:
        state, values, error, trace = TrialState.COMPLETE, None, None, None
        try:
            if job.status is not JobStatus.COMPLETED:
                job.return_value  # noqa: B018 - raises what the task raised
            values = self._values(job._return_value)
            self._constrain(live)
            if live.told_to_prune:
                state = TrialState.PRUNED
        except (trials.Pruned, TrialPruned):
            state = TrialState.PRUNED
            # All that such a trial leaves: the mean of what it reported.
            scores = [score for score in live.scores.values() if not math.isnan(score)]
            values = [sum(scores) / len(scores)] if scores and len(self.ledger.study.directions) == 1 else None
        except Exception as problem:
            state, error = TrialState.FAIL, f"{type(problem).__name__}: {problem}".splitlines()[0]
            trace = "".join(traceback.format_exception(problem))
        attrs = {"ended": ERROR, "error": error, "traceback": trace} if error else {}
        if not self.ledger.finish(trial, state, None if state is TrialState.FAIL else values, **attrs):
            log.warning("trial %d was closed by someone else; its result is not counted", trial.number)
            return
        name = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}[state]
        outcome = replace(begun, state=name, values=values, error=error, traceback=trace)
        self._told(replace(outcome, scores=live.scores, attrs=live.user_attrs))

    def _told(self, outcome: Outcome) -> None:
        self.callbacks.tell("trial_end", self.sweep, outcome)
        log.info(progress_line(self.ledger, outcome, self.started))
        if outcome.state == "complete":
            file = write_best(self.ledger, self.setup, self.plan, only=outcome.number)
            if file is not None:
                self.callbacks.tell("new_best", self.sweep, outcome, file)

    def _copy(self, trial: Trial, twin: FrozenTrial, begun: Outcome) -> None:
        """Close a trial with what another trial of the same parameters gave."""
        for step, score in twin.intermediate_values.items():
            trial.report(score, step)
        for key, value in twin.constraints.items():
            trial.set_constraint(key, value)
        self.ledger.finish(trial, twin.state, twin.values, duplicate_of=twin.number)
        attrs = {"duplicate_of": twin.number}
        scores = twin.intermediate_values
        self._told(replace(begun, state="duplicate", values=twin.values, scores=scores, attrs=attrs))

    def _values(self, returned: Any) -> list[float]:
        objectives = len(self.ledger.study.directions)
        many = isinstance(returned, Sequence) and not isinstance(returned, str)
        try:
            values = [float(value) for value in returned] if many else [float(returned)]
        except (TypeError, ValueError):
            raise ValueError(f"the task returned {returned!r}, and a sweep needs the metric, a number") from None
        if len(values) != objectives:
            raise ValueError(f"the task returned {len(values)} values for {objectives} directions")
        if any(math.isnan(value) for value in values):
            raise ValueError(f"the task returned {returned!r}")
        return values

    def _constrain(self, live: trials.StudyTrial) -> None:
        for key, bound in self.setup.settings["constraints"].items():
            if key not in live.user_attrs:
                raise ValueError(f"hydra.sweeper.constraints.{key}: the task set no attribute of this name")
            live.set_constraint(key, float(live.user_attrs[key]) - bound)


def _text(override: Override) -> str:
    return str(override.input_line).partition("=")[2]
