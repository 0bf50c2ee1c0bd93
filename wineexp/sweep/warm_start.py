"""Warm start: trials of earlier studies that a sampler knows from the start, where they compare with those of this one.

They are stored in the study, marked by the user attribute `taken_over_from`: they fill no slot of the budget, and are
never the best.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from wineexp.core.addresses import without_credentials
from wineexp.core.errors import UserError, did_you_mean
from wineexp.sweep.definition import SPACE, SPACE_FUNCTION_KEY, Definition, choice_text, in_words, stored_definition
from wineexp.sweep.ledger import Ledger
from wineexp.sweep.lock import locked
from wineexp.sweep.plan import Plan
from wineexp.sweep.slots import TAKEN_OVER_FROM, own_trials
from wineexp.sweep.space import Point
from wineexp.sweep.storage import journal, open_storage, rdb
from wineexp.sweep.study import StudySpec, shown

log = logging.getLogger(__name__)

# The user attribute of a study that says how many trials were taken over, by their source.
TAKEN_OVER = "taken_over"
# The user attribute of a trial that was taken over: its number in the study that it was run in.
NUMBER_THERE = "number_there"
NOTE = "Not run in this study: the sampler knows it from an earlier one; see hydra.sweeper.warm_start."
# How many differences of two configs an error lists.
MAX_LISTED = 5


@dataclass(frozen=True)
class Source:
    """An earlier study; `storage` is a database's address or a journal's file, None for the storage of the new one."""

    study: str
    storage: str | None = None

    def __str__(self) -> str:
        return self.study if self.storage is None else f"{self.study} in {without_credentials(self.storage)}"


@dataclass(frozen=True)
class Known:
    """The trials of a source, ready to be stored in the study."""

    source: Source
    trials: Sequence[FrozenTrial]


def read_sources(setting: Any) -> list[Source]:
    """The sources that `hydra.sweeper.warm_start` names; raises UserError with every entry that is none."""
    entries = setting if isinstance(setting, list) else [] if setting is None else [setting]
    sources, faults = [], []
    for entry in entries:
        node = entry if isinstance(entry, Mapping) else {"study": entry}
        if set(node) - {"study", "storage"} or not all(isinstance(text, str) and text for text in node.values()):
            faults.append(
                f"hydra.sweeper.warm_start: {entry!r} is no study: give its name, or "
                "{study: name, storage: address of a database or file of a journal}"
            )
        elif "study" not in node:
            faults.append(f"hydra.sweeper.warm_start: {entry!r} lacks the study's name: add study: name")
        else:
            sources.append(Source(node["study"], node.get("storage")))
    if faults:
        raise UserError(*faults)
    return list(dict.fromkeys(sources))


def find_known(spec: StudySpec, plan: Plan, storage: BaseStorage) -> list[Known]:
    """The trials of the sources that the study has not taken over yet.

    Raises
    ------
    UserError
        With each source that there is none of, whose trials would not compare, or none of whose trials lies in the
        space.
    """
    studies = {study.study_name: study for study in storage.get_all_studies()}
    done = studies[spec.name].user_attrs.get(TAKEN_OVER, {}) if spec.name in studies else {}
    found, faults = [], []
    for source in read_sources(spec.settings["warm_start"]):
        if str(source) not in done:
            try:
                found.append(Known(source, _known_trials(source, spec, plan, storage)))
            except UserError as error:
                faults += [f"hydra.sweeper.warm_start={source}: {fault}" for fault in error.faults]
    if faults:
        raise UserError(*faults)
    return found


def take_over(known: Sequence[Known], ledger: Ledger) -> None:
    """Store the trials in the study, each one once, also if an earlier call was killed at it."""
    for one in known:
        with locked(ledger.lock_file):
            stored = {
                (trial.user_attrs.get(TAKEN_OVER_FROM), trial.user_attrs.get(NUMBER_THERE)) for trial in ledger.trials()
            }
            for trial in one.trials:
                if (trial.user_attrs[TAKEN_OVER_FROM], trial.user_attrs[NUMBER_THERE]) not in stored:
                    ledger.study.add_trial(trial)
            done = ledger.study.user_attrs.get(TAKEN_OVER, {})
            ledger.study.set_user_attr(TAKEN_OVER, {**done, str(one.source): len(one.trials)})
        log.info(
            "the sampler knows %d trials of study %s; the first trial of this study is number %d",
            *(len(one.trials), one.source, len(ledger.trials())),
        )


def _known_trials(source: Source, spec: StudySpec, plan: Plan, storage: BaseStorage) -> list[FrozenTrial]:
    """The complete and pruned trials of a source in the terms of this study's space; raises UserError, see above."""
    place = _open(source, spec, storage)
    studies = {study.study_name: study for study in place.get_all_studies()}
    if source.study not in studies or (place is storage and source.study == spec.name):
        others = [name for name in studies if place is not storage or name != spec.name]
        raise UserError(f"there is no earlier study of this name; {did_you_mean(source.study, others)}")
    study = studies[source.study]
    definition = stored_definition(study.user_attrs, study.system_attrs)
    faults = _differences(definition, spec.definition)
    directions = [direction.name.lower() for direction in study.directions]
    if directions != spec.directions:
        faults.insert(0, f"its direction is {', '.join(directions)}, and here it is {', '.join(spec.directions)}")
    if faults:
        raise UserError(*faults)
    # What a pruner compares are reports of one kind.
    keeps_reports = definition["settings"].get("pruner") == spec.definition["settings"]["pruner"]
    ended = [
        trial
        for trial in own_trials(place.get_all_trials(place.get_study_id_from_name(source.study), deepcopy=False))
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and "duplicate_of" not in trial.user_attrs
    ]
    made = [_made(trial, source, plan, definition[SPACE], keeps_reports=keeps_reports) for trial in ended]
    taken = [trial for trial in made if trial is not None]
    if not taken:
        raise UserError(f"none of its {len(ended)} trials that are complete or pruned lies in this study's space")
    if len(taken) < len(ended):
        log.warning(
            "%d of %d trials of study %s lie outside of this study's space, and are left out",
            *(len(ended) - len(taken), len(ended), source),
        )
    return taken


