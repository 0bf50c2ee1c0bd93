"""What a sweep can be told: Hydra's schema of `hydra.sweeper`. Imported at every start, so it imports nothing."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Settings:
    """The keys of `hydra.sweeper`; `hydra/sweeper/{sampler,pruner,storage}` are the groups below it."""

    defaults: list[Any] = field(
        default_factory=lambda: ["_self_", {"sampler": "tpe"}, {"pruner": "none"}, {"storage": "journal"}]
    )
    _target_: str = "hydra_plugins.wineexp_sweeper.OptunaSweeper"
    # The nodes below are built where the trials run, not where Hydra builds the sweeper.
    _recursive_: bool = False
    _convert_: str = "all"

    # The study. A name and a storage make it resumable; by default the name is made from the choices of name_from.
    study_name: str | None = None
    name_from: list[str] = field(default_factory=lambda: ["experiment", "data", "target", "model"])
    # Where the trials write; by default multirun/<study name>, or hydra.sweep.dir for a study in memory.
    folder: str | None = None
    direction: str = "minimize"
    # Several objectives: their directions, in the order in which the task returns them.
    directions: list[str] | None = None
    sampler: Any = None
    pruner: Any = None
    storage: Any = None
    seed: int = 0

    # The space: override key -> Hydra's sweep syntax; a group -> the group that holds the space of each of its choices.
    params: dict[str, Any] = field(default_factory=dict)
    search: dict[str, str] | None = field(default_factory=lambda: {"model": "search"})
    # A callable(trial) that suggests what the syntax cannot say, and may return more overrides as a mapping.
    space: str | None = None
    # Go on with a study whose space has changed.
    extend: bool = False

    # The budget: trials of the whole study (50, or all of a grid, if neither is given), seconds of this call, the
    # winner's run at the end included: no trial starts that would not leave time for it, by the longest so far.
    n_trials: int | None = None
    timeout: float | None = None
    n_workers: int = 1
    # Trials that failed by themselves; one more ends the sweep. null for no limit.
    max_failures: int | None = 10
    # How often the parameters of a trial whose worker died are tried again.
    retries: int = 1
    # Treat RUNNING trials of other hosts as dead: for a study moved from a host that is gone.
    take_over: bool = False
    dedupe: bool = True
    enqueue_defaults: bool = True
    # Upper bounds on attributes that the task sets on its trial: a trial above one is infeasible.
    constraints: dict[str, float] = field(default_factory=dict)

    # The key of the task's random seed: at the end the winner runs once more under a seed no trial had.
    refit_seed: str | None = None
    callbacks: dict[str, Any] = field(default_factory=dict)
