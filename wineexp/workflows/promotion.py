"""A promotion: from a recorded run to a version behind an alias, if the gate lets it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from wineexp.core.config import GROUPS, flatten_config
from wineexp.core.errors import UserError
from wineexp.tracking import names
from wineexp.tracking.recorded_run import RecordedRun
from wineexp.tracking.registry import Registry, Version
from wineexp.tracking.run import Run
from wineexp.tracking.runs import Runs
from wineexp.workflows import alias_move, record
from wineexp.workflows.candidate import Candidate
from wineexp.workflows.champion import champion_config, champion_scores
from wineexp.workflows.experiment import Experiment, assemble
from wineexp.workflows.gate import Check, Gate, ModelScores
from wineexp.workflows.preconditions import check_preconditions, check_task

log = logging.getLogger(__name__)


def split_like(split: DictConfig, seed: int, n_repeats: int) -> DictConfig:
    """A run's split with another seed, several times: models are compared on folds of its kind that no tuning has used.

    A split without a seed, such as that of unshuffled rows, has no other folds, and stays as it is.
    """
    like = split.copy()
    if like.get("random_state") is None or like.get("shuffle") is False:
        log.info("the run's split has no seed: the gate has the same folds as the run")
        return like
    like.random_state = seed
    if "n_repeats" in like:
        like.n_repeats = n_repeats
        return like
    repeated = {"_target_": "wineexp.data.split.RepeatedSplitter", "n_repeats": n_repeats, "random_state": seed}
    return OmegaConf.create(repeated | {"splitter": like})


@dataclass(frozen=True)
class Promotion:
    """The attempt to move an alias to a model that is trained as a run recorded it.

    Parameters
    ----------
    runs : Runs
    registry : Registry
    gate : Gate
    cfg : DictConfig
        A config in the frame of conf/promote.yaml.
    choices : mapping of str to str
        The choice of each of its groups.
    folder : Path
        Of the run's own files.
    files : tuple of Path
        What Hydra and the log write for the run.
    """

    runs: Runs
    registry: Registry
    gate: Gate
    cfg: DictConfig
    choices: Mapping[str, str]
    folder: Path
    files: tuple[Path, ...] = ()

    def attempt(self, source: RecordedRun) -> Version:
        """Train the run's config on the gate's folds, check every rule, and register the model and move the alias.

        Raises
        ------
        UserError
            A rule does not hold. The refusal is in the history; no version is made and no alias moved.
        """
        cfg = source.config()
        split = split_like(cfg.split, self.cfg.seed, self.cfg.repeats) if self.cfg.split is None else self.cfg.split
        cfg.split, cfg.n_jobs = OmegaConf.to_container(split, resolve=True), self.cfg.n_jobs
        experiment = assemble(cfg)
        champion = self.registry.find(self.cfg.alias)
        preconditions = check_preconditions(source, experiment.task, self.cfg.allow)
        checks = preconditions.checks + self._check_task(experiment, champion)
        self._require(checks, source.id)
        run = Run(
            self.cfg.tracking.uri,
            experiment=source.experiment,
            name=f"promote {source.name}",
            tags=record.origin_tags(cfg, experiment.task) | {names.SOURCE_RUN_ID: source.id},
            folder=self.folder,
            files=self.files,
        )
        model_id, tags = "", {}
        with run:
            candidate = self._train(run, source, experiment)
            checks = self._check_candidate(candidate, champion)
            if all(check.passed for check in checks):
                model_id, form = candidate.store(run, self.cfg.baseline, self.choices["model@baseline"])
                tags = run.tags | {"seed": candidate.params["seed"], names.MODEL_FORM: form}
                tags |= self.registry.verify_stored_model(model_id)
            else:
                candidate.record_scores(run)
        while True:
            self._require(checks, str(run.id))
            why = [*self._reason, *preconditions.waived, *map(str, checks)]
            version = alias_move.promote(
                self.registry, self.cfg.alias, champion, why, run_id=str(run.id), model_id=model_id, tags=tags
            )
            if version is not None:
                return version
            log.info("alias %s has moved meanwhile; comparing with the version that it names now", self.cfg.alias)
            champion = self.registry.find(self.cfg.alias)
            checks = self._check_candidate(candidate, champion)

    def _check_task(self, experiment: Experiment, champion: Version | None) -> list[Check]:
        if champion is None:
            return []
        champion_cfg = champion_config(champion, self.runs, self.cfg.alias)
        return [check_task(experiment.cfg, champion, champion_cfg, self.cfg.alias)]

    def _train(self, run: Run, source: RecordedRun, experiment: Experiment) -> Candidate:
        """Record the config and the data, and train the candidate."""
        name = self.choices["split"] or f"{source.params['split']} (the gate's)"
        choices = {key: source.params[key] for key in GROUPS} | {"split": name}
        params = {key: str(value) for key, value in (choices | flatten_config(experiment.cfg)).items()}
        record.record_origin(run, experiment.cfg)
        run.log(params=params)
        run.log_dataset(experiment.task, name=choices["data"])
        return Candidate.train(experiment, params, self.gate)

    def _check_candidate(self, candidate: Candidate, champion: Version | None) -> list[Check]:
        """The gate's rules about the candidate, among them those against this champion."""
        experiment = candidate.experiment
        return candidate.costs + self.gate.check_scores(
            ModelScores.of_folds("the candidate", candidate.folds),
            champion_scores(champion, self.runs, self.cfg.alias, experiment) if champion else None,
            metric=experiment.task.target.metric,
            test_to_train=experiment.task.test_to_train,
        )

    @property
    def _reason(self) -> list[str]:
        return [self.cfg.reason] if self.cfg.reason else []

    def _require(self, checks: list[Check], run_id: str) -> None:
        """Write down and raise the refusal where a rule does not hold."""
        failed = [str(check) for check in checks if not check.passed]
        if failed:
            alias_move.refuse(self.registry, self.cfg.alias, [*self._reason, *failed], run_id)
            raise UserError(*(f"refused by {message}" for message in failed))
