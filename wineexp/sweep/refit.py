"""Running the best trial again under a seed that no trial had: the best of many values is optimistic, a new one not."""

import logging
import math
from dataclasses import dataclass
from typing import Any

from hydra.core.plugins import Plugins
from omegaconf import DictConfig

from wineexp.core.errors import UserError
from wineexp.sweep.callbacks import Callbacks, Sweep
from wineexp.sweep.ledger import Ledger
from wineexp.sweep.samplers import derive_seed
from wineexp.sweep.trial import Trial, set_current_trial
from wineexp.sweep.worker import Worker

log = logging.getLogger(__name__)

# No trial fills this slot, so that its seed is no trial's.
REFIT_SLOT = -1


@dataclass
class RefitTask:
    """What a launcher runs: the user's task, with the context that callbacks give, outside of the study."""

    worker: Worker

    def __call__(self, config: DictConfig) -> Any:
        """Run the task on a config."""
        spec = self.worker.spec
        trial = Trial()
        trial.is_refit = True
        sweep = Sweep(self.worker.load_study(), spec.folder, spec.config, spec.settings["seed"])
        Callbacks(spec.settings["callbacks"]).notify("refit_start", sweep, trial)
        set_current_trial(trial)
        try:
            return self.worker.task(config)
        finally:
            set_current_trial(None)


def refit(worker: Worker, ledger: Ledger, callbacks: Callbacks, sweep: Sweep) -> None:
    """Run the best trial again, unless that has been done, and store the new value in the study."""
    spec = worker.spec
    seed_key = spec.settings["refit_seed"]
    best = ledger.best()
    if seed_key is None or len(spec.directions) > 1 or not best:
        return
    winner = best[0]
    if ledger.study.user_attrs.get("refit", {}).get("trial") == winner.number:
        return
    # scikit-learn's seeds have 31 bits.
    seed = derive_seed(spec.settings["seed"], REFIT_SLOT) % 2**31
    overrides = [
        *worker.plan.overrides_of(winner),
        f"{seed_key}={seed}",
        *spec.folder_overrides,
        f"hydra.sweep.subdir=refit-{winner.number}",
    ]
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=worker.context, task_function=RefitTask(worker), config=spec.config
    )
    try:
        # Hydra's callbacks and the job's config show a number that no trial has.
        job = launcher.launch([overrides], initial_job_idx=len(ledger.trials()))[0]
        value = float(job.return_value)
        if math.isnan(value):
            raise ValueError("the task returned nan")
    except UserError as error:
        log.warning("the winner could not be run again under seed %d: %s", seed, error)
        return
    except Exception:
        log.exception("the winner could not be run again under seed %d; its trial's value is the only one", seed)
        return
    ledger.study.set_user_attr("refit", {"trial": winner.number, "seed": seed, "value": value})
    log.info("trial %d gave %.6g; run again under seed %d: %.6g", winner.number, winner.value, seed, value)
    callbacks.notify("refit_end", sweep, winner, seed, value)
