"""The file that says how to run the best trial again: `best.yaml`, or `pareto.yaml` for several objectives."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial

from wineexp.core.addresses import without_credentials
from wineexp.sweep.ledger import Ledger
from wineexp.sweep.lock import locked
from wineexp.sweep.plan import Plan
from wineexp.sweep.study import StudySpec

# What programs read: the best parameters and values, as Hydra's own Optuna plugin writes them.
RESULTS_FILE = "optimization_results.yaml"


def write_best(ledger: Ledger, spec: StudySpec, plan: Plan, only_if: int | None = None) -> Path | None:
    """Write the files of the best trial, or of the Pareto front, into the study's folder.

    With `only_if`, the number of a trial, the file is written only if that trial is the best or on the front. Returns
    the file; None if nothing was written.
    """
    if only_if is not None and len(spec.directions) == 1 and not ledger.was_best(only_if):
        return None
    with locked(ledger.lock_file):
        best = ledger.best()
        if not best or (only_if is not None and only_if not in [trial.number for trial in best]):
            return None
        _replace(spec.folder / RESULTS_FILE, _results_text(best, plan))
        if len(spec.directions) == 1:
            return _replace(spec.folder / "best.yaml", _best_text(best[0], ledger, spec, plan))
        return _replace(spec.folder / "pareto.yaml", _front_text(best, spec, plan))


def _replace(file: Path, text: str) -> Path:
    """Write a file in one step, so that a reader never sees half of it."""
    draft = file.with_suffix(".draft")
    draft.write_text(without_credentials(text), encoding="utf-8")
    draft.replace(file)
    return file


def _command(spec: StudySpec, overrides: Sequence[str]) -> str:
    """The command that runs a trial again, quoted for a shell. The overrides themselves: they work for every name."""
    return shlex.join([*spec.command, *overrides])


def _best_text(trial: FrozenTrial, ledger: Ledger, spec: StudySpec, plan: Plan) -> str:
    """A config that overrides the program's own, but for keys that it deletes, which only the command line can."""
    defaults: list[Any] = []
    values = OmegaConf.create({})
    swept_groups = {group.key for group in plan.space.groups}
    overrides = plan.overrides_of(trial)
    for item in OverridesParser.create().parse_overrides(overrides):
        if item.key_or_group in plan.group_names or item.key_or_group in swept_groups:
            # The value of a deletion is null, as is that of a group without a file.
            defaults.append({_defaults_key(item, spec): item.value()})
        elif not item.is_delete():
            OmegaConf.update(values, item.key_or_group, item.value(), force_add=True)
    value = ", ".join(f"{value:g}" for value in trial.values or [])
    head = [
        "# @package _global_",
        f"# Trial {trial.number} of study {spec.name}: {value}.",
        *_refit_comment(trial, ledger),
        f"# Run it: {_command(spec, overrides)}",
    ]
    body = OmegaConf.to_yaml(OmegaConf.create({"defaults": [*defaults, "_self_"]}))
    return "\n".join(head) + "\n" + body + (OmegaConf.to_yaml(values) if len(values) else "")


def _defaults_key(item: Override, spec: StudySpec) -> str:
    """The key in a defaults list that chooses a config group's file as an override does."""
    key = f"/{item.key_or_group}" if item.package is None else f"/{item.key_or_group}@{item.package}"
    is_in_defaults = not item.is_add() and item.get_key_element().lstrip("+~") in spec.config.hydra.runtime.choices
    return f"override {key}" if is_in_defaults else key


def _refit_comment(trial: FrozenTrial, ledger: Ledger) -> list[str]:
    """The value of the refit, if this trial is the one that was run again."""
    refit = ledger.study.user_attrs.get("refit", {})
    if refit.get("trial") != trial.number:
        return []
    return [f"# Refitted under seed {refit['seed']}: {refit['value']:g}; the best of many trials is optimistic."]


def _results_text(best: Sequence[FrozenTrial], plan: Plan) -> str:
    solutions: list[dict[str, Any]] = [
        {"params": plan.values_of(trial), "values": list(trial.values or [])} for trial in best
    ]
    if len(solutions[0]["values"]) == 1:
        results = {"best_params": solutions[0]["params"], "best_value": solutions[0]["values"][0]}
    else:
        results = {"solutions": solutions}
    return OmegaConf.to_yaml(OmegaConf.create({"name": "optuna", **results}))


def _front_text(front: Sequence[FrozenTrial], spec: StudySpec, plan: Plan) -> str:
    points: list[Mapping[str, Any]] = [
        {
            "trial": trial.number,
            "values": list(trial.values or []),
            "overrides": plan.overrides_of(trial),
            "command": _command(spec, plan.overrides_of(trial)),
        }
        for trial in front
    ]
    head = f"# The Pareto front of study {spec.name}: {', '.join(spec.directions)}.\n"
    return head + yaml.safe_dump(points, sort_keys=False, allow_unicode=True)
