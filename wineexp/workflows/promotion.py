"""A promotion: from a recorded run to a version behind an alias, if the gate lets it."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from wineexp.core.config import GROUPS, config_sha256, flatten_config
from wineexp.core.errors import UserError
from wineexp.core.instantiation import build
from wineexp.serving.model import fresh_process
from wineexp.tracking import modules, names
from wineexp.tracking.recorded_run import RecordedRun
from wineexp.tracking.registry import Registry, Version
from wineexp.tracking.run import Run
from wineexp.tracking.runs import Runs
from wineexp.tracking.store import UnavailableError
from wineexp.workflows import alias_move, live_comparison, record
from wineexp.workflows.candidate import Candidate, measure_costs
from wineexp.workflows.champion import champion_config, champion_scores
from wineexp.workflows.experiment import Experiment, assemble, check_kind
from wineexp.workflows.gate import Check, Gate, ModelScores
from wineexp.workflows.preconditions import check_preconditions, check_task

log = logging.getLogger(__name__)

# Tags of a version that say what it was trained from: two versions with the same are the same model and card.
ORIGIN_TAGS = (
    *(names.CONFIG_SHA256, names.BASELINE_SHA256, names.DATA_MD5, names.SPLIT_SHA256, names.GIT_COMMIT),
    *(
        names.GIT_DIFF_SHA256,
        names.CODE_SHA256,
        names.LOCK_SHA256,
        names.WINEEXP_VERSION,
        names.PYTHON_VERSION,
        names.LIBRARIES,
    ),
)


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


def of_the_runs_kind(cfg: DictConfig, run_cfg: DictConfig) -> DictConfig:
    """The config with the kind of a run's target, on which floors and the baseline depend; see `config.by_kind`."""
    values: Any = OmegaConf.to_container(cfg, resolve=False)
    merged: DictConfig = OmegaConf.create(values | {"target": {"kind": OmegaConf.select(run_cfg, "target.kind")}})
    return merged


