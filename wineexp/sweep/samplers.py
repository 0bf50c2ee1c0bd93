"""Optuna's samplers and pruners as a sweep uses them: a fresh sampler per trial, seeded by the trial's place."""

import hashlib
import importlib.util
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra.utils import get_class, instantiate
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, BruteForceSampler, QMCSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from wineexp.core.errors import UserError
from wineexp.sweep.space import Space, first

# What Optuna imports only when the first trial asks.
NEEDS = {
    "optuna.samplers.CmaEsSampler": ["cmaes"],
    "optuna.samplers.GPSampler": ["torch", "scipy"],
    "wineexp.sweep.samplers.QMC": ["scipy"],
    "optuna.pruners.WilcoxonPruner": ["scipy"],
}


def slot_of(trial: FrozenTrial) -> int:
    """The place in the study that a trial fills: its number, less the trials before it that died and were retried."""
    return int(trial.user_attrs.get("slot", trial.number))


class QMC(QMCSampler):
    """Optuna's QMC sampler, the point of its sequence chosen by the trial's place and not by a shared counter."""

    def __init__(self, **options: Any) -> None:
        super().__init__(warn_independent_sampling=False, warn_asynchronous_seeding=False, **options)
        self._slot = 0

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Keep the trial's place."""
        self._slot = slot_of(trial)
        super().before_trial(study, trial)

    def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._slot


class Grid(BaseSampler):
    """Every point of a countable space in order: the trial's place is the point's."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self._point: dict[str, Any] = {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Find the trial's point."""
        self._point = first(self.space.grid() or iter(()), slot_of(trial)) or {}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing is sampled together."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing is sampled together."""
        del study, trial, search_space
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The point's own value."""
        del study, trial, param_distribution
        return self._point[param_name]


class SamplerMaker:
    """Makes each trial's sampler.

    A new sampler per trial, seeded by the sweep's seed and the trial's place, leaves no state in a process: a study
    taken up by another process goes on as if nothing had happened.

    Raises UserError where a package is missing or an option is not the sampler's.
    """

    def __init__(self, conf: Mapping[str, Any], seed: int, space: Space) -> None:
        self.seed = seed
        self.kind = _class(conf, "sampler")
        options = {key: value for key, value in conf.items() if key != "_target_"}
        self._options = {key: _built(value) for key, value in options.items()}
        if self.kind is Grid:
            self._options["space"] = space
        self._seeded = "seed" in inspect.signature(self.kind.__init__).parameters
        _call(self.kind, self._options, "sampler")

    @property
    def exhaustive(self) -> bool:
        """Whether the sampler visits every point once and then is done."""
        return issubclass(self.kind, Grid | BruteForceSampler)

    @property
    def adaptive(self) -> bool:
        """Whether suggestions depend on earlier results."""
        return not self.exhaustive and not issubclass(self.kind, RandomSampler | QMCSampler)

    def make(self, slot: int) -> BaseSampler:
        """The sampler of the trial at this place."""
        options = dict(self._options)
        if issubclass(self.kind, QMCSampler):
            options.setdefault("seed", self.seed)
        elif self._seeded and "seed" not in options:
            options["seed"] = derived(self.seed, slot)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler: BaseSampler = self.kind(**options)
        return sampler


def derived(seed: int, slot: int) -> int:
    """A seed of 32 bits for one place in a sweep."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{slot}".encode(), digest_size=4).digest(), "big")


def make_pruner(conf: Mapping[str, Any]) -> BasePruner:
    """The pruner that a config of the group `hydra/sweeper/pruner` describes; raises UserError like SamplerMaker."""
    kind = _class(conf, "pruner")
    # The unit is the trial's: what it reports.
    options = {key: _built(value) for key, value in conf.items() if key not in ("_target_", "unit")}
    pruner: BasePruner = _call(kind, options, "pruner")
    return pruner


def _built(value: Any) -> Any:
    return instantiate(value, _convert_="all") if isinstance(value, dict) and "_target_" in value else value


def _class(conf: Mapping[str, Any], noun: str) -> type[Any]:
    target = str(conf.get("_target_", ""))
    missing = [name for name in NEEDS.get(target, []) if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{noun} {target} needs {' and '.join(missing)}, which is missing: pip install {' '.join(missing)}"
        )
    try:
        return get_class(target)
    except Exception as error:
        raise UserError(f"{noun} {target!r} is no class that can be imported: {error}") from error


def _call(kind: Callable[..., Any], options: Mapping[str, Any], noun: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return kind(**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"hydra.sweeper.{noun}: {error}") from error


def reject_unfit(
    maker: SamplerMaker, space: Space, countable: bool, objectives: int, callable_space: bool
) -> Sequence[str]:
    """What is wrong with this sampler for this space, one sentence each."""
    faults = []
    if maker.exhaustive and not countable:
        endless = [parameter.name for parameter in space.parameters if parameter.grid() is None]
        faults.append(
            f"{maker.kind.__name__} visits every point, and {', '.join(endless)} has no countable values: "
            "write range(start, stop, step) or a choice"
        )
    if maker.kind is Grid and callable_space:
        faults.append("Grid cannot count a space written as a callable: use hydra/sweeper/sampler=brute")
    if maker.kind.__name__ == "CmaEsSampler" and objectives > 1:
        faults.append("CmaEsSampler takes one objective: use hydra/sweeper/sampler=nsga2 or tpe")
    return faults
