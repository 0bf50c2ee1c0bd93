"""Running the best trial again under a seed that no trial had: the best of many values is optimistic, a new one not.

The config's own values are run under the same seed, so on the same folds: tuned and default can be compared in pairs.
"""

import logging
import math
from dataclasses import dataclass
from typing import Any, cast

from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FixedTrial, FrozenTrial
from optuna.trial import Trial as OptunaTrial

from wineexp.core.errors import UserError
from wineexp.sweep.callbacks import Callbacks, Sweep
from wineexp.sweep.ledger import Ledger
from wineexp.sweep.samplers import derive_seed
from wineexp.sweep.trial import Trial, set_current_trial
from wineexp.sweep.worker import Worker

log = logging.getLogger(__name__)

# No trial fills this slot, so that its seed is no trial's.
REFIT_SLOT = -1
# What the two runs are called.
WINNER, DEFAULT = "winner", "default"


@dataclass
class RefitTask:
    """What a launcher runs: the user's task, with the context that callbacks give, outside of the study."""

    worker: Worker
    name: str

    def __call__(self, config: DictConfig) -> Any:
        """Run the task on a config."""
        spec = self.worker.spec
        trial = Trial()
        trial.name, trial.is_refit = self.name, True
        sweep = Sweep(self.worker.load_study(), spec.folder, spec.config, spec.settings["seed"], self.worker.plan)
        Callbacks(spec.settings["callbacks"]).notify("refit_start", sweep, trial)
        set_current_trial(trial)
        try:
            return self.worker.task(config)
        finally:
            set_current_trial(None)


def refit(worker: Worker, ledger: Ledger, callbacks: Callbacks, sweep: Sweep) -> None:
    """Run the best trial again, unless that has been done or another process does it; store the value in the study."""
    spec = worker.spec
    best = ledger.best()
    if spec.settings["refit_seed"] is None or len(spec.directions) > 1 or not best:
        return
    winner = best[0]
    done = _earlier_refit(ledger, winner)
    if done is not None and "default" in done:
        return
    if ledger.running() or not ledger.claim_refit():
        log.info("another process is still at this study, and runs the winner again")
        return
    try:
        _refit(worker, ledger, callbacks, sweep, winner)
    finally:
        ledger.release_refit()


def _earlier_refit(ledger: Ledger, winner: FrozenTrial) -> dict[str, Any] | None:
    """What the study knows of the winner's refit; None of another winner's. Without `default`, it was not completed."""
    stored: dict[str, Any] = ledger.study.user_attrs.get("refit", {})
    return stored if stored.get("trial") == winner.number else None


def _refit(worker: Worker, ledger: Ledger, callbacks: Callbacks, sweep: Sweep, winner: FrozenTrial) -> None:
    done = _earlier_refit(ledger, winner)
    if done is None:
        # scikit-learn's seeds have 31 bits.
        seed = derive_seed(worker.spec.settings["seed"], REFIT_SLOT) % 2**31
        value = _run_again(worker, ledger, WINNER, winner, worker.plan.overrides_of(winner), seed)
        if value is None:
            return
        done = {"trial": winner.number, "seed": seed, "value": value}
        ledger.study.set_user_attr("refit", done)
    default_overrides = _default_overrides(worker, winner) if worker.spec.settings["refit_default"] else None
    default = None
    if default_overrides is not None:
        default = _run_again(worker, ledger, DEFAULT, winner, default_overrides, done["seed"])
    ledger.study.set_user_attr("refit", {**done, "default": default})
    beside = "" if default is None else f"; the config's own values under the same seed: {default:.6g}"
    figures = (winner.number, winner.value, done["seed"], done["value"])
    log.info("trial %d gave %.6g; run again under seed %d: %.6g%s", *figures, beside)
    callbacks.notify("refit_end", sweep, winner, done["seed"], done["value"])


def _run_again(
    worker: Worker, ledger: Ledger, name: str, winner: FrozenTrial, overrides: list[str], seed: int
) -> float | None:
    """The value that the task gives for these overrides under this seed; None if it fails."""
    spec = worker.spec
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=worker.context, task_function=RefitTask(worker, name), config=spec.config
    )
    job = [
        *overrides,
        f"{spec.settings['refit_seed']}={seed}",
        *spec.folder_overrides,
        f"hydra.sweep.subdir={name}-{winner.number}",
    ]
    # Hydra's callbacks and the job's config show a number that no trial has.
    number = len(ledger.trials()) + (name == DEFAULT)
    try:
        value = float(launcher.launch([job], initial_job_idx=number)[0].return_value)
        if math.isnan(value):
            raise ValueError("the task returned nan")
    except UserError as error:
        log.warning("the %s could not be run under seed %d: %s", name, seed, error)
        return None
    except Exception:
        log.exception("the %s could not be run under seed %d", name, seed)
        return None
    return value


def _default_overrides(worker: Worker, winner: FrozenTrial) -> list[str] | None:
    """The overrides of the winner without the values that were tuned; None if that is the winner, or no config."""
    groups, values = worker.plan.suggest(cast(OptunaTrial, FixedTrial(winner.params, winner.number)))
    config = worker.plan.composer.compose(groups, [])
    if not values or any(OmegaConf.is_missing(config, item.key_or_group) for item in values):
        return None
    if all(OmegaConf.select(config, item.key_or_group) == item.value() for item in values):
        log.info("the best trial has the config's own values: tuning found none that are better")
        return None
    return [*worker.plan.fixed_overrides, *(str(item.input_line) for item in groups)]