@dataclass(frozen=True)
class Promotion:
    """The attempt to move an alias to a model that is trained as a run recorded it.

    Parameters
    ----------
    runs : Runs
    registry : Registry
    gate : Gate
    cfg : DictConfig
        A config in the frame of conf/promote.yaml, and the kind of the run's target.
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
        """Put the run's config through the gate, and move the alias to a version of it.

        A version that was trained from the same config, code, data and folds is used again; otherwise the config is
        trained on the gate's folds and on all rows, and registered.

        Raises
        ------
        UserError
            A rule does not hold. The refusal is in the history; no version is made and no alias moved.
        """
        return self.attempt_config(source, source.config())

    def attempt_config(self, source: RecordedRun, cfg: DictConfig, *, is_trained_anew: bool = False) -> Version:
        """As `attempt`, with a config of its own in place of the run's, and the rules about its data then waived."""
        split = split_like(cfg.split, self.cfg.seed, self.cfg.repeats) if self.cfg.split is None else self.cfg.split
        cfg.split, cfg.n_jobs = OmegaConf.to_container(split, resolve=True), self.cfg.n_jobs
        experiment = assemble(cfg)
        baseline = build(OmegaConf.masked_copy(self.cfg, ["baseline", "seed", "target"]))["baseline"]
        check_kind(baseline, experiment.task.target, "baseline")
        champion = self.registry.find(self._compared_alias)
        preconditions = check_preconditions(
            source, experiment.cfg, experiment.task, self.cfg.allow, is_trained_anew=is_trained_anew
        )
        self._require(preconditions.checks + self._check_task(experiment, champion), source.id)
        tags = record.origin_tags(cfg, experiment.task) | {names.BASELINE_SHA256: self._baseline_sha256()}
        version = self._tested_version() or self._find_version(tags)
        if version is None:
            self._require(self._check_live(None, champion), source.id)
        if version is None:
            return self._train_and_register(source, experiment, tags, champion, preconditions.waived)
        if (current := self.registry.find(self.cfg.alias)) is not None and current.number == version.number:
            log.info(
                "%s names version %d of %s already, which was trained from this run's config, on the same code, data "
                "and folds: there is nothing to do.",
                *(self.cfg.alias, version.number, version.name),
            )
            return version
        return self._use_again(version, experiment, champion, preconditions.waived)

    def _baseline_sha256(self) -> str:
        return config_sha256(OmegaConf.create({"baseline": OmegaConf.to_container(self.cfg.baseline, resolve=True)}))

    def _find_version(self, tags: Mapping[str, str]) -> Version | None:
        """The newest version that was trained from what these tags say."""
        wanted = {name: value for name, value in tags.items() if name in ORIGIN_TAGS or modules.is_tag(name)}
        for version in self.registry.versions():
            found = {name: value for name, value in version.tags.items() if name in ORIGIN_TAGS or modules.is_tag(name)}
            if found == wanted:
                return version
        return None

    def _use_again(
        self, version: Version, experiment: Experiment, champion: Version | None, waived: list[str]
    ) -> Version:
        """Check a version that was trained before against what this alias names, and move the alias to it."""
        log.info(
            "version %d of %s was trained from this run's config, on the same code, data and folds: it is used again.",
            *(version.number, version.name),
        )
        fitted = self.registry.load(version)
        costs = measure_costs(fitted, experiment.task, self.gate)
        scores = champion_scores(version, self.runs, self.cfg.alias, experiment)

        def check(champion: Version | None) -> list[Check]:
            live = self._check_live(version, champion)
            return live + costs + self._check_scores(scores, champion, experiment)

        def move(champion: Version | None, why: list[str]) -> Version | None:
            return alias_move.point(self.registry, self.cfg.alias, champion, why, version)

        return self._decide(champion, check(champion), check, move, waived, version.run_id)

    def _train_and_register(
        self,
        source: RecordedRun,
        experiment: Experiment,
        tags: dict[str, str],
        champion: Version | None,
        waived: list[str],
    ) -> Version:
        """Train the candidate, record and store it, and if it passes register it and move the alias to it."""
        run = Run(
            self.cfg.tracking.uri,
            experiment=source.experiment,
            name=f"promote {source.name}",
            tags=tags | {names.SOURCE_RUN_ID: source.id},
            folder=self.folder,
            files=self.files,
        )
        model_id, version_tags = "", {}
        served: list[Check] = []
        remarks: list[str] = []
        with run:
            candidate = self._train(run, source, experiment)
            scores = ModelScores.of_folds("the candidate", candidate.folds)

            def check(champion: Version | None) -> list[Check]:
                return candidate.costs + self._check_scores(scores, champion, experiment) + served

            checks = check(champion)
            if all(each.passed for each in checks):
                baseline = candidate.baseline(self.cfg.baseline, self.choices["model@baseline"])
                remarks += candidate.compare_with_baseline(baseline)
                model_id, form = candidate.store(run, baseline)
                version_tags = run.tags | {"seed": candidate.params["seed"], names.MODEL_FORM: form}
                served, checksums = self._check_served(model_id)
                checks += served
                version_tags |= checksums
            else:
                candidate.record_scores(run)

        def move(champion: Version | None, why: list[str]) -> Version | None:
            return alias_move.promote(
                *(self.registry, self.cfg.alias, champion, [*why, *remarks]),
                # Another process may have trained the same meanwhile.
                find=lambda: self._find_version(version_tags),
                run_id=str(run.id),
                model_id=model_id,
                tags=version_tags,
            )

        return self._decide(champion, checks, check, move, waived, str(run.id))

    def _decide(
        self,
        champion: Version | None,
        checks: list[Check],
        check: Callable[[Version | None], list[Check]],
        move: Callable[[Version | None, list[str]], Version | None],
        waived: list[str],
        run_id: str,
    ) -> Version:
        """Require every rule and move the alias; once more where the alias moved while the rules were checked."""
        while True:
            self._require(checks, run_id)
            current = champion
            if self._compared_alias != self.cfg.alias:
                # Another alias than that of the version which the candidate is compared with.
                current = self.registry.find(self.cfg.alias)
            version = move(current, [*self._reason, *waived, *map(str, checks)])
            if version is not None:
                return version
            log.info("alias %s has moved meanwhile; comparing with the version that it names now", self.cfg.alias)
            champion = self.registry.find(self._compared_alias)
            checks = check(champion)

    @property
    def _compared_alias(self) -> str:
        """The alias of the version that the candidate is compared with."""
        return str(self.cfg.against or self.cfg.alias)

    def _tested_version(self) -> Version | None:
        """With a live test required, the version that the command names: it, and no other, is the tested one."""
        return self.registry.find(self.cfg.run) if self.gate.live is not None and self.cfg.run else None

    def _check_live(self, version: Version | None, champion: Version | None) -> list[Check]:
        """What a live test says, where the gate requires one; there is none against nothing."""
        if self.gate.live is None or champion is None:
            return []
        if version is None:
            message = (
                "the model is of no registered version that was tested on live traffic; promote it to an alias of its "
                "own with alias=challenger, serve that with serve.challenger=challenger, and then promote "
                "run=challenger"
            )
            return [Check("live", passed=False, message=message)]
        try:
            found = live_comparison.compare(
                str(self.cfg.log), self.registry, self.runs, champion, version, level=1 - self.gate.alpha
            )
        except UserError as error:
            return [Check("live", passed=False, message="; ".join(error.faults))]
        return [self.gate.check_live(found.test, "; ".join(found.lines()))]

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

    def _check_scores(self, scores: ModelScores, champion: Version | None, experiment: Experiment) -> list[Check]:
        """The gate's rules about the scores, among them those against this champion."""
        return self.gate.check_scores(
            scores,
            champion_scores(champion, self.runs, self.cfg.alias, experiment) if champion else None,
            metric=experiment.task.target.metric,
            test_to_train=experiment.task.test_to_train,
            metrics=experiment.task.metrics,
        )

    def _check_served(self, model_id: str) -> tuple[list[Check], dict[str, str]]:
        """Whether a server can load the stored model, and the checksums of its files."""
        try:
            checksums = self.registry.verify_stored_model(model_id, fresh_process.load)
        except UnavailableError:
            # Nothing speaks against the model.
            raise
        except UserError as error:
            return [Check("served", passed=False, message=f"no server can load it: {'; '.join(error.faults)}")], {}
        return [Check("served", passed=True, message="a process of its own has loaded it, as a server will")], checksums

    @property
    def _reason(self) -> list[str]:
        return [self.cfg.reason] if self.cfg.reason else []

    def _require(self, checks: list[Check], run_id: str) -> None:
        """Write down and raise the refusal where a rule does not hold."""
        failed = [str(check) for check in checks if not check.passed]
        if failed:
            alias_move.refuse(self.registry, self.cfg.alias, [*self._reason, *failed], run_id)
            raise UserError(*(f"refused by {message}" for message in failed))