def _open(source: Source, spec: StudySpec, storage: BaseStorage) -> BaseStorage:
    """The storage that holds a source; raises UserError if there is none."""
    own = spec.settings["storage"]
    if source.storage is None and own.get("url"):
        return storage
    if source.storage is not None and "://" in source.storage:
        address = source.storage
        file = Path(address.partition(":///")[2]) if address.startswith("sqlite:///") else None
        node = {"_target_": f"{rdb.__module__}.{rdb.__name__}", "url": address}
    else:
        # The journal of a study lies in its folder, if the settings do not say otherwise.
        file = Path(source.storage or own.get("path") or Path("multirun", source.study, "journal.log"))
        if file == Path(own.get("path") or spec.folder / "journal.log"):
            return storage
        node = {"_target_": f"{journal.__module__}.{journal.__name__}", "path": str(file)}
    # Opening would create it.
    if file is not None and not file.is_file():
        raise UserError(f"there is no file {shown(file)}; a study elsewhere is {{study: name, storage: its place}}")
    return open_storage(node, spec.folder, spec.settings["max_outage"])


def _differences(there: Definition, here: Definition) -> list[str]:
    """Why trials of another study do not compare with those of this one."""
    if not {SPACE, "settings", "config"} <= set(there):
        return ["it was not begun by a sweep of this version, so that nothing says whether its trials compare"]
    faults = [f"{name} does not vary in it" for name in here[SPACE] if name not in there[SPACE]]
    faults += [f"{name} varies in it, and not here" for name in there[SPACE] if name not in here[SPACE]]
    if faults:
        return faults
    pairs = [("space", there[SPACE].get(SPACE_FUNCTION_KEY), here[SPACE].get(SPACE_FUNCTION_KEY))]
    pairs.append(("constraints", there["settings"].get("constraints"), here["settings"]["constraints"]))
    names = dict.fromkeys([*there["config"], *here["config"]])
    pairs += [(name, there["config"].get(name), here["config"].get(name)) for name in names]
    different = [
        f"{name} {'is missing' if old is None else f'was {in_words(old)}'} there and "
        f"{'is missing' if new is None else f'is {in_words(new)}'} here"
        for name, old, new in pairs
        if old != new
    ]
    if not different:
        return []
    more = f"; and {len(different) - MAX_LISTED} more" if len(different) > MAX_LISTED else ""
    return [f"its trials do not compare with those of this study: {'; '.join(different[:MAX_LISTED])}{more}"]


def _made(
    trial: FrozenTrial, source: Source, plan: Plan, space_there: Mapping[str, str], *, keeps_reports: bool
) -> FrozenTrial | None:
    """A trial as this study stores it; None if it lies outside of the space."""
    point: Point = {}
    distributions: dict[str, BaseDistribution] = {}
    parameters = {parameter.name: parameter for parameter in plan.space.parameters}
    for name, value in trial.params.items():
        if name not in parameters:
            # A space function's own, which only its calls know.
            point[name], distributions[name] = value, trial.distributions[name]
            continue
        parameter = parameters[name]
        try:
            index = int(trial.distributions[name].to_internal_repr(value))
            text = choice_text(space_there[name], index)
            point[name] = parameter.encode(value) if text is None else parameter.choice_of(text)
        except ValueError:
            return None
        distributions[name] = parameter.distribution
    active = {parameter.name for parameter in plan.space.active(point)}
    if active != set(parameters) & set(point):
        return None
    return create_trial(
        state=trial.state,
        values=trial.values,
        params=point,
        distributions=distributions,
        intermediate_values=trial.intermediate_values if keeps_reports else {},
        constraints=trial.constraints,
        user_attrs={TAKEN_OVER_FROM: str(source), NUMBER_THERE: trial.number, "note": NOTE},
    )
