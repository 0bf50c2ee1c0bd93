"""From a recorded run to a version behind an alias, if the gate lets it; and back."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf
from sklearn.base import ClassifierMixin

from wineexp.core.config import GROUPS, flatten_config
from wineexp.core.errors import UserError
from wineexp.data import task
from wineexp.evaluation import cross_validation
from wineexp.evaluation.cross_validation import Fold
from wineexp.evaluation.metrics import METRICS
from wineexp.models import persistence
from wineexp.models.compiled import form
from wineexp.models.compiled.process import compiled
from wineexp.reports.card.inputs import Baseline
from wineexp.tracking import provenance
from wineexp.tracking.history import Audit
from wineexp.tracking.ranking import pruned, rank
from wineexp.tracking.registry import FORM, Registry, Version
from wineexp.tracking.run import Run
from wineexp.tracking.runs import SOURCE, Record, Runs
from wineexp.workflows import console, model_package, record
from wineexp.workflows.experiment import Experiment, assemble
from wineexp.workflows.gate import Check, Evidence, Gate

log = logging.getLogger(__name__)

CALIBRATION = "expected_calibration_error"


@dataclass(frozen=True)
class Candidate:
    """What a run found, trained on the gate's folds and on all rows.

    Attributes
    ----------
    experiment : Experiment
    folds : list of Fold
    fitted : classifier
    costs : list of Check
        The rules on what it costs to serve.
    params : mapping of str to str
        As recorded: the choice of each group, and every leaf of the config.
    """

    experiment: Experiment
    folds: list[Fold]
    fitted: ClassifierMixin
    costs: list[Check]
    params: Mapping[str, str]


@dataclass(frozen=True)
class Promotion:
    """The attempt to move an alias to what a run found.

    Parameters
    ----------
    runs : Runs
    registry : Registry
    gate : Gate
    cfg : DictConfig
        A config in the frame of conf/promote.yaml.
    choices : mapping of str to str
        What was chosen of its groups.
    folder : Path
        Its files become artifacts.
    waived : list of str, optional
        Filled with what did not hold and was let through by name.
    """

    runs: Runs
    registry: Registry
    gate: Gate
    cfg: DictConfig
    choices: Mapping[str, str]
    folder: Path
    waived: list[str] = field(default_factory=list)

    def attempt(self, source: Record) -> Version:
        """Train the run's config on the gate's folds, judge it, and if every rule holds register it and move the alias.

        Raises
        ------
        UserError
            A rule does not hold. The refusal is written down; no version is made and no alias moved.
        """
        cfg = source.config()
        cfg.split, cfg.n_jobs = OmegaConf.to_container(self.cfg.split, resolve=True), self.cfg.n_jobs
        experiment = assemble(cfg)
        champion = self.registry.find(self.cfg.alias)
        self._demand(self._preconditions(source, experiment, champion), source.id)
        run = Run(
            self.cfg.tracking.uri,
            experiment=source.experiment,
            name=f"promote {source.name}",
            tags=record.lineage(cfg, experiment.task, self.folder) | {SOURCE: source.id},
            folder=self.folder,
        )
        model_id, tags = "", {}
        with run:
            candidate = self._trained(run, source, experiment)
            checks = self._judged(candidate, champion)
            if all(check.passed for check in checks):
                model_id, told = self._stored(run, candidate)
                tags = run.tags | {"seed": candidate.params["seed"], FORM: told} | self.registry.seal(model_id)
            else:
                run.log(metrics=record.figures(candidate.folds))
                run.describe(record.note(candidate.params, experiment.task, candidate.folds, {}, whole=False))
        while True:
            self._demand(checks, str(run.id))
            version = self._moved(str(run.id), model_id, tags, champion, checks)
            if version is not None:
                return version
            log.info("alias %s has moved meanwhile; judging against the version that it names now", self.cfg.alias)
            champion = self.registry.find(self.cfg.alias)
            checks = self._judged(candidate, champion)

    def _preconditions(self, source: Record, experiment: Experiment, champion: Version | None) -> list[Check]:
        """The rules that need no training: a clean tree, pinned data, the champion's question."""
        checks = []
        trees = (("the run's tree", source.tags, "commit and train anew"), ("this tree", provenance.code(), "commit"))
        for what, tags, mend in trees:
            told = (
                f"{what} {'had changes that were not committed' if 'git.commit' in tags else 'is of no known commit'}"
            )
            checks.append(self._waivable("dirty", tags.get("git.dirty") == "false", told, mend))
        recorded, pinned = source.tags.get("data.md5"), experiment.task.dataset.md5
        told = f"the run was made on data with md5 {recorded}, but {pinned} is pinned here"
        checks.append(self._waivable("data", recorded == pinned, told, "train anew"))
        if champion is not None:
            theirs = self._config_of(champion)
            other = [key for key in ("data", "target") if theirs[key] != experiment.cfg[key]]
            told = (
                f"version {champion.number}, which {self.cfg.alias} names, answers another question (other "
                f"{' and '.join(other)}); register this model under a name of its own with registry.name=..."
            )
            checks.append(Check("question", not other, told))
        return checks

    def _waivable(self, rule: str, holds: bool, told: str, mend: str) -> Check:
        """A rule that may be waived by name; that it was, goes into the audit."""
        if not holds and rule in self.cfg.allow:
            self.waived.append(f"{rule}: {told}; waived with allow=[{rule}]")
        return Check(rule, holds or rule in self.cfg.allow, f"{told}; {mend}, or waive it with allow=[{rule}]")

    def _config_of(self, champion: Version) -> DictConfig:
        try:
            return self.runs.one(str(champion.number)).config()
        except UserError as error:
            raise UserError(
                *error.faults,
                f"so version {champion.number}, which {self.cfg.alias} names, cannot be compared with; go back with "
                f"rollback=true, or delete the alias in MLflow, and promote anew",
            ) from error

    def _trained(self, run: Run, source: Record, experiment: Experiment) -> Candidate:
        """The candidate, measured and recorded."""
        choices = {key: source.params[key] for key in GROUPS} | {"split": self.choices["split"]}
        params = {key: str(value) for key, value in (choices | flatten_config(experiment.cfg)).items()}
        run.log(params=params)
        run.log_dataset(experiment.task, name=choices["data"])
        folds = self._followed(experiment, "candidate")
        fitted = experiment.fit()
        seconds = cross_validation.median_row_seconds(fitted, experiment.task.X)
        costs = self.gate.costs(row_milliseconds=1000 * seconds, size=persistence.size(fitted))
        return Candidate(experiment, folds, fitted, costs, params)

    def _judged(self, candidate: Candidate, champion: Version | None) -> list[Check]:
        """All rules on the candidate, those on how good it is against this champion."""
        asked = candidate.experiment.task
        return candidate.costs + self.gate.scores(
            _evidence("the candidate", candidate.folds),
            self._evidence_of(champion, candidate.experiment) if champion else None,
            metric=asked.target.metric,
            test_to_train=asked.test_to_train,
        )

    def _evidence_of(self, champion: Version, experiment: Experiment) -> Evidence:
        """The champion on the candidate's own folds: as recorded, or measured again where its own were others."""
        name = f"version {champion.number}"
        theirs, facts = self.runs.one(str(champion.number)), experiment.task.tags()
        recorded = theirs.predictions()
        if recorded is not None and all(theirs.tags.get(key) == facts[key] for key in ("data.md5", "split.sha256")):
            scores = {metric: theirs.fold_scores(metric) for metric in experiment.task.metrics}
            return Evidence(name, scores, METRICS[CALIBRATION].score(task.out_of_fold_predictions(recorded)))
        cfg = self._config_of(champion)
        cfg.split, cfg.holdout, cfg.n_jobs = experiment.cfg.split, experiment.cfg.holdout, experiment.cfg.n_jobs
        return _evidence(name, self._followed(assemble(cfg), name))

    def _followed(self, experiment: Experiment, title: str) -> list[Fold]:
        """The folds of an experiment, shown as they are ready."""
        total, metric = len(experiment.task.folds), experiment.task.target.metric
        folds = experiment.cross_validate()
        return list(console.follow(folds, total=total, metric=metric, title=title, every=max(1, total // 5)))

    def _stored(self, run: Run, candidate: Candidate) -> tuple[str, str]:
        """Complete the run's record with the holdout, which no rule has seen, and the model.

        Returns
        -------
        model_id : str
        told : str
            Whether it was compiled for serving, or why not.
        """
        experiment, fitted, folds = candidate.experiment, candidate.fitted, candidate.folds
        holdout = experiment.task.predict_holdout(fitted)
        drops = record.importance(experiment, fitted, holdout)
        files: dict[str, str | bytes] = model_package.files(
            experiment.task,
            folds,
            fitted,
            holdout,
            self._baseline(experiment),
            drops,
            params=candidate.params,
            tags=run.tags,
        )
        files[record.CONFIG] = (run.folder / record.CONFIG).read_text(encoding="utf-8")
        content, told = compiled(fitted, experiment.task.X)
        log.info("for serving: %s", told if content else f"the plain pipeline, not compiled, since {told}")
        if content is not None:
            files[form.NAME] = content
        scores = experiment.task.score_holdout(holdout)
        run.describe(record.note(candidate.params, experiment.task, folds, scores, whole=True))
        return str(record.complete(run, experiment, folds, fitted, holdout, drops, files)), told

    def _baseline(self, experiment: Experiment) -> Baseline:
        """The figures that the card sets beside the candidate's, on the same folds and the same holdout."""
        cfg = experiment.cfg.copy()
        cfg.model = OmegaConf.to_container(self.cfg.baseline, resolve=True)
        other, name = assemble(cfg), self.choices["model@baseline"]
        folds = self._followed(other, f"baseline {name}")
        scores = {metric: [fold.scores[metric] for fold in folds] for metric in folds[0].scores}
        return Baseline(name, scores, other.task.score_holdout(other.task.predict_holdout(other.fit())))

    def _moved(
        self,
        run_id: str,
        model_id: str,
        tags: Mapping[str, str],
        champion: Version | None,
        checks: list[Check],
    ) -> Version | None:
        """Register and move the alias, alone; None where it no longer names the version that was judged against."""
        audit = Audit(self.registry)
        with self.registry.alone():
            audit.settle()
            aliases = self.registry.aliases()
            if aliases.get(self.cfg.alias) != (champion and champion.number):
                return None
            version = self.registry.register(run_id, model_id, tags)
            why = [*self._reason, *self.waived, *map(str, checks)]
            audit.append("promoted", self.cfg.alias, moves(self.cfg.alias, aliases, version.number), why, run_id)
            audit.settle()
            log.info("%s names version %d of %s now.", self.cfg.alias, version.number, self.registry.name)
        return version

    @property
    def _reason(self) -> list[str]:
        return [self.cfg.reason] if self.cfg.reason else []

    def _demand(self, checks: list[Check], run_id: str) -> None:
        """Raise, and write down, the refusal of whatever rule does not hold."""
        failed = [str(check) for check in checks if not check.passed]
        if failed:
            audit = Audit(self.registry)
            with self.registry.alone():
                audit.settle()
                audit.append("refused", self.cfg.alias, {}, [*self._reason, *failed], run_id)
                audit.settle()
            raise UserError(*(f"refused by {told}" for told in failed))


def best(runs: Runs, experiment: str) -> Record:
    """The best run of an experiment, of those with the same data, target and folds that are most numerous.

    Earlier promotions are no candidates: they were scored on the gate's folds.

    Raises
    ------
    UserError
        It has none.
    """
    candidates = [run for run in runs.many(experiment) if SOURCE not in run.tags]
    # Of a single row no interval is computed, whatever alpha.
    rankings, _ = rank(candidates, alpha=0.05, limit=1)
    found = [ranking for ranking in rankings if not pruned(ranking.first)]
    if not found:
        raise UserError(
            f"best_of={experiment}: it has no finished run with a score on all folds; name one with run=..."
        )
    others = sum(len(ranking.records) for ranking in rankings) - len(found[0].records)
    elsewhere = f"; {others} on other folds or data are not compared" if others else ""
    log.info("the best of %d runs on the same folds%s", len(found[0].records), elsewhere)
    return found[0].first


def roll_back(registry: Registry, alias: str, reason: str | None = None) -> Version:
    """Make an alias name again what it named before; the two versions change places.

    Parameters
    ----------
    registry : Registry
    alias : str
    reason : str, optional
        In words, for the audit.

    Raises
    ------
    UserError
        It named nothing before, or that version is not whole any more.
    """
    version = registry.find(before(alias))
    if version is None:
        raise UserError(
            f"alias={alias}: {registry.name} has no alias {before(alias)}, so there is nothing to go back to; "
            f"aliases: {', '.join(registry.aliases()) or '(none)'}"
        )
    registry.load(version)
    audit = Audit(registry)
    with registry.alone():
        audit.settle()
        aliases = registry.aliases()
        if aliases.get(before(alias)) != version.number:
            raise UserError(f"alias {before(alias)} has moved meanwhile; look at history=true and say it again")
        why = [reason] if reason else []
        audit.append("rolled back", alias, moves(alias, aliases, version.number), why, version.run_id)
        audit.settle()
    return version


def before(alias: str) -> str:
    """The alias that names what another one named before."""
    return "previous" if alias == "champion" else f"previous-{alias}"


def moves(alias: str, aliases: Mapping[str, int], to: int) -> dict[str, list[int | None]]:
    """From and to of each alias that moves when `alias` is to name version `to`."""
    held = aliases.get(alias)
    told: dict[str, list[int | None]] = {alias: [held, to]}
    if held is not None:
        told[before(alias)] = [aliases.get(before(alias)), held]
    return told


def _evidence(name: str, folds: list[Fold]) -> Evidence:
    scores = {metric: np.array([fold.scores[metric] for fold in folds]) for metric in folds[0].scores}
    return Evidence(name, scores, METRICS[CALIBRATION].score(cross_validation.pool_predictions(folds)))
