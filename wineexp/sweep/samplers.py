"""Optuna's samplers and pruners as a sweep uses them: a new sampler for each trial, seeded by the trial's slot."""

import hashlib
import importlib.util
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from hydra.utils import get_class, instantiate
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    CmaEsSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial

from wineexp.core.errors import UserError
from wineexp.sweep._optuna import IndexedQMCSampler, share_search_space
from wineexp.sweep.space import Space, point_at

# Packages that Optuna imports only when a sampler makes its first suggestion.
REQUIRED_PACKAGES = {
    "optuna.samplers.CmaEsSampler": ["cmaes"],
    "optuna.samplers.GPSampler": ["torch", "scipy"],
    "wineexp.sweep.samplers.QMC": ["scipy"],
    "optuna.pruners.WilcoxonPruner": ["scipy"],
}


def slot_of(trial: FrozenTrial) -> int:
    """The slot of the study's budget that a trial fills; see `wineexp.sweep.ledger`."""
    return int(trial.user_attrs.get("slot", trial.number))


def derive_seed(seed: int, slot: int) -> int:
    """A seed of 32 bits for one slot of a sweep."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{slot}".encode(), digest_size=4).digest(), "big")


class QMC(IndexedQMCSampler):
    """Optuna's QMC sampler, which takes the point of its sequence by the trial's slot and not by a shared counter."""

    def __init__(self, **options: Any) -> None:
        super().__init__(warn_independent_sampling=False, warn_asynchronous_seeding=False, **options)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Choose the slot's point."""
        self.index = slot_of(trial)
        super().before_trial(study, trial)


class Grid(BaseSampler):
    """Every point of a countable space in order, a slot for each."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self._point: dict[str, Any] = {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Choose the slot's point."""
        self._point = point_at(self.space.grid() or iter(()), slot_of(trial)) or {}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """No parameters are sampled together."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """No parameters are sampled together."""
        del study, trial, search_space
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The parameter's value in the chosen point."""
        del study, trial, param_distribution
        return self._point[param_name]


# Samplers that do not learn from trials of another study: CMA-ES and genetic ones know their own generations only.
NOT_LEARNING = (Grid, BruteForceSampler, RandomSampler, QMCSampler, CmaEsSampler, NSGAIISampler, NSGAIIISampler)


class SamplerFactory:
    """Makes the sampler of each trial.

    A new sampler for each trial, seeded by the sweep's seed and the trial's slot, leaves no state in a process: a study
    that another process resumes suggests what it would have suggested without the interruption.

    Raises UserError if a package is missing or the sampler does not take an option.
    """

    def __init__(self, conf: Mapping[str, Any], seed: int, space: Space) -> None:
        self.seed = seed
        self.sampler_class = _import_class(conf, "sampler")
        if not issubclass(self.sampler_class, BaseSampler):
            raise UserError(
                f"sampler {conf['_target_']!r} is no sampler: it is no subclass of optuna.samplers.BaseSampler; "
                "name the class, as my.module.MySampler"
            )
        self._options = {key: _instantiated(value) for key, value in conf.items() if key != "_target_"}
        if self.sampler_class is Grid:
            self._options["space"] = space
        self._previous: BaseSampler | None = None
        self._takes_seed = "seed" in inspect.signature(self.sampler_class.__init__).parameters
        _construct(self.sampler_class, self._options, "sampler")

    @property
    def is_exhaustive(self) -> bool:
        """Whether the sampler visits every point once and then has finished."""
        return issubclass(self.sampler_class, Grid | BruteForceSampler)

    @property
    def learns_from_any_trial(self) -> bool:
        """Whether the sampler learns from trials that it has not suggested."""
        return not issubclass(self.sampler_class, NOT_LEARNING)

    def make(self, slot: int) -> BaseSampler:
        """The sampler of the trial that fills this slot."""
        options = dict(self._options)
        if issubclass(self.sampler_class, QMCSampler):
            # One sequence for the whole study.
            options.setdefault("seed", self.seed)
        elif self._takes_seed and "seed" not in options:
            options["seed"] = derive_seed(self.seed, slot)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler: BaseSampler = self.sampler_class(**options)
        if self._previous is not None:
            share_search_space(sampler, self._previous)
        self._previous = sampler
        return sampler

    def faults_for(self, space: Space, n_objectives: int, has_space_function: bool) -> list[str]:
        """Why this sampler does not fit a study, one sentence each."""
        faults = []
        uncountable = [parameter.name for parameter in space.parameters if parameter.grid() is None]
        if self.is_exhaustive and uncountable:
            faults.append(
                f"{self.sampler_class.__name__} visits every point, and {', '.join(uncountable)} has no countable "
                "values: write range(start, stop, step) or a choice"
            )
        if self.sampler_class is Grid and has_space_function:
            faults.append("Grid cannot count a space written as a callable: use hydra/sweeper/sampler=brute")
        if self.sampler_class.__name__ == "CmaEsSampler" and n_objectives > 1:
            faults.append("CmaEsSampler takes one objective: use hydra/sweeper/sampler=nsga2 or tpe")
        return faults


def make_pruner(conf: Mapping[str, Any]) -> BasePruner:
    """The pruner that a config of the group `hydra/sweeper/pruner` describes.

    Raises UserError if a package is missing or the pruner does not take an option.
    """
    pruner_class = _import_class(conf, "pruner")
    # `unit` says which reports of a trial the pruner sees; it is no argument of the pruner's.
    options = {key: _instantiated(value) for key, value in conf.items() if key not in ("_target_", "unit")}
    pruner: BasePruner = _construct(pruner_class, options, "pruner")
    return pruner


def _instantiated(value: Any) -> Any:
    return instantiate(value, _convert_="all") if isinstance(value, dict) and "_target_" in value else value


def _import_class(conf: Mapping[str, Any], noun: str) -> type[Any]:
    target = str(conf.get("_target_", ""))
    missing = [name for name in REQUIRED_PACKAGES.get(target, []) if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{noun} {target} needs {' and '.join(missing)}, which is missing: pip install {' '.join(missing)}"
        )
    try:
        return get_class(target)
    except Exception as error:
        raise UserError(f"{noun} {target!r} is no class that can be imported: {error}") from error


def _construct(class_: Callable[..., Any], options: Mapping[str, Any], noun: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return class_(**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"hydra.sweeper.{noun}: {error}") from error
