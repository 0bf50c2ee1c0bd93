"""The winner once more, under a seed that no trial had: the best of many trials is optimistic, a fresh run is not."""

import logging
import math
from dataclasses import dataclass
from typing import Any

from hydra.core.plugins import Plugins
from omegaconf import DictConfig

from wineexp.core.errors import UserError
from wineexp.sweep import trial as trials
from wineexp.sweep.callbacks import Callbacks, Sweep
from wineexp.sweep.ledger import Ledger
from wineexp.sweep.report import trial_overrides
from wineexp.sweep.samplers import derived
from wineexp.sweep.worker import Worker

log = logging.getLogger(__name__)

# The place in the seed's sequence that is no trial's.
PLACE = -1


@dataclass
class Again:
    """The task once more, with the callbacks' context but outside of the study."""

    worker: Worker

    def __call__(self, config: DictConfig) -> Any:
        """Run the task on a config."""
        setup = self.worker.setup
        trial = trials.Trial()
        trial.winner = True
        told = Sweep(self.worker.study(), setup.folder, setup.config, setup.settings["seed"])
        Callbacks(setup.settings["callbacks"]).tell("refit_start", told, trial)
        trials.enter(trial)
        try:
            return self.worker.task(config)
        finally:
            trials.enter(None)


def refit(worker: Worker, ledger: Ledger, callbacks: Callbacks, told: Sweep) -> None:
    """Run the best trial's parameters under a fresh seed, unless that has been done; the figure goes into the study."""
    setup = worker.setup
    key = setup.settings["refit_seed"]
    best = ledger.best()
    if key is None or len(setup.directions) > 1 or not best:
        return
    winner = best[0]
    if ledger.study.user_attrs.get("refit", {}).get("trial") == winner.number:
        return
    seed = derived(setup.settings["seed"], PLACE) % 2**31
    folder = f"hydra.sweep.subdir=refit-{winner.number}"
    overrides = [*trial_overrides(winner, worker.plan), f"{key}={seed}", *setup.placed, folder]
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=worker.context, task_function=Again(worker), config=setup.config
    )
    try:
        value = float(launcher.launch([overrides], initial_job_idx=0)[0].return_value)
        if math.isnan(value):
            raise ValueError("the task returned nan")
    except UserError as error:
        log.warning("the winner could not be run again under seed %d: %s", seed, error)
        return
    except Exception:
        log.exception("the winner could not be run again under seed %d; its trial's figure stands alone", seed)
        return
    ledger.study.set_user_attr("refit", {"trial": winner.number, "seed": seed, "value": value})
    log.info("trial %d gave %.6g; run again under seed %d: %.6g", winner.number, winner.value, seed, value)
    callbacks.tell("refit_end", told, winner, seed, value)
