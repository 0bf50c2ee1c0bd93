"""What a study leaves for people: `best.yaml` or `pareto.yaml`, and the line that says how far it is."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState

from wineexp.sweep.callbacks import Outcome
from wineexp.sweep.ledger import Ledger
from wineexp.sweep.plan import Plan
from wineexp.sweep.storage import locked
from wineexp.sweep.study import Setup


def write_best(ledger: Ledger, setup: Setup, plan: Plan, only: int | None = None) -> Path | None:
    """Write the best trial's file, or the Pareto front's, into the study's folder.

    With `only`, the number of a trial, just if that trial is the best or on the front. Gives the file, None where
    nothing was written.
    """
    with locked(ledger.lock):
        best = ledger.best()
        if not best or (only is not None and only not in [trial.number for trial in best]):
            return None
        if len(setup.directions) == 1:
            return _replace(setup.folder / "best.yaml", _override_file(best[0], ledger, setup, plan))
        return _replace(setup.folder / "pareto.yaml", _front_file(best, setup, plan))


def _replace(file: Path, text: str) -> Path:
    """Write a file so that a reader sees the old one or the new one, never half."""
    draft = file.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)
    return file


def trial_overrides(trial: FrozenTrial, plan: Plan) -> list[str]:
    """The overrides that made a trial: the sweep's fixed ones, then its own."""
    groups, leaves = plan.revive(trial)
    return [*plan.fixed, *(str(item.input_line) for item in (*groups, *leaves))]


def _override_file(trial: FrozenTrial, ledger: Ledger, setup: Setup, plan: Plan) -> str:
    lines = trial_overrides(trial, plan)
    choices = setup.config.hydra.runtime.choices
    defaults: list[Any] = []
    values = OmegaConf.create({})
    loose = []
    for item in OverridesParser.create().parse_overrides(lines):
        if item.key_or_group in plan.groups or (item.is_add() and _names_group(item, setup)):
            key = f"/{item.key_or_group}" if item.package is None else f"/{item.key_or_group}@{item.package}"
            listed = item.get_key_element().lstrip("+") in choices and not item.is_add()
            defaults.append({f"override {key}" if listed else key: item.value()})
        elif item.is_delete():
            loose.append(str(item.input_line))
        else:
            OmegaConf.update(values, item.key_or_group, item.value(), force_add=True)
    score = ", ".join(f"{value:g}" for value in trial.values or [])
    command = f"{setup.program} --config-dir {setup.folder.parent} +{setup.folder.name}=best {' '.join(loose)}"
    head = [
        "# @package _global_",
        f"# Trial {trial.number} of study {setup.name}: {score}.",
        *_refitted(trial, ledger),
        f"# Run it: {command.rstrip()}",
    ]
    body = OmegaConf.to_yaml(OmegaConf.create({"defaults": [*defaults, "_self_"]}))
    leaves = OmegaConf.to_yaml(values) if len(values) else ""
    return "\n".join(head) + "\n" + body + leaves


def _refitted(trial: FrozenTrial, ledger: Ledger) -> list[str]:
    """What came of running this trial's parameters again, as a comment."""
    told = ledger.study.user_attrs.get("refit", {})
    if told.get("trial") != trial.number:
        return []
    return [f"# Refitted under seed {told['seed']}: {told['value']:g}; the best of many trials is optimistic."]


def _names_group(item: Override, setup: Setup) -> bool:
    return item.key_or_group in {str(key).split("@")[0] for key in setup.config.hydra.runtime.choices}


def _front_file(front: Sequence[FrozenTrial], setup: Setup, plan: Plan) -> str:
    points: list[Mapping[str, Any]] = [
        {"trial": trial.number, "values": list(trial.values or []), "overrides": trial_overrides(trial, plan)}
        for trial in front
    ]
    head = f"# The Pareto front of study {setup.name}: {', '.join(setup.directions)}.\n"
    return head + yaml.safe_dump(points, sort_keys=False, allow_unicode=True)


def progress_line(ledger: Ledger, outcome: Outcome, started: float) -> str:
    """How a trial ended and how far the study is, in a line."""
    shown = " ".join(f"{value:.6g}" for value in outcome.values or [])
    what = f"{outcome.state} {shown}".rstrip() if outcome.error is None else f"failed: {outcome.error}"
    trials = ledger.trials()
    done = len(ledger.finished(trials))
    return f"trial {outcome.number} {what} | {summary(ledger, trials, done, started)}"


def summary(ledger: Ledger, trials: Sequence[FrozenTrial], done: int, started: float) -> str:
    """Trials done, best, rate and time left. `started` is this call's, in seconds since the epoch."""
    total = ledger.budget.n_trials
    parts = [f"{done}/{total}" if total is not None else f"{done} done"]
    best = ledger.best()
    if best and len(ledger.study.directions) == 1:
        parts.append(f"best {best[0].value:.6g} (trial {best[0].number})")
    elif best:
        parts.append(f"{len(best)} on the Pareto front")
    recent = sum(
        trial.datetime_complete is not None and trial.datetime_complete.timestamp() >= started
        for trial in trials
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    )
    elapsed = time.time() - started
    if recent and elapsed > 0:
        rate = recent / elapsed
        parts.append(f"{rate:.2g}/s" if rate >= 1 else f"{rate * 60:.2g}/min")
        if total is not None and done < total:
            parts.append(f"{_clock((total - done) / rate)} left")
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
